r"""JSON values and their one canonical spelling.

Every value that flows through a plan is JSON: null, booleans, signed 64-bit integers, finite floats, text without
lone surrogates, lists, and objects with text keys. A value has exactly one canonical spelling, and two values are
the same to firmplan if and only if their canonical bytes are equal:

- object keys sorted by code point, no spaces, UTF-8; text escapes only what JSON must escape (`"`, `\`, and
  control characters below U+0020: the short forms where JSON has them, else `\u00xx` in lower case);
- integers as digits; floats as Python's shortest `repr`, so always with `.0` or an exponent; `-0.0` is `0.0`.

Integers and floats stay apart (`4` is not `4.0`). What is not JSON is refused with the place where it stands, never
repaired: NaN, infinities, integers past 64 bits, lone surrogates, keys that are not text, sets, classes, cycles.
Tuples count as lists, and subclasses (an `IntEnum`, a `defaultdict`) as the JSON type that they extend.

This module does not know plans, types or expressions.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from hashlib import sha256
from typing import Any, Final, NewType, TypeAlias, cast

import orjson

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Digest = NewType("Digest", str)

INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**63 - 1
DEPTH_MAX = 200  # nested lists and objects; both encoders and our own recursion stay far from their limits
NODES_MAX = 20_000_000  # values in one value: stops structures that share parts from unfolding without end

_TOO_DEEP = f"nested deeper than {DEPTH_MAX} levels"
_TOO_LARGE = f"more than {NODES_MAX} values in one value"
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
LARGE_BYTES: Final = 64 * 1024  # from here on a copy or a look too many is felt
EXACT_BYTES_MIN: Final = 16 * 1024 * 1024
"""From here on two copies of the bytes must not be in memory, not even for a moment."""
SHARED_BYTES_MIN: Final = 4096
"""For each part of a large value: then copying its parts one by one costs less than parsing."""
PIECE_LENGTH: Final = 256 * 1024  # characters
_SORTED_LINE: Final = orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


class NotJson(ValueError):  # noqa: N818  # reads as what it says
    """A value, or a text, is not JSON as firmplan wants it.

    Attributes:
        path: Where, as a JSON path such as `$.a[2]`.
    """

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(f"{path}: {message}")
        self.path = path

    @property
    def is_limit(self) -> bool:
        """Whether it is JSON, but too deep or too large."""
        return str(self).removeprefix(f"{self.path}: ").startswith((_TOO_DEEP, _TOO_LARGE))

    def __reduce__(self) -> tuple[type[NotJson], tuple[str, str]]:
        return type(self), (str(self).removeprefix(f"{self.path}: "), self.path)


def canonical(value: object) -> bytes:
    """Return the canonical bytes of a value. O(size of the spelling).

    Raises:
        NotJson: The value holds something that is not JSON, is too deep or too large.
    """
    # Two ways to one text: orjson is ten times as fast, but spells some floats and integers otherwise. `_count_easy` finds the values on which both agree.
    if _count_easy(value, DEPTH_MAX) >= 0:
        try:
            if type(value) is str and len(value) >= LARGE_BYTES:
                return orjson.dumps(value)
            # What orjson returns keeps a buffer of 4 KiB and more; a slice of it is as long as it has to be, and of a very large one too much.
            line = orjson.dumps(value, option=_SORTED_LINE)
            if len(line) < EXACT_BYTES_MIN:
                return line[:-1]
            del line
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        except (orjson.JSONEncodeError, RecursionError):
            pass  # a lone surrogate; the careful walk says where
    plain = _Rebuild().rebuild(value, "$", DEPTH_MAX)
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return text.encode()


def normal(value: object) -> Json:
    """Return a private copy of a value in canonical form: what every consumer sees.

    Raises:
        NotJson: As `canonical`.
    """
    data = canonical(value)
    copy = shared_copy(value, data)
    return parse_canonical(data) if copy is None else copy


def shared_copy(value: object, data: bytes) -> Json:
    """Return a copy of a large value that shares its (immutable) texts; `None`: the value is small, or has no large text.

    Args:
        value: What was spelled.
        data: Its canonical bytes; where it is exactly JSON, the copy is what these parse to.
    """
    # Parsing a value of 100 MiB that is mostly text would hold the text a second time; Python's texts are immutable, so the copy may share them.
    if len(data) < LARGE_BYTES:
        return None
    count = _count_easy(value, DEPTH_MAX)
    return copied(cast("Json", value)) if 0 < count <= len(data) // SHARED_BYTES_MIN else None


def copied(value: Json) -> Json:
    """Return a value with lists and objects of its own, keys in canonical order."""
    if type(value) is dict:
        return {name: copied(value[name]) for name in sorted(value)}
    if type(value) is list:
        return [copied(part) for part in value]
    return value


def with_texts(value: Json, change: Callable[[str], Json]) -> Json:
    """Return a value in which `change` has replaced every text; the keys of objects are no texts."""
    match value:
        case str():
            return change(value)
        case list():
            return [with_texts(part, change) for part in value]
        case dict():
            return {name: with_texts(part, change) for name, part in value.items()}
        case _:
            return value


def digest_of_text(text: str) -> Digest:
    """Return the digest of a text's canonical bytes, which are never all in memory."""
    if len(text) < LARGE_BYTES:
        return digest(canonical(text))
    return digest_of_pieces(spelled_in_pieces(text))


def spelled_in_pieces(value: Json) -> Iterator[bytes]:
    """Yield the canonical bytes of a value, piece by piece where it is a large text or has one as a part."""
    # Joined, the pieces are what `canonical` returns; a store that writes piece by piece never holds a large text and its bytes together.
    if isinstance(value, str) and len(value) >= LARGE_BYTES:
        yield b'"'
        yield from _pieces(value)
        yield b'"'
    elif isinstance(value, dict) and any(map(_is_large_text, value.values())):
        for place, name in enumerate(sorted(value)):
            yield b"%b%b:" % (b"," if place else b"{", canonical(name))
            yield from spelled_in_pieces(value[name])
        yield b"}"
    else:
        yield canonical(value)


def _is_large_text(value: Json) -> bool:
    return isinstance(value, str) and len(value) >= LARGE_BYTES


def is_spelled(text: str, data: bytes) -> bool:
    """Whether some bytes are the canonical bytes of a text, without making the canonical bytes."""
    # Piece by piece, so that no second copy of a large text is in memory.
    at = 1
    for piece in _pieces(text):
        if not data.startswith(piece, at):
            return False
        at += len(piece)
    return data[:1] == b'"' and data[at:] == b'"'


def _pieces(text: str) -> Iterator[bytes]:
    """Yield what stands between the quotes of a text's canonical bytes: each character is spelled by itself."""
    for start in range(0, len(text), PIECE_LENGTH):
        yield orjson.dumps(text[start : start + PIECE_LENGTH])[1:-1]


def normal_in_order(value: object) -> Json:
    """As `normal`, but with the keys of objects in the given order, for texts that people write, such as plans.

    Raises:
        NotJson: As `canonical`.
    """
    text = text_in_given_order(value)
    return _Rebuild().rebuild(value, "$", DEPTH_MAX) if text is None else cast("Json", orjson.loads(text))


def text_in_given_order(value: object) -> bytes | None:
    """Return the text of a value with the keys of objects in the given order; `None`: that takes a careful walk, or the value is not JSON.

    The text parses to what `normal_in_order` returns.
    """
    if _count_easy(value, DEPTH_MAX) >= 0:
        try:
            return orjson.dumps(value)
        except (orjson.JSONEncodeError, RecursionError):
            pass  # as in `canonical`
    return None


parse_canonical: Final[Callable[[bytes], Json]] = orjson.loads
"""Return the value of bytes that `canonical` made; nothing is checked again."""


def parse(data: bytes | str) -> Json:
    """Return the value of any JSON text, strictly: integers and floats keep their kind.

    Raises:
        NotJson: The text is not JSON, repeats a key, or holds what is not (`NaN`, `1e400`, 2**64, a lone surrogate).
    """
    # Python's parser and not orjson: that one takes the last of two equal keys, and turns integers past 64 bits into floats, without a word.
    try:
        text = data if isinstance(data, str) else data.decode()
        surrogates = _has_surrogates(text)
        # The parser comes to each number anyhow, and notes on the way whether the careful walk is needed.
        numbers = _Numbers()
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=numbers.integer,
            parse_float=numbers.decimal,
        )
    except UnicodeDecodeError as error:
        raise NotJson(f"the text is not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        fault = error.msg.removesuffix(" at")  # Python's words for unended text
        raise NotJson(f"not JSON: {fault} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise NotJson(_TOO_DEEP) from None
    except NotJson:
        raise
    except ValueError:  # Python refuses to convert integers of thousands of digits
        raise NotJson(_PAST_64_BITS) from None
    # An escaped lone surrogate is valid JSON text, but has no UTF-8; the careful walk finds its place.
    # What the parser has made has JSON's types only, so numbers and depth are all that could need that walk: in most texts of requests the brackets
    # cannot even make the depth.
    is_shallow = len(text) <= NODES_MAX and text.count("[") + text.count("{") <= DEPTH_MAX
    if not surrogates and (numbers.are_easy if is_shallow else _count_easy(value, DEPTH_MAX) >= 0):
        return cast("Json", value)
    return _Rebuild().rebuild(value, "$", DEPTH_MAX)


class _Numbers:
    """Reads the numbers of one text, and notes whether all are easy (`_count_easy`)."""

    __slots__ = ("are_easy",)

    def __init__(self) -> None:
        self.are_easy = True

    def integer(self, text: str) -> int:
        value = int(text)
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            self.are_easy = False
        return value

    def decimal(self, text: str) -> float:
        value = float(text)
        if not _is_easy(value):
            self.are_easy = False
        return value


def digest(data: bytes) -> Digest:
    """Return the name of some bytes: `sha256:` and 64 hexadecimal digits."""
    return "sha256:" + sha256(data).hexdigest()  # type: ignore[return-value]  # a `NewType` is a call, and a step makes three of these


def digest_of_pieces(pieces: Iterable[bytes]) -> Digest:
    """Return the digest of bytes that come in pieces."""
    hashed = sha256()
    for piece in pieces:
        hashed.update(piece)
    return cast("Digest", f"sha256:{hashed.hexdigest()}")


def into(path: str, part: str | int) -> str:
    """Return the JSON path of a part of the value at `path`: `$.a`, `$[2]`, `$["any key"]`."""
    if isinstance(part, int):
        return f"{path}[{part}]"
    if _IDENTIFIER.fullmatch(part):
        return f"{path}.{part}"
    return f"{path}[{json.dumps(part, ensure_ascii=False)}]"


def _has_surrogates(text: str) -> bool:
    """Whether the text may hold lone surrogates, as characters or as escapes."""
    # A pair of escapes is a character like any other; telling pairs from single ones is left to the careful walk.
    if _SURROGATE_ESCAPE.search(text):
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


_PAST_64_BITS = "an integer past 64 bits; write it as text, or as a number with an exponent"


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    # JSON allows it, and parsers differ in which of the two counts.
    if len(made) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise NotJson(f"the key {twice!r} stands twice in one object")
    return made


def _refuse_constant(name: str) -> object:
    raise NotJson(f"{name} is not JSON")


def _count_easy(value: object, room: int) -> int:  # noqa: C901, PLR0911, PLR0912  # one flat walk, the hottest of the package
    """Return how many values are in `value`, or -1 if a careful walk is needed.

    Easy is what orjson spells as we do: exact JSON types, integers in range, floats that are +0.0 or whose
    magnitude is in [1e-3, 1e15) (outside, its exponents look different from Python's).
    """
    # No `cast`: it is a call, and this walk comes to every part of every value.
    given: Any = value
    kind: type[object] = type(value)
    parts: Collection[object]
    if kind is dict:
        for key in given:
            if type(key) is not str:
                return -1
        parts = given.values()
    elif kind is list:
        parts = given
    elif kind is int:
        return 1 if INTEGER_MIN <= given <= INTEGER_MAX else -1
    elif kind is float:
        return 1 if 1e-3 <= given < 1e15 or _is_easy(given) else -1
    else:
        return 1 if kind is str or kind is bool or value is None else -1
    if room <= 0:
        return -1
    # Scalars are looked at in the loop instead of by a call: they are most parts of most values.
    total = 1 + len(parts)
    for part in parts:
        given, kind = part, type(part)
        if kind is str or kind is bool or part is None:
            continue
        if kind is int:
            if INTEGER_MIN <= given <= INTEGER_MAX:
                continue
            return -1
        if kind is float:
            if 1e-3 <= given < 1e15 or _is_easy(given):  # a call less for most numbers
                continue
            return -1
        if kind is not dict and kind is not list:
            return -1
        count = _count_easy(part, room - 1)
        if count < 0:
            return -1
        total += count - 1
        if total > NODES_MAX:
            return -1
    return total if total <= NODES_MAX else -1


def _is_easy(number: float) -> bool:
    return 1e-3 <= abs(number) < 1e15 or (number == 0.0 and math.copysign(1.0, number) > 0)


class _Rebuild:
    """One careful walk: rebuilds a value from exact JSON types, or says what is not JSON and where."""

    def __init__(self) -> None:
        self.nodes = 0

    def rebuild(self, value: object, path: str, room: int) -> Json:  # noqa: PLR0911  # one case, one line
        self.nodes += 1
        if self.nodes > NODES_MAX:
            raise NotJson(_TOO_LARGE, path)
        match value:
            case None:
                return None
            case bool():  # before `int`, which it is a subclass of
                return value
            case str():
                return _text(value, path)
            case int():
                return _integer(value, path)
            case float():
                return _float(value, path)
            case list() | tuple():
                return self._list(cast("list[object]", value), path, room)
            case dict():
                return self._dict(cast("dict[object, object]", value), path, room)
            case _:
                raise NotJson(f"{_called(value)} is not JSON", path)

    def _list(self, value: list[object] | tuple[object, ...], path: str, room: int) -> list[Json]:
        _check_room(path, room)
        return [self.rebuild(part, f"{path}[{index}]", room - 1) for index, part in enumerate(value)]

    def _dict(self, value: dict[object, object], path: str, room: int) -> dict[str, Json]:
        _check_room(path, room)
        made: dict[str, Json] = {}
        for key, part in value.items():
            if not isinstance(key, str):
                raise NotJson(f"a key must be text, found {_called(key)}", path)
            made[_text(key, path)] = self.rebuild(part, into(path, key), room - 1)
        return made


def _check_room(path: str, room: int) -> None:
    # A cycle is deeper than any bound, so the bound finds it.
    if room <= 0:
        shown = path if len(path) <= 60 else path[:57] + ".."
        raise NotJson(f"{_TOO_DEEP}, or a cycle", shown)


def _text(value: str, path: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise NotJson(f"text with a lone surrogate at character {error.start}", path) from None
    # A subclass, such as a `StrEnum`, may have a `__str__` of its own.
    return value if type(value) is str else str.__str__(value)


def _integer(value: int, path: str) -> int:
    if not INTEGER_MIN <= value <= INTEGER_MAX:
        raise NotJson(_PAST_64_BITS, path)
    return int(value)


def _float(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise NotJson(f"{float(value)!r} is not JSON", path)
    return float(value) + 0.0  # -0.0 becomes 0.0


def _called(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
