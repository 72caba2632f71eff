"""Laws of JSON values: one spelling each, and nothing that is not JSON gets through."""

import enum
import json
import math
import pickle
import struct
from collections import OrderedDict, defaultdict

import pytest
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.plans.values import (
    DEPTH_MAX,
    INTEGER_MAX,
    INTEGER_MIN,
    LARGE_BYTES,
    PIECE_LENGTH,
    NotJson,
    canonical,
    digest,
    digest_of_text,
    is_spelled,
    normal,
    parse,
    parse_canonical,
    shared_copy,
    spelled_in_pieces,
)
from hypothesis import given
from hypothesis import strategies as st
from seeds import examples

floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers(INTEGER_MIN, INTEGER_MAX) | floats | st.text()
values = st.recursive(scalars, lambda part: st.lists(part) | st.dictionaries(st.text(), part), max_leaves=20)


def naive(value) -> str:  # noqa: PLR0911  # one case, one line
    """Spell a value by the definition in the module's docstring, character by character."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return repr(value + 0.0)
        case str():
            return '"' + "".join(naive_character(c) for c in value) + '"'
        case list():
            return "[" + ",".join(map(naive, value)) + "]"
        case dict():
            return "{" + ",".join(f"{naive(k)}:{naive(value[k])}" for k in sorted(value)) + "}"
    raise AssertionError(value)


def naive_character(char: str) -> str:
    short = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
    if char in short:
        return short[char]
    return f"\\u{ord(char):04x}" if ord(char) < 0x20 else char


def same(a, b) -> bool:
    """Equal with kinds kept apart: 1 is not 1.0, nor True."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a == b


@given(values)
def test_canonical_is_the_naive_spelling(value):
    """The fast paths give, byte for byte, what the definition gives."""
    assert canonical(value) == naive(value).encode()


@given(floats)
def test_floats_are_spelt_as_python_spells_them(number):
    """A float is its shortest repr, never an integer, never minus zero."""
    text = canonical(number).decode()
    assert text == repr(number + 0.0)
    assert "." in text or "e" in text


@given(st.integers(0, 2**64 - 1))
def test_every_bit_pattern_of_a_float_is_spelt_or_refused(bits):
    """Subnormals and the largest floats included."""
    number = struct.unpack("<d", struct.pack("<Q", bits))[0]
    if math.isfinite(number):
        assert parse(canonical(number)) == number
    else:
        with pytest.raises(NotJson):
            canonical(number)


@given(values)
def test_parse_undoes_canonical(value):
    """What was spelt reads back the same, kinds kept, by both readers."""
    data = canonical(value)
    assert same(parse(data), parse_canonical(data))
    assert same(parse(data.decode()), normal(value))
    assert canonical(parse(data)) == data


@given(values)
def test_normal_is_a_fixed_point(value):
    """Canonicalising twice changes nothing, and the input stays as it was."""
    before = repr(value)
    assert same(normal(normal(value)), normal(value))
    assert repr(value) == before


@given(values)
def test_parse_reads_any_spacing_and_order(value):
    """Text written by another encoder means the same value."""
    assert canonical(parse(json.dumps(value, indent=3))) == canonical(value)


class Colour(enum.IntEnum):
    RED = 1


class Word(enum.StrEnum):
    HI = "hi"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, (2.0,)), b"[1,[2.0]]"),
        (Colour.RED, b"1"),
        ([Word.HI], b'["hi"]'),
        ({Word.HI: 1}, b'{"hi":1}'),
        (defaultdict(list, a=[1]), b'{"a":[1]}'),
        (OrderedDict(b=1, a=-0.0), b'{"a":0.0,"b":1}'),
        ([1e16, 1e-5, 1e22, 123456789012345680.0], b"[1e+16,1e-05,1e+22,1.2345678901234568e+17]"),
        ({"\U0001f600": 1, "\uffff": 2}, '{"\uffff":2,"\U0001f600":1}'.encode()),
        ("\x7f\u2028/", '"\x7f\u2028/"'.encode()),
        (INTEGER_MIN, b"-9223372036854775808"),
    ],
)
def test_relatives_of_json_types_count_as_them(value, expected):
    """Tuples, enums and mappings that extend JSON types are spelt as those."""
    assert canonical(value) == expected


CYCLE: list = []
CYCLE.append([CYCLE, CYCLE])
SHARED: list = []
for _ in range(60):
    SHARED = [SHARED, SHARED]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (math.nan, "$"),
        ({"a": [1, 2, math.inf]}, "$.a[2]"),
        ([INTEGER_MAX + 1], "$[0]"),
        (INTEGER_MIN - 1, "$"),
        ({"any key": "\ud800"}, '$["any key"]'),
        ({"\ud800": 1}, "$"),
        ({1: 2}, "$"),
        ({"s": {1, 2}}, "$.s"),
        ({"c": int}, "$.c"),
        ([b"bytes"], "$[0]"),
        ([object()], "$[0]"),
        ([1j], "$[0]"),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(value, path):
    """The path leads to the offending part."""
    with pytest.raises(NotJson) as caught:
        canonical(value)
    assert caught.value.path == path
    with pytest.raises(NotJson):
        normal(value)


def test_cycles_and_deep_values_are_refused():
    """A cycle ends at the depth limit, whatever its width."""
    deep: list = []
    for _ in range(DEPTH_MAX - 1):
        deep = [deep]
    assert canonical(deep) == b"[" * DEPTH_MAX + b"]" * DEPTH_MAX
    for value in (CYCLE, [deep]):
        with pytest.raises(NotJson, match="deeper"):
            canonical(value)


def test_values_that_unfold_without_end_are_refused(monkeypatch):
    """Sixty lists that hold each other twice are 2**60 values: refused after the limit, not after a year."""
    monkeypatch.setattr("firmplan.plans.values.NODES_MAX", 10_000)
    with pytest.raises(NotJson, match="more than"):
        canonical(SHARED)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nul",
        "NaN",
        "[Infinity]",
        "-Infinity",
        "1e400",
        "-1e400",
        "9223372036854775808",
        "1" * 5000,
        '{"a": 1, "a": 2}',
        '"\\ud800"',
        '["\\uDC00x"]',
        "[1,]",
        "01",
        "'a'",
        '"\n"',
        "[" * 300 + "]" * 300,
        "[" * 200_000,
        b"\xff",
        b'"\xed\xa0\x80"',
        "\ud800",
        '"\ud800"',
    ],
)
def test_strict_text_refuses(text):
    """Whatever other parsers let through silently."""
    with pytest.raises(NotJson):
        parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-0", 0),
        ("-0.0", 0.0),
        ("1E2", 100.0),
        (" [ 1 , 2.0 ] ", [1, 2.0]),
        ('"\\ud83d\\ude00"', "\U0001f600"),
    ],
)
def test_strict_text_accepts(text, value):
    """Kinds are kept; minus zero and escapes are normalised."""
    assert same(parse(text), value)
    assert repr(parse(text)) == repr(value)


def test_digest_names_bytes():
    """sha256 of nothing is known everywhere."""
    assert digest(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_not_json_survives_pickling():
    """Errors cross process borders with their fields."""
    error = NotJson("no", "$.a")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.path) == (str(error), error.path)


LARGE_TEXTS = st.sampled_from(["x" * LARGE_BYTES, 'ä\n"\\' * PIECE_LENGTH, "\U0001f600\x01" * PIECE_LENGTH])


@given(
    st.recursive(
        LARGE_TEXTS,
        lambda parts: st.lists(parts, max_size=2) | st.dictionaries(st.text(max_size=3), parts, max_size=2),
        max_leaves=3,
    )
)
@examples(10)
def test_a_large_value_is_spelled_in_pieces_and_copied_as_it_is_parsed(value):
    """What saves memory changes nothing: pieces are the canonical bytes, and a copy with shared texts is what they parse to, in the same order."""
    data = canonical(value)
    assert b"".join(spelled_in_pieces(value)) == data
    copy = shared_copy(value, data)
    if copy is not None:
        assert canonical(copy) == data
        assert list(copy) == list(parse_canonical(data))
        assert normal(value) == copy
    if isinstance(value, str):
        assert digest_of_text(value) == digest(data)
        assert is_spelled(value, data)
        assert not is_spelled(value, data[:-2] + b'y"')
        assert not is_spelled(value, data + b" ")


TEXTS = st.sampled_from(
    [
        b"NaN",
        b"1e400",
        b"18446744073709551616",
        b'{"a":1,"a":1}',
        b'"\\ud800"',
        b"-0.0",
        b"1.0",
        b"1E5",
        b"[1 ]",
        b"",
        b'"\xff"',
        b'{"b":1,"a":2}',
        b"[" * 201 + b"]" * 201,
        b"[" * 200 + b"]" * 200,
        b"1e16",
        b"1e+16",
        b'"\\u0041"',
        b"0.1e1",
        b"\xef\xbb\xbf1",
    ]
)


@given(
    values.map(canonical)
    | values.map(lambda value: json.dumps(value).encode())
    | TEXTS
    | st.lists(TEXTS, min_size=1).map(lambda parts: b"[" + b",".join(parts) + b"]")
    | st.binary(max_size=6)
)
def test_checked_bytes_are_those_that_canonical_makes(data):
    """They are strict JSON, and writing their value gives them again."""
    wanted: str | None = None
    try:
        wanted = (
            None if canonical(parse(data)) == data else "$: the bytes are JSON, but not in canonical form"
        )
    except NotJson as fault:
        wanted = str(fault)
    if wanted is None:
        assert CanonicalValue.checked(data).data == data
    else:
        with pytest.raises(NotJson) as found:
            CanonicalValue.checked(data)
        assert str(found.value) == wanted
