"""Personal data is found in whatever form it is written, and ordinary numbers are none."""

from __future__ import annotations

import subprocess
import sys

import pytest
from firmplan import ConfigError, ToolError, agent, check, tool
from firmplan.plans.checker.ask import PERSONAL_DATA
from firmplan.tools.guards.guard import Question, find_refusal
from firmplan.tools.guards.personal_data import TEXT_MAX, find_personal_data


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("email", "write to ada@example.org."),
        ("email", "Ada.Lovelace+x@sub.example.co.uk"),
        ("email", "ada\uff20example.org"),
        ("email", "a\u200bda@exam\u00adple.org"),
        ("email", {"to": [{"ada@example.org": 1}]}),
        ("phone", "call +44 20 8366 1177"),
        ("phone", "+1 (650) 253-0000 ext. 3"),
        ("phone", "\uff0b44 20\u00a08366 1177"),
        ("iban", "to DE89 3704 0044 0532 0130 00 please"),
        ("iban", "de89370400440532013000"),
        ("iban", "GB29 NWBK 6016 1331 9268 19 at once"),
        ("credit_card", "4111 1111 1111 1111"),
        ("credit_card", "20 4111-1111-1111-1111 12/28"),
        ("credit_card", "4111\n1111\n1111\n1111"),
        ("credit_card", "\u0664\u0661\u0661\u0661 1111 1111 1111"),
        ("credit_card", {"card": 378282246310005}),
        ("national_id", "ssn 123-45-6789"),
        ("national_id", "DNI 12345678z"),
        ("national_id", "RSSMRA85T10A562S"),
        ("national_id", "2 55 08 14 168 025 38"),
    ],
)
def test_it_is_found_in_every_form(kind, value):
    """The sentence names the kind and the place, and holds none of the data; other kinds do not find it."""
    found = find_personal_data(value, [kind])
    assert found is not None
    assert not any(part in found for part in ("ada@", "4111", "8366", "DE89", "123-45", "12345678", "3782"))
    others = [each for each in PERSONAL_DATA if each != kind]
    assert find_personal_data(value, others) is None


@pytest.mark.parametrize(
    "value",
    [
        "order 1234567890123456 of 2026-11-30 10:20:30, v1.2.3.4",
        "4111 1111 1111 1112",
        "DE89 3704 0044 0532 0130 01",
        "DNI 12345678A",
        "ssn 000-45-6789",
        "ISBN 978-3-16-148410-0",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "550e8400-e29b-41d4-a716-446655440000",
        "@ada and g@ and C++11 and 1+1",
        1700000000000000000,
        True,
        None,
        [],
    ],
)
def test_ordinary_numbers_are_none(value):
    """Numbers whose check digits are wrong, dates, versions, hashes and names without a domain."""
    assert find_personal_data(value, PERSONAL_DATA) is None


def test_national_forms_count_for_the_countries_that_are_named():
    """Bare digits and numbers without `+` say nothing by themselves."""
    for text, country, other in (("tel 030 901820", "DE", "US"), ("id 86 095 742 719", "DE", "US")):
        assert find_personal_data(text, PERSONAL_DATA) is None
        assert find_personal_data(text, ["phone", "national_id"], [country]) is not None
        assert find_personal_data(text, ["national_id"], [other]) is None


@pytest.mark.parametrize(
    "unit", ["0123 456 789 ", "+1 000 456 789 ", "AB12 ", "@a.a", "a@", "1-", "+", "ABCDEF12A12A123", "@a-a."]
)
def test_a_hostile_text_is_looked_through(unit):
    """Texts made of nothing but near misses come to an end (with the square of their length they would not), and longer ones are refused."""
    assert find_personal_data((unit * TEXT_MAX)[: TEXT_MAX // 4], PERSONAL_DATA) is None
    assert "cannot be looked through" in str(find_personal_data("x" * (TEXT_MAX + 1), ["email"]))


def test_a_field_alone_can_be_guarded():
    """Of one object, and of every item of a list."""
    guard = {"personal_data": ["email"], "field": "note"}
    mail = {"note": "n", "mail": "ada@example.org"}
    assert find_refusal([mail], [guard], Question("")) is None
    refusal = find_refusal([mail, {"note": {"x": "ada@example.org"}}], [guard], Question(""))
    assert refusal is not None
    assert refusal.why == "'note': x holds an e-mail address"


@pytest.mark.parametrize(
    ("guard", "words"),
    [
        ({"personal_data": False}, "expected true, or a list of email, phone"),
        ({"personal_data": []}, "expected true, or a list"),
        ({"personal_data": ["mail"]}, "expected true, or a list"),
        ({"personal_data": True, "countries": ["UK"]}, "two letters"),
        ({"personal_data": True, "countries": ["GB"] * 9}, "at most 8 countries"),
        ({"personal_data": True, "regex": "x"}, "nothing beside it but 'countries' and 'field'"),
        ({"countries": ["GB"]}, "expected 'personal_data' beside it"),
    ],
)
def test_what_is_no_such_guard_is_refused(guard, words):
    """In a plan, at an agent and at a tool, with the same words."""
    steps = [{"id": "a", "ask": {"prompt": "Hi", "guard": [guard]}}]
    (problem,) = check({"firmplan": 1, "steps": steps, "output": "${a}"}, []).problems
    assert words in problem.message
    assert problem.path.startswith("$.steps[0].ask.guard[0]")

    def hello(text: str) -> str:
        """Say hello: ${text}."""
        return text

    for make in (agent(guard=[guard]), tool(effect="pure", guard=[guard])):
        with pytest.raises(ConfigError, match=r"hello.*guard\[0\]") as raised:
            make(hello)
        assert words in str(raised.value)


WITHOUT = """
import sys
for name in ("phonenumbers", "stdnum"):
    sys.modules[name] = None
from firmplan import ConfigError, check, tool
guard = {"personal_data": True}
steps = [{"id": "a", "ask": {"prompt": "Hi", "guard": [guard]}}]
(problem,) = check({"firmplan": 1, "steps": steps, "output": "${a}"}, []).problems
print(problem.code, problem.path, problem.message)
try:
    @tool(effect="pure", guard=[guard])
    def f(a: str) -> str:
        "F."
        return a
except ConfigError as error:
    print(error)
from firmplan.tools.guards.personal_data import find_personal_data
try:
    find_personal_data("x", ["email"])
except Exception as error:
    print(error.code, error)
"""


def test_without_its_packages_the_check_names_the_extra():
    """Not the run: the check of a plan, the declaration of a tool, and, where neither was here, the guard itself."""
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    checked, declared, asked = done.stdout.splitlines()
    for line in (checked, declared, asked):
        assert "pip install 'firmplan[personal-data]'" in line
        assert "found no phonenumbers" in line
    assert checked.startswith("bad-literal $.steps[0].ask.guard[0].personal_data")
    assert "tool 'f'" in declared
    assert asked.startswith("guard-failed")


def test_no_guard_loads_no_library():
    """The libraries are loaded by the guard that needs them, and by nothing else."""
    code = (
        "import sys, firmplan\n"
        "@firmplan.tool(effect='pure', guard=[{'personal_data': ['email']}])\n"
        "def f(a: str) -> str:\n    'F.'\n    return a\n"
        "print({'phonenumbers', 'stdnum'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "set()", done.stderr


def test_a_library_that_is_missing_at_run_time_fails_closed(monkeypatch):
    """A result is never taken for clean because nobody could look."""
    monkeypatch.setitem(sys.modules, "stdnum", None)
    with pytest.raises(ToolError, match="personal-data") as raised:
        find_refusal("x", [{"personal_data": True}], Question(""))
    assert raised.value.code == "guard-failed"
