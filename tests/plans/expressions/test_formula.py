"""Templates: which strings hold expressions, what they become, how they are spelled, and what they mention."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.plans.expressions.formula import parse_formula
from firmplan.plans.expressions.template import read_expression
from firmplan.plans.reports.errors import SKIPPED, EvaluationError, RefersToSkipped
from firmplan.plans.values import LARGE_BYTES, NotJson, canonical, normal
from hypothesis import given
from hypothesis import strategies as st
from seeds import examples

SCOPE: dict[str, Any] = {
    "w": {"x": 4.0, "t": "hi", "n": None},
    "xs": [1, {"b": 2, "a": "é"}],
    "gone": SKIPPED,
}

VALUES: list[tuple[Any, Any]] = [
    ("plain", "plain"),
    ("", ""),
    (12, 12),
    (None, None),
    ([1, "a", {"k": "v"}], [1, "a", {"k": "v"}]),
    # exactly one hole keeps its type
    ("${w.x}", 4.0),
    ("${ xs }", [1, {"b": 2, "a": "é"}]),
    ("${\n w.x\r\n + 1 }", 5.0),
    # everything else is text
    (" ${w.x}", " 4.0"),
    ("${w.t}${w.x}", "hi4.0"),
    ("${w.t} ", "hi "),
    ("a ${xs} b ${w.n} ${True}", 'a [1,{"a":"é","b":2}] b null true'),
    # escapes and lone dollars
    ("$${w.x}", "${w.x}"),
    ("$$${w.x}", "$${w.x}"),
    ("$$", "$$"),
    ("$5 and $", "$5 and $"),
    ("a$${b}${w.t}", "a${b}hi"),
    ("{w.x} }", "{w.x} }"),
    # the first brace outside quotes and brackets ends it
    ("${'}'}", "}"),
    ('${"a}b" + "}"}', "a}b}"),
    ("${ {'a': {'b': 1}} }", {"a": {"b": 1}}),
    ("${{'a': 1}['a']}}", "1}"),
    (r"${'\'}'}", "'}"),
    ("${xs[0]}}", "1}"),
    ("${'${w.x}'}", "${w.x}"),
    ("${'a\nb'}", "a b"),
    # inside lists and objects, not in keys
    ({"${w.x}": ["${w.x}", {"k": "${w.t}!"}, 1]}, {"${w.x}": [4.0, {"k": "hi!"}, 1]}),
    # what flows is not read again
    ("${join(['$', '{w.x}'])}", "${w.x}"),
]


@pytest.mark.parametrize(("value", "expected"), VALUES)
def test_value(value: Any, expected: Any) -> None:
    """A template has this value, of exactly this kind."""
    formula, faults = parse_formula(value)
    assert faults == []
    assert repr(formula.evaluate(SCOPE)) == repr(expected)


SPELLINGS = [
    ("${1+2}", "${1 + 2}"),
    ("${ 'it''s' }", '${"its"}'),
    ("""${'say "hi"'}""", r'${"say \"hi\""}'),
    ("${(a)}", "${a}"),
    ("${((a+b))*c}", "${(a + b) * c}"),
    ("${a+(b*c)}", "${a + b * c}"),
    ("${a-(b-c)}", "${a - (b - c)}"),
    ("${(a-b)-c}", "${a - b - c}"),
    ("${(a**b)**c}", "${(a ** b) ** c}"),
    ("${a**(b**c)}", "${a ** b ** c}"),
    ("${a**(-b)}", "${a ** -b}"),
    ("${(-a)**b}", "${(-a) ** b}"),
    ("${-(a**b)}", "${-a ** b}"),
    ("${not(a)}", "${not a}"),
    ("${(not a)==b}", "${(not a) == b}"),
    ("${not(a==b)}", "${not a == b}"),
    ("${(a<b)<c}", "${(a < b) < c}"),
    ("${(a and b)and c}", "${(a and b) and c}"),
    ("${a and b and c}", "${a and b and c}"),
    ("${(a and b) or c}", "${a and b or c}"),
    ("${a and (b or c)}", "${a and (b or c)}"),
    ("${a if(b)else(c if d else e)}", "${a if b else c if d else e}"),
    ("${(a if b else c)if d else e}", "${(a if b else c) if d else e}"),
    ("${x['a'] . b [ 0 ]}", '${x["a"].b[0]}'),
    ("${x[1 : ]}", "${x[1:]}"),
    ("${x[::2]}", "${x[::2]}"),
    ("${x[: :]}", "${x[:]}"),
    ("${(-1)[0:0]}", "${(-1)[0:0]}"),
    ("${0x10+1_0+1e2+.5}", "${16 + 10 + 100.0 + 0.5}"),
    ("${- 9223372036854775808}", "${-9223372036854775808}"),
    ("${'\\x41\\u00e9\\t'}", '${"Aé\\t"}'),
    ("${[a,b,]}", "${[a, b]}"),
    ("${ {'a':1,'b':[]} }", '${{"a": 1, "b": []}}'),
    ("${[x for(a,b)in(c)if(d)]}".replace("x", "a"), "${[a for a, b in c if d]}"),
    ("${[a for a in (b if c else d)]}", "${[a for a in (b if c else d)]}"),
    ("${sum((a for a in b))}", "${sum(a for a in b)}"),
    ("${join((a for a in b),',')}", '${join((a for a in b), ",")}'),
    (
        "${sorted((a for a in b),reverse=c,key=lambda a:(-a))}",
        "${sorted((a for a in b), reverse=c, key=lambda a: -a)}",
    ),
    ("${sorted(b,key=lambda a:a,reverse=c)}", "${sorted(b, key=lambda a: a, reverse=c)}"),
    ("${'a'.join(b)}", '${"a".join(b)}'),
    ("${(a+b).lower()}", "${(a + b).lower()}"),
    ("${a   not   in b}", "${a not in b}"),
    ("${a is  not None}", "${a is not None}"),
    ("x$${y}  ${ a }", "x$${y}  ${a}"),
    ("${1 +} ${a  +b}", "${1 +} ${a + b}"),  # what is no expression stays as it is
]


@pytest.mark.parametrize(("value", "spelled"), SPELLINGS)
def test_canonical_spelling(value: str, spelled: str) -> None:
    """The canonical spelling changes spacing, quotes, redundant parentheses and literals only; it is its own spelling."""
    assert parse_formula(value)[0].canonical == spelled
    assert parse_formula(spelled)[0].canonical == spelled


def test_nothing_is_unified_in_spelling() -> None:
    """Different trees keep different spellings, also if they mean the same."""
    alike = ["${x.a}", '${x["a"]}', "${a + 0}", "${a}", "${2}", "${1 + 1}", "${2.0}", "${b + a}", "${a + b}"]
    assert len({parse_formula(text)[0].canonical for text in alike}) == len(alike)


MENTIONS = [
    ("${w.x + first(a, b.c)}", {"w"}, {"a", "b"}, {"w", "a", "b"}, set()),
    ("${first(a, 1) + a}", {"a"}, {"a"}, {"a"}, set()),
    ("${first(w[x], 1)}", set(), {"w", "x"}, {"w", "x"}, set()),
    (
        "${inputs.a + inputs['b'] + str(item) + str(index)}",
        set(),
        set(),
        {"inputs", "item", "index"},
        {"a", "b"},
    ),
    ("${keys(inputs) + [inputs.a]}", set(), set(), {"inputs"}, set()),
    ("${[x for x in w for y in x]}", {"w"}, set(), {"w"}, set()),
    ("${[w for w in w]}", {"w"}, set(), {"w"}, set()),
    ("${sorted(w, key=lambda x: x + y)}", {"w", "y"}, set(), {"w", "y"}, set()),
    ("${first(prev, 0)}", set(), set(), {"prev"}, set()),
    ({"a": ["${w}"], "b": "t ${v.x}"}, {"w", "v"}, set(), {"w", "v"}, set()),
    ("${1 + 2}", set(), set(), set(), set()),
]


@pytest.mark.parametrize(("value", "strict", "lenient", "names", "inputs"), MENTIONS)
def test_mentions(value: Any, strict: set[str], lenient: set[str], names: set[str], inputs: set[str]) -> None:
    """A formula knows which names it mentions, and which only inside `first`."""
    formula, _ = parse_formula(value)
    assert (formula.strict, formula.lenient, formula.names, formula.inputs) == (
        strict,
        lenient,
        names,
        inputs,
    )
    assert formula.constant is (not names)


def test_secret_is_the_whole_value() -> None:
    """A formula that is exactly a secret has its name; anywhere else a secret is `bad-expr`. Its value is never worked out."""
    formula, faults = parse_formula("${ secret('KEY') }")
    assert (formula.secret, formula.constant, faults) == ("KEY", False, [])
    assert formula.canonical == '${secret("KEY")}'
    with pytest.raises(EvaluationError):
        formula.evaluate({})
    for value in (
        "x${secret('KEY')}",
        "${secret('KEY') + ''}",
        {"a": "${secret('KEY')}"},
        "${len(secret('KEY'))}",
    ):
        formula, faults = parse_formula(value)
        assert formula.secret is None
        assert [fault.code for fault in faults] == ["bad-expr"]


SUSPICIOUS = [
    ("Now: {{w.text}}", "${w.text}"),
    ("{{ w }}", "${w}"),
    ("cost of $w.price", "${w.price}"),
    ("${a} and {{b.c[0]}}", "${b.c[0]}"),
]


@pytest.mark.parametrize(("value", "cure"), SUSPICIOUS)
def test_suspicious_text(value: str, cure: str) -> None:
    """Text that looks like another language's reference stays text, with a warning that says how it is written here."""
    formula, faults = parse_formula({"k": [value]})
    assert [(fault.code, fault.inner, fault.hint) for fault in faults] == [
        ("suspicious-text", ".k[0]", f"write: {cure}")
    ]
    if "${" not in value:
        assert formula.evaluate({}) == {"k": [value]}


@pytest.mark.parametrize("value", ["$5", "$HOME", "{ {a} }", "{}", "$${w.x}", "a $ b", "{{1 + 2}}", "US$"])
def test_innocent_text(value: str) -> None:
    """Prices, shell words and braces are left in peace."""
    assert parse_formula(value)[1] == []


def test_faults_are_placed() -> None:
    """Every fault of a value is told at once, at its string and its characters."""
    _, faults = parse_formula({"a b": ["x ${ 1 + } y ${ 2 / 0 }", "${}"], "c": "${é + 'x\n' + 1/0}"})
    text = "x ${ 1 + } y ${ 2 / 0 }"
    faults.sort(key=lambda fault: (fault.inner == ".c", fault.inner, fault.start))
    assert [(fault.code, fault.inner) for fault in faults] == [
        ("bad-expr", '["a b"][0]'),
        ("bad-expr", '["a b"][0]'),
        ("bad-expr", '["a b"][1]'),
        ("bad-expr", ".c"),
    ]
    assert text[faults[1].start : faults[1].end] == "2 / 0"
    assert "${é + 'x\n' + 1/0}"[faults[3].start : faults[3].end] == "1/0"


@pytest.mark.parametrize("text", ["w", "w.x", "w.x.y_1.Z", "inputs.a", "item", "__w", "w._x"])
def test_plain_paths_are_read_as_everything_else(text: str) -> None:
    """The quick way to read a plain path and the general way give the same."""
    quick = parse_formula(f"${{ {text} }}")[0].leaves[0].whole
    assert quick is not None
    assert quick.parsed == read_expression(text)
    assert quick.source == f"${{ {text} }}"
    assert quick.start == 3


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("w.", ["bad-expr"]),
        ("w..x", ["bad-expr"]),
        ("w.class", ["bad-expr"]),
        ("w.__x__", ["bad-expr"]),
        ("len", ["bad-expr"]),
        ("if", ["bad-expr"]),
        ("None.x", ["bad-expr"]),
        ("True", []),
        ("w" + ".x" * 99, []),
        ("w" + ".x" * 100, ["limit-exceeded"]),
        ("w" * 20_001, ["limit-exceeded"]),
    ],
)
def test_doubtful_paths_are_read_in_the_general_way(text: str, codes: list[str]) -> None:
    """What only looks like a path, and what passes a bound, is judged like everything else."""
    assert [fault.code for fault in parse_formula(f"${{{text}}}")[1]] == codes


def test_formulas_can_be_copied() -> None:
    """A copy, also through pickle, means the same, whether the formula was used or not."""
    formula, _ = parse_formula({"a": "${w.x + 1}"})
    assert formula.evaluate(SCOPE) == {"a": 5.0}
    for made in (copy.deepcopy(formula), pickle.loads(pickle.dumps(formula))):
        assert made.evaluate(SCOPE) == {"a": 5.0}
        assert made.strict == formula.strict


def test_reading_never_raises() -> None:
    """Values too deep, and values that are no templates, give faults or formulas."""
    deep: Any = "${x}"
    for _ in range(1_000):
        deep = [deep]
    assert [fault.code for fault in parse_formula(deep)[1]] == ["limit-exceeded"]
    for value in (True, 1.5, [], {}, [[]], "$", "${", "${}", "\ud800", "${'\ud800'}"):
        parse_formula(value)


def test_leaves_are_strings_with_expressions() -> None:
    """Leaves are listed in the order of the value, by path, with their expressions."""
    formula, _ = parse_formula({"a": "plain", "b": ["$${x}", "${y}"], "c": {"d": "${z} ${1}"}})
    assert [leaf.inner for leaf in formula.leaves] == [".b[1]", ".c.d"]
    assert [leaf.whole is not None for leaf in formula.leaves] == [True, False]
    assert [expression.source for expression in formula.leaves[1].expressions] == ["${z}", "${1}"]


def test_skips_and_faults_of_templates() -> None:
    """A template with a reference to a skipped step is skipped; text too long is a fault."""
    with pytest.raises(RefersToSkipped):
        parse_formula({"a": "${w.x}", "b": "t ${gone}"})[0].evaluate(SCOPE)
    with pytest.raises(EvaluationError) as caught:
        parse_formula("${t}${t}")[0].evaluate({"t": "a" * 9_000_000})
    assert caught.value.code == "limit-exceeded"
    shared = [[0] * 1_000] * 1_000
    with pytest.raises(EvaluationError) as caught:
        parse_formula([f"${{x}} {number}"[:4] for number in range(10)])[0].evaluate({"x": shared})
    assert caught.value.code == "limit-exceeded"


def test_evaluation_gives_fresh_containers() -> None:
    """The plan's own lists and objects are not handed out where they hold expressions."""
    value = {"a": ["${w.x}"]}
    made = parse_formula(value)[0].evaluate(SCOPE)
    assert made == {"a": [4.0]}
    assert value == {"a": ["${w.x}"]}
    assert type(made) is dict


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('ab{}[]"\\\né\u2028%', max_size=4),
    lambda parts: (
        st.lists(parts, max_size=3) | st.dictionaries(st.text("abé", max_size=2), parts, max_size=3)
    ),
    max_leaves=6,
)
STRINGS = [
    "${a}",
    "${b}",
    "${gone}",
    "${a.x}",
    "${b[0]}",
    "${a == b}",
    "-${a}${b}-",
    "$${a}",
    "plain",
    "100 %b",
    "${first(gone, a)}",
    "${nobody}",
]
TEMPLATES = st.recursive(
    st.sampled_from(STRINGS) | JSON,
    lambda parts: (
        st.lists(parts, max_size=3) | st.dictionaries(st.text('abé"', max_size=2), parts, max_size=3)
    ),
    max_leaves=6,
)


def _outcome(work: Any) -> Any:
    try:
        return work()
    except (EvaluationError, RefersToSkipped, NotJson) as fault:
        return type(fault), str(fault)


@given(TEMPLATES, JSON, JSON, st.sampled_from(["", "a", "ab"]))
def test_spelling_is_evaluating_and_then_spelling(template: Any, a: Any, b: Any, spelled_ones: str) -> None:
    """Whatever is put together from spelled parts: the same bytes, and the same fault."""
    formula, _ = parse_formula(template)
    a, b = normal(a), normal(b)
    spelled = {name: CanonicalValue(canonical({"a": a, "b": b}[name])) for name in spelled_ones}
    scope = {"a": a, "b": b, "gone": SKIPPED}
    expected = _outcome(lambda: canonical(formula.evaluate(scope)))
    assert _outcome(lambda: formula.serialize(scope, spelled)[0]) == expected
    assert _outcome(lambda: formula.serialize(scope, spelled)[0]) == expected, "the second time"


@pytest.mark.parametrize("size", [10, 198, 199, 200])
def test_spelled_parts_are_held_against_the_limits(size: int) -> None:
    """A value of the greatest depth does not fit into another one, however it is put there."""
    deep: Any = 1
    for _ in range(size):
        deep = [deep]
    formula, _ = parse_formula({"x": ["${a}"]})
    expected = _outcome(lambda: canonical(formula.evaluate({"a": deep})))
    assert (
        _outcome(lambda: formula.serialize({"a": deep}, {"a": CanonicalValue(canonical(deep))})[0])
        == expected
    )
    assert isinstance(expected, bytes) == (size <= 198)


TEXTS = st.sampled_from(
    ["x" * LARGE_BYTES, 'ä\n"' * LARGE_BYTES, "x" * (LARGE_BYTES - 3), ["x" * LARGE_BYTES], "x"]
)


@given(TEMPLATES, TEXTS, TEXTS)
@examples(20)
def test_large_texts_are_copied_as_they_are_spelled(template: Any, a: Any, b: Any) -> None:
    """The same bytes and the same fault, and the value that belongs to the bytes if a text is large."""
    formula, _ = parse_formula(template)
    spelled = {"a": CanonicalValue(canonical(a)), "b": CanonicalValue(canonical(b))}
    scope = {"a": a, "b": b, "gone": SKIPPED}
    expected = _outcome(lambda: canonical(formula.evaluate(scope)))
    assert _outcome(lambda: formula.serialize(scope, spelled)[0]) == expected
    if isinstance(expected, bytes):
        value = formula.serialize(scope, spelled)[1]
        assert value is None or canonical(value) == expected


@pytest.mark.parametrize("size", [197, 198, 199])
def test_the_depth_beside_a_large_text_is_held_against_the_limit(size: int) -> None:
    deep: Any = "${a}"
    for _ in range(size):
        deep = [deep]
    formula, _ = parse_formula([deep, "${b}"])
    text = "x" * (LARGE_BYTES + 1)
    scope: Any = {"a": [1], "b": text}
    spelled = {"a": CanonicalValue(b"[1]"), "b": CanonicalValue(canonical(text))}
    expected = _outcome(lambda: canonical(formula.evaluate(scope)))
    assert _outcome(lambda: formula.serialize(scope, spelled)[0]) == expected
    assert isinstance(expected, bytes) == (size <= 198)


def test_large_values_are_counted_as_if_they_were_evaluated() -> None:
    """What unfolds to too much is refused, not put together."""
    wide = list(range(100_000))
    formula, _ = parse_formula([["${a}"] * 8] * 8)
    scope, spelled = {"a": wide}, {"a": CanonicalValue(canonical(wide))}
    with pytest.raises(EvaluationError, match="parts"):
        formula.serialize(scope, spelled)
