"""Laws of `PlanBuilder`: Python's operators write the expressions, and what is built is a checked plan."""

import copy
import datetime as dt
import enum
import inspect
import pickle

import pytest
from firmplan import ConfigError, Plan, PlanBuilder, PlanRejected, tool
from firmplan.plans.builder.reference import Reference, expression_of, in_plan
from firmplan.plans.checker.names import derived_id
from firmplan.plans.expressions.formula import parse_formula
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel


class Weather(BaseModel):
    celsius: float
    text: str


class Note(BaseModel):
    text: str
    places: list[str]


@tool(effect="read")
def weather(city: str, unit: str = "C") -> Weather:
    """Tell the weather."""
    raise NotImplementedError


@tool(effect="read")
def geocode(name: str) -> list[float]:
    """Find a place."""
    raise NotImplementedError


@tool(effect="write")
def send_mail(to: str, body: str) -> str:
    """Send a mail."""
    raise NotImplementedError


@tool(effect="read", name="Users.getUser")
def get_user(id: str, when: str) -> str:  # noqa: A002  # such tools there are
    """Find a user."""
    raise NotImplementedError


TOOLS = [weather, geocode, send_mail, get_user]


def steps(p: PlanBuilder) -> list:
    return p.to_dict()["steps"]


def test_the_contract_s_example():
    """The example of the contract builds, and its plan is what it says."""
    p = PlanBuilder("Compare two cities")
    a = p.input("a", str)
    wa = p.call(weather, city=a)
    p.output(wa.celsius)
    plan = p.build(TOOLS)
    assert isinstance(plan, Plan)
    assert plan.to_dict() == {
        "firmplan": 1,
        "task": "Compare two cities",
        "inputs": {"a": {"type": "string"}},
        "steps": [{"id": "weather", "tool": "weather", "args": {"city": "${inputs.a}"}}],
        "output": "${weather.celsius}",
    }


def test_a_whole_plan_builds_and_its_tools_are_enough_for_the_check():
    """Without a toolset, a plan is checked against the tools that it calls."""
    p = PlanBuilder("Compare")
    a, b = p.input("a", str), p.input("b", str, default="Oslo")
    wa, wb = p.call(weather, city=a), p.call(weather, b)
    warmer = p.set(p.either(wa.celsius >= wb.celsius, a, b), id="warmer")
    note = p.ask(f"One sentence about {warmer}.", returns=p.type("Note", Note), id="note")
    spots = p.each(note.places, lambda place: p.call(geocode, name=place))
    p.call(send_mail, to="me@example.org", body=f"Hi! {note.text}", when=warmer == a, after=spots)
    p.output({"note": note.text, "spots": spots})
    plan = p.build()
    assert [step.id for step in plan.steps] == [
        "weather",
        "weather_2",
        "warmer",
        "note",
        "geocode",
        "send_mail",
    ]
    assert (
        plan.to_dict()["steps"][2]["set"]
        == "${inputs.a if weather.celsius >= weather_2.celsius else inputs.b}"
    )
    assert plan.to_dict()["steps"][5]["args"]["body"] == "Hi! ${note.text}"
    assert plan.to_dict()["steps"][5]["when"] == "${warmer == inputs.a}"
    assert plan.to_dict()["steps"][5]["after"] == ["geocode"]


def test_build_rejects_with_every_fault():
    """A faulty plan is `PlanRejected` with the whole report."""
    p = PlanBuilder()
    w = p.call(weather, town="Rome")
    p.output(w.celcius)
    with pytest.raises(PlanRejected) as caught:
        p.build(TOOLS)
    assert {"missing-arg", "unknown-arg", "unknown-field"} <= {
        problem.code for problem in caught.value.report.errors
    }


x, y, z = Reference("x"), Reference("y"), Reference("z")


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (x.a.b["any key"][0][-1], 'x.a.b["any key"][0][-1]'),
        (x[1:3], "x[1:3]"),
        (x[: y.n], "x[:y.n]"),
        (x[::-1], "x[::-1]"),
        (x[y], "x[y]"),
        (getattr(x, "from"), 'x["from"]'),
        (x + y * z, "x + y * z"),
        ((x + y) * z, "(x + y) * z"),
        (x - (y - z), "x - (y - z)"),
        (x - y - z, "x - y - z"),
        (x / (y / z), "x / (y / z)"),
        (-(x**2), "-x ** 2"),
        ((-x) ** 2, "(-x) ** 2"),
        (x**-y, "x ** -y"),
        ((x**y) ** z, "(x ** y) ** z"),
        (2**x, "2 ** x"),
        (x ** (-2), "x ** -2"),
        (-2 - x, "-2 - x"),
        (10 // x % 3, "10 // x % 3"),
        ("Hi " + x, '"Hi " + x'),
        (x + [1, y, {"k": z, "n": None}], 'x + [1, y, {"k": z, "n": None}]'),  # noqa: RUF005  # not a list
        ((x < y) & (y < z), "x < y and y < z"),
        ((x < y) == (y < z), "(x < y) == (y < z)"),
        (~(x & y) | z, "not (x and y) or z"),
        (x | y & z, "x or y and z"),
        ((x | y) & z, "(x or y) and z"),
        (~x == y, "(not x) == y"),
        (x == None, "x == None"),  # noqa: E711  # what is written
        (x != True, "x != True"),  # noqa: E712  # what is written
        (abs(x - 1), "abs(x - 1)"),
        (round(x), "round(x)"),
        (round(x, 2), "round(x, 2)"),
        (x.name.upper().split(",")[0], 'x.name.upper().split(",")[0]'),
        ((x + y).field, "(x + y).field"),
    ],
)
def test_operators_write_expressions_with_python_s_meaning(made, text):
    """What Python would compute from values is what the expression says: parentheses stand where they are needed."""
    assert expression_of(made) == text
    formula, faults = parse_formula(in_plan(made))
    assert not faults
    assert formula.strict


def test_functions_conditions_and_text_as_written():
    p = PlanBuilder()
    assert expression_of(p.fn.len(x.items)) == "len(x.items)"
    assert expression_of(p.fn.first(x.a, "none")) == 'first(x.a, "none")'
    assert expression_of(p.fn.secret("TOKEN")) == 'secret("TOKEN")'
    assert (
        expression_of(p.fn.date(x.day) + p.fn.timedelta(days=x.n + 1))
        == "date(x.day) + timedelta(days=x.n + 1)"
    )
    assert expression_of(p.fn.timedelta("P1D")) == 'timedelta("P1D")'
    assert expression_of(p.either(x > 1, x, p.either(y, 1, 2)) + 1) == "(x if x > 1 else 1 if y else 2) + 1"
    assert expression_of(p.expr(f"[i.name for i in {x.people} if {y + 1} in i.tags]")) == (
        "[i.name for i in x.people if (y + 1) in i.tags]"
    )
    assert expression_of(p.expr("x if y else z") + 1) == "(x if y else z) + 1"
    with pytest.raises(AttributeError, match="did you mean 'sorted'"):
        p.fn.sortd(x)


@pytest.mark.parametrize(
    ("use", "hint"),
    [
        (lambda: 1 if x > 1 else 2, "when="),
        (lambda: x and y, "&"),
        (lambda: not x, "~"),
        (lambda: x < y < z, "branch"),
        (lambda: x in [1, 2], "branch"),
        (lambda: 1 in x, "in "),
        (lambda: len(x), "p.fn.len"),
        (lambda: list(x), "p.each"),
        (lambda: int(x), "p.fn.int"),
        (lambda: float(x), "p.fn.float"),
        (lambda: f"{x:.2f}", "p.fn.round"),
        (lambda: x(1), "called"),
        (lambda: x + object(), "expected JSON or a reference"),
    ],
)
def test_where_python_wants_a_value_the_error_says_what_to_write(use, hint):
    """A reference has no value: `if`, `and`, loops and conversions are type errors with a way out."""
    with pytest.raises(TypeError, match=hint):
        use()


def test_private_names_are_no_fields_so_that_python_s_protocols_work():
    assert not hasattr(x, "_hidden")
    assert expression_of(x["_hidden"]) == 'x["_hidden"]'
    assert expression_of(copy.deepcopy(x.a)) == "x.a"
    assert expression_of(pickle.loads(pickle.dumps(x.a))) == "x.a"


def test_references_stand_anywhere_in_values():
    """In dicts, lists, tuples and text, also through join and format; text without references stays as it is."""

    class Colour(enum.StrEnum):
        RED = "red"

    value = {
        "a": [x, (y.n + 1,)],
        "text": f"{x}, {y.n}!",
        "joined": "; ".join([str(x), "%s" % y, "{}".format(z)]),  # noqa: UP031, UP032  # every way to write text
        "whole": f"{x}",
        "colour": Colour.RED,
        "day": dt.date(2026, 1, 2),
        "model": Note(text="t", places=[]),
        "plain": "costs $5 {x} ${z}",
    }
    assert in_plan(value) == {
        "a": ["${x}", ["${y.n + 1}"]],
        "text": "${x}, ${y.n}!",
        "joined": "${x}; ${y}; ${z}",
        "whole": "${x}",
        "colour": "red",
        "day": "2026-01-02",
        "model": {"text": "t", "places": []},
        "plain": "costs $5 {x} ${z}",
    }


@given(st.text(alphabet="$ {}a", max_size=8), st.text(alphabet="$ {}a", max_size=4))
def test_text_around_a_reference_is_text(before, after):
    """Whatever stands before a reference in an f-string, dollars too, comes out as it was written."""
    p = PlanBuilder()
    made = in_plan(p.literal(before) + f"{x}" + p.literal(after))
    formula, faults = parse_formula(made)
    assert {fault.code for fault in faults} <= {"suspicious-text"}  # `{{a}}` is text, and warned of
    expected = before + "X" + after
    assert formula.evaluate({"x": "X"}) == expected


def test_text_of_an_f_string_as_an_operand_is_joined():
    assert expression_of(x == f"Hi {y}!") == 'x == ("Hi " + str(y) + "!")'


def test_ids_come_from_names_and_are_unique():
    p = PlanBuilder()
    for _ in range(3):
        p.call(weather, city="Rome")
    p.call(weather, city="Rome", id="rome")
    p.call("sum")
    p.call("Mail.sendNow")
    p.call("4sale")
    p.set(1)
    p.set(2)
    p.ask("Hi")
    assert [step["id"] for step in steps(p)] == [
        "weather", "weather_2", "weather_3", "rome", "sum_step", "mail_send_now", "step_4sale", "value", "value_2", "answer",
    ]  # fmt: skip


@given(st.text(max_size=100))
def test_every_name_gives_a_legal_id(name):
    p = PlanBuilder()
    p.set(1, id=derived_id(name))
    assert p.build([]).steps[0].id == derived_id(name)


def test_arguments_called_like_options_go_into_args():
    """`id` and `when` of a tool are given by `args=`; a reference where an id belongs is told apart."""
    p = PlanBuilder()
    user = p.call(get_user, args={"id": "7", "when": "now"}, id="user")
    assert steps(p)[0]["args"] == {"id": "7", "when": "now"}
    with pytest.raises(ConfigError, match=r"args=\{'id'"):
        p.call(get_user, id=user)


def test_positional_arguments_take_the_tool_s_order():
    p = PlanBuilder()
    p.call(weather, "Rome", "F")
    assert steps(p)[0]["args"] == {"city": "Rome", "unit": "F"}
    with pytest.raises(ConfigError, match="at most 2"):
        p.call(weather, 1, 2, 3)
    with pytest.raises(ConfigError, match="by name"):
        p.call("weather", "Rome")
    with pytest.raises(ConfigError, match="@tool"):
        p.call(len)


def test_every_key_of_a_step():
    p = PlanBuilder()
    first = p.call(weather, city="Rome", id="first_one")
    p.call(
        weather,
        city=p.item,
        id="w",
        for_each=["Rome", "Oslo"],
        when=p.index < 1,
        after=[first, "first_one"],
        on_error={"value": {"celsius": first.celsius}},
        repeat={"until": lambda made: made.celsius > p.fn.first(p.prev.celsius, 0), "max": 3},
        retries=2,
        timeout=1.5,
        why="to see",
    )
    assert steps(p)[1] == {
        "id": "w",
        "tool": "weather",
        "args": {"city": "${item}"},
        "for_each": ["Rome", "Oslo"],
        "when": "${index < 1}",
        "after": ["first_one", "first_one"],
        "on_error": {"value": {"celsius": "${first_one.celsius}"}},
        "repeat": {"until": "${w.celsius > first(prev.celsius, 0)}", "max": 3},
        "retries": 2,
        "timeout": 1.5,
        "why": "to see",
    }
    p.set(1, repeat=(lambda made: made > 0, 2), id="again")
    assert steps(p)[2]["repeat"] == {"until": "${again > 0}", "max": 2}
    with pytest.raises(ConfigError, match="expected a step"):
        p.set(1, after=first.celsius + 1)


def test_ask_and_agent_say_only_what_was_given():
    p = PlanBuilder()
    p.ask("Hi", temperature=0, examples=[{"a": 1}])
    p.agent(f"Find {x}", tools=[weather, "geocode"], returns=Note, max_steps=3, budget={"usd": 0.5})
    ask, agent = steps(p)
    assert ask == {"id": "answer", "ask": {"prompt": "Hi", "temperature": 0, "examples": [{"a": 1}]}}
    assert agent["agent"]["tools"] == ["weather", "geocode"]
    assert agent["agent"]["goal"] == "Find ${x}"
    assert agent["agent"]["returns"]["required"] == ["text", "places"]


def test_each_gives_a_list_of_steps_values_or_parts():
    p = PlanBuilder()
    cities = p.input("cities", list[str])
    whole = p.each(cities, lambda city: p.call(weather, city=city))
    part = p.each(cities, lambda city, index: p.call(weather, city=city, when=index > 0).celsius)
    computed = p.each(cities, lambda city: city.upper())
    assert [expression_of(each) for each in (whole, part, computed)] == [
        "weather", "[one.celsius for one in weather_2]", "value",
    ]  # fmt: skip
    assert steps(p)[1]["for_each"] == "${inputs.cities}"
    assert steps(p)[1]["when"] == "${index > 0}"
    assert steps(p)[2] == {"id": "value", "set": "${item.upper()}", "for_each": "${inputs.cities}"}
    p.output([whole, part, computed])
    p.build(TOOLS)


def test_each_refuses_what_one_step_cannot_do():
    p = PlanBuilder()
    with pytest.raises(ConfigError, match=r"p\.inner"):
        p.each(["a"], lambda c: p.call(geocode, name=p.call(weather, city=c).text))
    with pytest.raises(ConfigError, match="second each"):
        p.each(["a"], lambda c: p.call(weather, city=c).celsius + 1)


def test_inner_plans():
    """A plan inside a plan: begun with `inner`, run with `plan`, once or once an item; other builders and plans are taken in."""
    p = PlanBuilder("Outer")
    city = p.inner("city")
    name = city.input("name", str)
    w = city.call(weather, city=name)
    city.output({"name": name, "celsius": w.celsius})
    one = p.plan(city, name="Rome")
    many = p.each(["Rome", "Oslo"], lambda each: p.plan(city, name=each))
    other = PlanBuilder("Say hello")
    other.output(other.set("hello"))
    hello = p.plan(other)
    constant = PlanBuilder("Answer all")
    constant.output(constant.set(42))
    built = p.plan(constant.build([]), id="c")
    p.output([one.celsius, many, hello, built])
    plan = p.build(TOOLS)
    assert list(plan.plans) == ["answer_all", "city", "say_hello"]
    assert plan.to_dict()["steps"][0] == {"id": "city", "plan": "city", "args": {"name": "Rome"}}
    assert p.build(TOOLS) == plan


def test_literal_text_is_no_template():
    p = PlanBuilder()
    v = p.set(p.literal({"a": ["${x}", "$${y}", "$"]}))
    p.output(v)
    plan = p.build([])
    formula, _ = parse_formula(plan.to_dict()["steps"][0]["set"])
    assert formula.evaluate({}) == {"a": ["${x}", "$${y}", "$"]}


def test_types_that_json_cannot_carry_are_refused_where_they_stand():
    p = PlanBuilder()
    with pytest.raises(ConfigError, match="expected a type that JSON can carry"):
        p.input("f", type(lambda: 1))
    assert p.to_dict() == {"firmplan": 1, "steps": []}


def test_a_fault_names_the_line_of_python_that_built_it():
    """Also in an inner plan, in the body of `each`, in inputs and in the output; a fault of the whole plan has no line."""
    first = inspect.currentframe().f_lineno
    p = PlanBuilder("Faulty")
    p.input("class", str)
    p.call(weather, city=5)
    inner = p.inner("other")
    inner.call(weather, city=p.expr("nothing"))
    p.plan(inner)
    p.each([1], lambda n: p.call(geocode, name=n))
    p.output(p.expr("nobody"))
    with pytest.raises(PlanRejected) as caught:
        p.build()
    found = {each.path: each.source for each in caught.value.report.errors}
    assert {path: int(line.removeprefix(f"{__file__}:")) - first for path, line in found.items()} == {
        "$.inputs.class": 2,
        "$.steps[0].args.city": 3,
        "$.plans.other.steps[0].args.city": 5,
        "$.steps[2].args.name": 7,
        "$.output": 8,
    }
    assert f"at $.output (built at {__file__}:{first + 8})" in str(caught.value)
    assert caught.value.report.errors[0].to_dict()["source"] == found[caught.value.report.errors[0].path]
