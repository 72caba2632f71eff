"""From a trace to a plan: where each argument comes from, and that the plan makes the same calls."""

from __future__ import annotations

import json

import pytest
from agent_traces import TOOLS, chat
from firmplan import InputRejected, learn_from_trace

FLIGHTS = [
    {"id": "F-100", "price": 220.0, "stops": 1},
    {"id": "F-200", "price": 120.5, "stops": 1},
    {"id": "F-300", "price": 300.0, "stops": 0},
]
BOOKED = chat(
    "Book the cheapest flight from Oslo to Rome and mail the confirmation to ann@example.org",
    ("search_flights", {"origin": "Oslo", "destination": "Rome"}, FLIGHTS),
    ("book", {"flight_id": "F-200"}, {"confirmation": "CONF-77"}),
    (
        "send_mail",
        {
            "to": "ann@example.org",
            "subject": "Confirmation CONF-77",
            "body": "Dear Ann,\nyour flight F-200 is booked for 120.5 euros. Safe travels!",
        },
        "sent",
    ),
    answer="I booked the cheapest flight (F-200) and sent the confirmation to ann@example.org.",
)


def learned(trace, tools=TOOLS, **options):
    """Return what was learnt, which has to make the calls of the trace."""
    found = learn_from_trace(trace, tools, **options)
    assert found.rehearsals
    assert [each.differences for each in found.rehearsals] == [() for _ in found.rehearsals], str(found)
    return found


def args_of(found):
    """Return step -> arguments, of the steps that call tools."""
    return {step["id"]: step.get("args", {}) for step in found.plan.to_dict()["steps"] if "tool" in step}


def kinds_of(found):
    return {f"{each.step}.{each.origin.place}": each.origin.kind for each in found.origins}


def remarks_of(found, kind):
    return [each.message for each in found.remarks if each.kind == kind]


def test_a_chat_trace_becomes_a_plan_that_makes_the_same_calls():
    """Inputs from the words, references to results, the cheapest of a list, a template, a question for what a model wrote."""
    found = learned(BOOKED)
    assert found.ok
    assert args_of(found) == {
        "search_flights": {"origin": "${inputs.origin}", "destination": "${inputs.destination}"},
        "book": {"flight_id": "${min(search_flights, key=lambda x: x.price).id}"},
        "send_mail": {
            "to": "${inputs.to}",
            "subject": "Confirmation ${book.confirmation}",
            "body": "${send_mail_body}",
        },
    }
    assert found.plan.task == (
        "Book the cheapest flight from {origin} to {destination} and mail the confirmation to {to}"
    )
    assert {name: schema["default"] for name, schema in found.plan.inputs.items()} == {
        "origin": "Oslo",
        "destination": "Rome",
        "to": "ann@example.org",
    }
    assert kinds_of(found)["send_mail.body"] == "model"
    (rehearsal,) = found.rehearsals
    assert (rehearsal.calls, rehearsal.made, rehearsal.asked) == (3, 3, 2)


def test_equal_traces_give_equal_plans():
    """The same trace gives the same plan, the same words and the same order of everything."""
    one, other = learned(BOOKED), learned(json.loads(json.dumps(BOOKED)))
    assert one.plan.digest == other.plan.digest
    assert one.to_dict() == other.to_dict()


def test_a_plan_that_differs_is_told_with_its_differences():
    """A rehearsal that makes other calls says which, and how they differ."""
    from firmplan import Toolset
    from firmplan.planner.traces.learning import propose
    from firmplan.planner.traces.reading import read_traces
    from firmplan.plans import Plan
    from firmplan.trace_rehearsal import _Rehearsal

    proposal = propose(read_traces(BOOKED), Toolset(TOOLS))
    raw = proposal.plan.to_dict()
    raw["steps"][1]["args"] = {"flight_id": "${search_flights[0].id}"}
    object.__setattr__(proposal, "plan", Plan.model_validate(raw))
    done = _Rehearsal(proposal, proposal.recordings[0], Toolset(TOOLS)).run()
    assert not done.ok
    assert done.made == 1
    text = str(done)
    assert (
        "step 'book' calls 'book' as the trace does not; it differs from one: flight_id: 'F-200' -> 'F-100'"
        in text.replace('"', "'")
    )
    assert "does not make the call of 'book'" in text


def test_a_trace_without_calls_teaches_nothing():
    """A conversation without tools is no trace."""
    with pytest.raises(InputRejected, match="no call of a tool"):
        learn_from_trace(
            [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}], TOOLS
        )
