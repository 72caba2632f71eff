"""Every bound of the plan language, from both sides: what is within it is read and checked, one more is refused and named.

What expressions cost is in `expressions/test_evaluate_limits.py`; that work grows like the plan, in `checker/test_hostile_plans.py`.
"""

from __future__ import annotations

import pytest
from firmplan.plans import Limits, check
from firmplan.plans.checker.arguments import MISSING_MAX
from firmplan.plans.expressions.formula import PATH_LENGTH_MAX, parse_formula
from firmplan.plans.expressions.lexical import BRACKETS_MAX, EXPRESSION_LENGTH_MAX
from firmplan.plans.expressions.syntax import EXPRESSION_DEPTH_MAX
from firmplan.plans.format.yaml_text import ALIASED_MAX
from firmplan.plans.reports import problems
from firmplan.plans.reports.nearest import NAME_SHOWN_MAX
from firmplan.plans.types import types as kinds
from firmplan.plans.types import validate as literal
from firmplan.plans.types.definitions import DEPTH_MAX as SCHEMA_DEPTH_MAX
from firmplan.plans.types.read import PARTS_MAX, read_schema
from firmplan.plans.values import DEPTH_MAX, NotJson, canonical, parse
from firmplan.testing import ScriptedTool

TEXT = {"type": "string"}


def plan(*steps, **keys):
    return {"firmplan": 1, "steps": [*steps], **keys}


def put(value, id_="s"):
    return {"id": id_, "set": value}


def codes(given, **options):
    """Return the codes of a plan's errors."""
    return [found.code for found in check(given, **options).errors]


def faults(text):
    """Return code and message of what is wrong with an expression."""
    return [(found.code, found.message) for found in parse_formula(f"${{{text}}}")[1]]


# --- what can be raised


@pytest.mark.parametrize("make", [str, str.encode], ids=["text", "bytes"])
def test_the_bytes_of_a_text(make):
    """Of text and of bytes, in UTF-8: a character counts as what it takes."""
    text = '{"firmplan": 1, "task": "ä", "steps": []}'
    size = len(text.encode())
    assert codes(make(text), limits=Limits(text_bytes_max=size)) == []
    (found,) = check(make(text), limits=Limits(text_bytes_max=size - 1)).errors
    assert found.code == "limit-exceeded"
    assert f"at most {size - 1} bytes of text, found {size}" in found.message


def test_the_work_of_a_check():
    """The constants of all expressions share it, wherever they stand: exactly it is enough, and one more ends the check there."""
    thousand = "${len('a' * 16000)}"  # 16 characters of a text are one operation
    given = plan(put(thousand, "a"), put({"in": [thousand]}, "b"), put("${nothing}", "c"))
    assert codes(given, limits=Limits(work_max=2000)) == ["unknown-ref"]
    report = check(given, limits=Limits(work_max=1999))
    assert [(found.code, found.path) for found in report.problems] == [
        ("limit-exceeded", "$.steps[1].set.in[0]")
    ]
    assert "more than 1999 operations" in report.problems[0].message
    assert report.inferred == {}


def test_the_steps_of_a_plan():
    """Those of inner plans count once where they stand, and again wherever they run."""
    two = plan(put(1, "a"), put(2, "b"))
    assert codes(two, limits=Limits(steps_max=2)) == []
    assert codes(two, limits=Limits(steps_max=1)) == ["limit-exceeded"]
    inner = {"p": {"steps": [put(1, "x"), put(2, "y")]}}
    runs = plan({"id": "a", "plan": "p"}, {"id": "b", "plan": "p"}, plans=inner)
    assert codes(runs, limits=Limits(steps_max=6)) == []
    (found,) = check(runs, limits=Limits(steps_max=5)).errors
    assert (found.code, found.path) == ("limit-exceeded", "$.steps")
    assert "has 6 steps: expected at most 5" in found.message


def test_plans_inside_one_another():
    """The plan itself is no nesting."""
    plans = {f"p{n}": {"steps": [{"id": "a", "plan": f"p{n + 1}"}]} for n in range(3)}
    plans["p3"] = {"steps": [put(1)]}
    given = plan({"id": "a", "plan": "p0"}, plans=plans)
    assert codes(given, limits=Limits(nesting_max=4)) == []
    (found,) = check(given, limits=Limits(nesting_max=3)).errors
    assert found.code == "limit-exceeded"
    assert "4 deep: expected at most 3" in found.message


def test_the_parts_of_named_types():
    """Counted for each schema that rests on them."""
    types = {"T": {"type": "object", "properties": {"a": TEXT, "b": TEXT}}}
    inputs = {f"i{n}": {"type": "array", "items": {"$ref": "#/types/T"}} for n in range(3)}
    least = next(
        most
        for most in range(1, 200)
        if "limit-exceeded"
        not in codes(plan(types=types, inputs=inputs), limits=Limits(named_parts_max=most))
    )
    assert least > 3 * 2
    twice = {**inputs, **{f"j{n}": {"type": "array", "items": {"$ref": "#/types/T"}} for n in range(3)}}
    assert "limit-exceeded" in codes(plan(types=types, inputs=twice), limits=Limits(named_parts_max=least))


def test_the_steps_of_an_unsafe_flow_that_are_told():
    """A longer flow is told by its end and by two dots, and stays one message."""
    read = ScriptedTool("read", ["x"], effect="read", trust="untrusted")
    send = ScriptedTool(
        "send", [1], effect="write", parameters={"type": "object", "properties": {"to": TEXT}}
    )
    steps = [{"id": "s0", "tool": "read"}]
    steps += [put(f"${{s{n - 1}}}", f"s{n}") for n in range(1, 9)]
    steps += [{"id": "end", "tool": "send", "args": {"to": "${s8}"}}]

    def told(most):
        report = check(plan(*steps), [read, send], limits=Limits(tainted_hops_max=most))
        (message,) = [found.message for found in report.problems if found.code == "unsafe-flow"]
        return message

    assert all(f"s{n}" in told(20) for n in range(9))
    assert ".." in told(3)
    assert [n for n in range(9) if f"s{n}" in told(3).replace("s0'", "")][-3:] == [6, 7, 8]
    assert "s4" not in told(3)


def test_the_nearest_names_of_a_report():
    """So many problems get one; the others are told without."""
    steps = [put(f"${{inputs.citx + {n}}}", f"s{n}") for n in range(9)]
    given = plan(*steps, inputs={"city": {"type": "integer"}})
    for most in (0, 4, 9):
        hints = [found.hint for found in check(given, limits=Limits(suggestions_max=most)).errors]
        assert sum("did you mean" in hint for hint in hints) == most
        assert len(hints) == 9


# --- what is part of the language


def test_the_length_of_an_expression():
    """In characters, as it is written."""
    name = "x" * 60
    exact = f"[{', '.join([name] * 320)}, '"
    exact += "y" * (EXPRESSION_LENGTH_MAX - len(exact) - 2) + "']"
    assert len(exact) == EXPRESSION_LENGTH_MAX
    assert faults(exact) == []
    ((code, message),) = faults(exact[:-2] + "yy']")
    assert code == "limit-exceeded"
    assert f"longer than {EXPRESSION_LENGTH_MAX} characters" in message
    tight = f"[{','.join(['x'] * 8_000)}]"  # its canonical spelling has spaces, and must be an expression too
    ((code, message),) = faults(tight)
    assert code == "limit-exceeded"
    assert "spaces around operators counted" in message


def test_brackets_inside_brackets():
    assert faults("(" * BRACKETS_MAX + "x" + ")" * BRACKETS_MAX) == []
    for opening, closing in ("()", "[]"):
        deep = BRACKETS_MAX + 1
        ((code, message),) = faults(opening * deep + "x" + closing * deep)
        assert code == "limit-exceeded"
        assert f"deeper than {BRACKETS_MAX} levels" in message


def test_operations_inside_operations():
    """By the tree, whatever the brackets: a chain of `+` is as deep as it is long."""
    assert faults("x" + " + x" * (EXPRESSION_DEPTH_MAX - 1)) == []
    ((code, message),) = faults("x" + " + x" * EXPRESSION_DEPTH_MAX)
    assert code == "limit-exceeded"
    assert f"deeper than {EXPRESSION_DEPTH_MAX} operations" in message
    assert faults("w" + ".x" * (EXPRESSION_DEPTH_MAX - 1)) == []
    assert [code for code, _ in faults("w" + ".x" * EXPRESSION_DEPTH_MAX)] == ["limit-exceeded"]
    assert faults("-" * (EXPRESSION_DEPTH_MAX - 1) + "x") == []
    assert [code for code, _ in faults("-" * EXPRESSION_DEPTH_MAX + "x")] == ["limit-exceeded"]


def test_the_keys_that_lead_to_a_place():
    """Of lists and objects inside a template, together."""
    half = PATH_LENGTH_MAX // 2
    assert parse_formula({"a" * half: {"b" * half: ["${x}"][0:0], "c": "${x}"}})[1] == []
    assert parse_formula({"a" * half: {"b" * half: {"c": "${x}"}}})[1] == []
    (found,) = parse_formula({"a" * half: {"b" * (half + 1): {"c": "${x}"}}})[1]
    assert found.code == "limit-exceeded"
    assert f"at most {PATH_LENGTH_MAX} characters" in found.message
    assert parse_formula([{"a" * half: {"b" * half: 1}}, {"a" * half: {"b" * half: {"c": "${x}"}}}])[1] != []


def nested(depth, value=1):
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("read", [canonical, lambda value: parse(str(value))], ids=["value", "text"])
def test_lists_inside_one_another(read):
    """Of any value, and of any text that holds one."""
    assert read(nested(DEPTH_MAX))
    with pytest.raises(NotJson, match=f"nested deeper than {DEPTH_MAX} levels"):
        read(nested(DEPTH_MAX + 1))
    with pytest.raises(NotJson, match=f"nested deeper than {DEPTH_MAX} levels"):
        canonical({"\ud800": nested(DEPTH_MAX)})


@pytest.mark.parametrize("first", [0, None], ids=["numbers", "and null"])
def test_the_values_in_one_value(monkeypatch, first):
    """The parts that are shared count as often as they stand in it; the bound itself is 20,000,000."""
    monkeypatch.setattr("firmplan.plans.values.NODES_MAX", 100)
    row = [0] * 9
    with pytest.raises(NotJson, match="lone surrogate"):
        canonical(["\ud800", *[0] * 98])
    if first == 0:
        assert canonical([0] * 99)
        assert canonical([row] * 9 + [0] * 9)
    for large in ([first] + [0] * 100, [first] + [row] * 10, {"a": [first] * 50, "b": {"c": [0] * 60}}):
        with pytest.raises(NotJson, match="more than 20000000 values in one value"):
            canonical(large)


def test_what_aliases_repeat():
    """Counted with every repetition."""
    row = "[" + ", ".join(["1"] * 999) + "]"
    text = f"firmplan: 1\nsteps: [{{id: a, set: &a {row}}}, {{id: b, set: [{', '.join(['*a'] * (ALIASED_MAX // 1000))}]}}]"
    assert codes(text) == []
    (found,) = check(text.replace("[*a,", "[*a, *a,", 1)).errors
    assert found.code == "limit-exceeded"
    assert f"more than {ALIASED_MAX} values" in found.message
    assert found.line == 2


def test_schemas_inside_one_another():
    """Of one definition; a name begins anew."""

    def deep(levels):
        schema = TEXT
        for _ in range(levels):
            schema = {"type": "array", "items": schema}
        return schema

    last = next(n for n in range(1, 200) if read_schema(deep(n))[1])
    assert SCHEMA_DEPTH_MAX - 2 <= last <= SCHEMA_DEPTH_MAX + 1
    (found,) = read_schema(deep(last))[1]
    assert found.code == "limit-exceeded"
    assert str(SCHEMA_DEPTH_MAX) in found.message
    named = {"T": deep(last - 2)}
    assert read_schema({"type": "array", "items": {"$ref": "#/types/T"}}, named)[1] == []


def test_the_schemas_of_one_all_of():
    assert read_schema({"allOf": [TEXT] * PARTS_MAX})[1] == []
    (found,) = read_schema({"allOf": [TEXT] * (PARTS_MAX + 1)})[1]
    assert found.code == "limit-exceeded"
    assert f"at most {PARTS_MAX} schemas in one 'allOf', found {PARTS_MAX + 1}" in found.message


def test_integers_and_names():
    """64 bits, and 64 characters."""
    assert codes(plan(put(2**63 - 1, "a" * 64), put(-(2**63), "b"))) == []
    assert codes(plan(put(2**63))) == ["bad-shape"]
    assert codes(plan(put(-(2**63) - 1))) == ["bad-shape"]
    assert codes(plan(put(f"${{{2**63}}}"))) == ["bad-expr"]
    assert codes(plan(put(1, "a" * 65))) == ["bad-id"]
    assert codes(plan(inputs={"a" * 65: TEXT})) == ["bad-id"]


# --- what is told in part


def test_the_problems_that_a_text_spells_out():
    """`problems` holds all."""
    report = check(plan(*[put("${nosuch}", f"s{n}") for n in range(problems.SHOWN_MAX + 7)]))
    assert len(report.errors) == problems.SHOWN_MAX + 7
    assert str(report).count("unknown-ref") == problems.SHOWN_MAX
    assert str(report).endswith(f"and {len(report.problems) - problems.SHOWN_MAX} more")
    few = check(plan(*[put("${nosuch}", f"s{n}") for n in range(20)]))
    assert "more" not in str(few).splitlines()[-1]


def test_the_characters_of_a_name_that_a_message_shows():
    for length, shown in (
        (NAME_SHOWN_MAX, "i" * NAME_SHOWN_MAX),
        (NAME_SHOWN_MAX + 1, "i" * NAME_SHOWN_MAX + ".."),
    ):
        inner = {"p": {"inputs": {"i" * length: {**TEXT, "default": ""}}, "steps": [put(1)]}}
        report = check(plan({"id": "a", "plan": "p", "args": {"z": 1}}, plans=inner))
        (found,) = [found for found in report.errors if found.code == "unknown-arg"]
        assert found.message.endswith(f"expected one of {shown}")


def test_the_missing_arguments_that_are_told_one_by_one():
    def missing(count):
        inner = {"p": {"inputs": {f"i{n}": TEXT for n in range(count)}, "steps": []}}
        return codes(plan({"id": "a", "plan": "p"}, plans=inner)).count("missing-arg")

    assert missing(MISSING_MAX) == MISSING_MAX
    assert missing(MISSING_MAX + 1) == 1


def test_the_faults_of_one_literal():
    assert len(literal.value_problems(["x"] * 99, {"type": "array", "items": {"type": "integer"}})) == 99
    assert len(literal.value_problems(["x"] * 300, {"type": "array", "items": {"type": "integer"}})) == 100
    assert literal.PROBLEMS_MAX == 100


def test_the_types_of_a_report(monkeypatch):
    """Past the bound the others are spelled as unknown."""
    monkeypatch.setattr(problems, "TYPE_PARTS_MAX", 10)
    types = check(plan(*[put([{"a": 1, "b": 2}], f"s{n}") for n in range(5)])).types
    known = [path for path, schema in types.items() if schema]
    assert 1 <= len(known) < 5
    assert len(types) == 5


def test_the_depth_and_the_size_of_a_type():
    """What is beyond is unknown."""
    made = kinds.TEXT
    for _ in range(kinds.DEPTH_MAX + 20):
        made = kinds.ListType(made)
        assert kinds.depth_of(made) <= kinds.DEPTH_MAX + 1
    for _ in range(60):
        made = kinds.ObjectType({"a": kinds.Property(made, required=True)})
        assert kinds.depth_of(made) <= kinds.DEPTH_MAX + 1
    wide = kinds.ObjectType(
        {f"f{n}": kinds.Property(kinds.ListType(kinds.TEXT), required=True) for n in range(kinds.SIZE_MAX)}
    )
    assert kinds.size_of(wide) <= kinds.SIZE_MAX + 1
    assert (kinds.DEPTH_MAX, kinds.SIZE_MAX) == (48, 10_000)
