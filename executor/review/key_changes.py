"""Which parts of two content keys differ, as data and as text: an argument, a helper function, a model, a word of the prompt.

Parts are compared in the form in which they are stored (`identity.py`, `tools/fingerprint/fingerprint.py`): arguments and messages by value and path, code by
the names that people know it by. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ...plans.edit.differences import Difference, differences, shown_pair
from ...plans.values import Json
from ..runs.run import report_json
from ..stores.store import CallRecord

ChangePart: TypeAlias = Literal[
    "argument", "code", "package", "schema", "version", "model", "prompt", "parameter", "guard", "sample"
]

_SCHEMAS: Final = {"parameters": "its parameters", "returns": "its output schema"}
_DECLARED: Final = {"version": "its version", "fingerprint_extra": "its fingerprint_extra"}
_PLAIN: Final[dict[str, tuple[ChangePart, str]]] = {
    "models": ("model", "the model"),
    "schema": ("schema", "the output schema"),
    "order": ("schema", "the order of the output's properties"),
    "guard": ("guard", "the guard"),
    "sample": ("sample", "the item or iteration"),
    "format": ("version", "the format of keys"),
}


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One part of a content key that differs.

    Attributes:
        name: What differs: a path such as `args.city`, or a name such as `function parse_price`, `package requests`.
        before: The value in the earlier call, where it is known.
        after: The value in this one.
        text: The change as the end of a sentence: `args.city was "Oslo", now "Rome"`.
    """

    part: ChangePart
    name: str
    text: str
    before: Json = None
    after: Json = None

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return report_json(self)


def key_changes(
    before: CallRecord, after: CallRecord, codes: Mapping[str, Mapping[str, str]]
) -> tuple[KeyChange, ...]:
    """Return the differing parts of the keys of two calls, arguments first, code last; empty: the keys are equal.

    Args:
        before: The earlier call.
        after: The later one.
        codes: Digest -> the parts of a fingerprint; one that is missing is told as a change of the code.
    """
    found: list[KeyChange] = list(_argument_changes(before.parts.get("args"), after.parts.get("args")))
    for name in dict.fromkeys((*before.parts, *after.parts)):
        if name != "args" and not (name == "sample" and _follows_from_temperature(before, after)):
            found += _part_changes(name, before.parts.get(name), after.parts.get(name))
    if before.code != after.code:
        found += _code_changes(codes.get(before.code), codes.get(after.code), after.subject)
    return tuple(found)


def _follows_from_temperature(before: CallRecord, after: CallRecord) -> bool:
    """Whether only one key has an item and iteration, because the other has temperature 0; then the temperature is the change to name."""
    samples = (before.parts.get("sample"), after.parts.get("sample"))
    return None in samples and before.parts.get("temperature") != after.parts.get("temperature")


def _argument_changes(before: Json, after: Json) -> Iterator[KeyChange]:
    for each in _shortened(differences(before, after)):
        name = f"args.{each.path}" if each.path and not each.path.startswith("[") else f"args{each.path}"
        yield KeyChange("argument", name, _change_text(name, each), each.before, each.after)


def _shortened(found: tuple[Difference, ...]) -> Iterator[Difference]:
    """Yield differences; all differences inside one shortened text become one difference of that text."""
    named: set[str] = set()
    for each in found:
        path, dot, last = each.path.rpartition(".")
        is_inside = last in ('["$text"]', "length", "start") or each.path.endswith('["$text"]')
        if not is_inside:
            yield each
        elif (text_path := path if dot else each.path.removesuffix('["$text"]')) not in named:
            named.add(text_path)
            yield Difference(text_path.removesuffix('["$text"]'), "changed", _LONG, _LONG)


_LONG: Final = "a long text"


def _change_text(name: str, each: Difference) -> str:
    before, after = shown_pair(each.before, each.after)
    match each.kind:
        case "added":
            return f"{name} is new, {after}"
        case "removed":
            return f"{name} is gone, it was {before}"
        case "changed" if each.before == each.after == _LONG:
            return f"{name} is another long text"
        case "changed":
            return f"{name} was {before}, now {after}"


def _code_changes(
    before: Mapping[str, str] | None, after: Mapping[str, str] | None, tool: str
) -> list[KeyChange]:
    if before is None or after is None:
        return [KeyChange("code", "code", f"the code of '{tool}' changed")]
    changed = [name for name in after if name in before and before[name] != after[name]]
    own = f"function {tool.rpartition('.')[2]}"
    changed.sort(key=lambda name: (name != own, name in _SCHEMAS, name))
    found = [_code_change(name, before[name], after[name], is_own=name == own) for name in changed]
    fresh = [name for name in after if name not in before]
    gone = [name for name in before if name not in after]
    found += [KeyChange("code", name, f"{_known_as(name)} is new in its code") for name in fresh]
    found += [KeyChange("code", name, f"{_known_as(name)} is no longer in its code") for name in gone]
    return found


def _code_change(name: str, before: str, after: str, *, is_own: bool) -> KeyChange:
    if name in _DECLARED:
        text = (
            f"{_DECLARED[name]} was {before!r}, now {after!r}"
            if name == "version"
            else f"{_DECLARED[name]} changed"
        )
        return KeyChange("version", name, text, before, after)
    if name in _SCHEMAS:
        return KeyChange("schema", name, f"{_SCHEMAS[name]} changed")
    if name.startswith("package "):
        text = f"the package {name.removeprefix('package ')} was {before}, now {after}"
        return KeyChange("package", name, text, before, after)
    return KeyChange("code", name, "its own code changed" if is_own else f"{_known_as(name)} changed")


def _known_as(name: str) -> str:
    kind, _, rest = name.partition(" ")
    kinds = {
        "function": "the function",
        "class": "the class",
        "constant": "the constant",
        "package": "the package",
    }
    kinds |= {"captured": "the captured value", "default": "the default of", "attribute": "the attribute"}
    return f"{kinds.get(kind, kind)} {rest}".strip() if rest else f"the {name}"


def _part_changes(name: str, before: Json, after: Json) -> Iterator[KeyChange]:
    found = differences(before, after)
    if not found:
        return
    if name == "messages":
        yield from (_message_change(each) for each in found)
        return
    part, known_as = _PLAIN.get(name, ("parameter", name))
    if name in ("schema", "order", "guard"):
        yield KeyChange(part, name, f"{known_as} changed", before, after)
        return
    old, new = (
        value[0] if isinstance(value, list) and len(value) == 1 else value for value in (before, after)
    )
    yield KeyChange(part, name, _change_text(known_as, Difference("", "changed", old, new)), before, after)


def _message_change(each: Difference) -> KeyChange:
    name = f"messages{each.path}"
    if each.path.endswith(".content"):
        return KeyChange("prompt", name, _change_text("the prompt", each), each.before, each.after)
    return KeyChange("prompt", name, "the prompt has other messages", each.before, each.after)
