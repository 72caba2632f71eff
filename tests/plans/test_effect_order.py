"""The waits that effects force, against every pair of steps that conflict."""

from __future__ import annotations

from firmplan import Plan
from firmplan.plans.program.program import Touch
from firmplan.plans.render.picture import effect_waits, picture_of
from hypothesis import given
from hypothesis import strategies as st

touches = st.lists(
    st.lists(
        st.builds(Touch, st.sampled_from(["a", "b", "world"]), st.booleans()),
        max_size=2,
        unique_by=lambda touch: touch.resource,
    ).map(tuple),
    max_size=9,
)


def conflict(one, other):
    return any(
        (left.writes or right.writes)
        and (left.resource == right.resource or "world" in (left.resource, right.resource))
        for left in one
        for right in other
    )


@given(touches)
def test_a_step_waits_for_all_that_it_conflicts_with_and_for_nothing_else(every):
    waits = effect_waits(every, range(len(every)))
    assert waits == [
        sum(1 << other for other in range(at) if conflict(every[other], every[at]))
        for at in range(len(every))
    ]


def test_a_picture_shows_the_order_of_effects_and_one_longest_chain(tools):
    """Two mails are in order although neither refers to the other; the chain's lines follow one another."""
    mail = {"tool": "send_mail", "args": {"to": "x", "body": "y"}}
    plan = {
        "firmplan": 1,
        "steps": [{"id": "one", **mail}, {"id": "note", "set": 1}, {"id": "two", **mail}],
        "output": "${note}",
    }
    nodes = picture_of(Plan.model_validate(plan), tools).nodes
    assert [node.ordered for node in nodes] == [(), (), (0,)]
    assert [node.critical_from for node in nodes] == [-1, -1, 0]
    assert [node.row for node in nodes] == [1, 1, 2]
    assert 'class="line ordered critical"' in Plan.model_validate(plan).render("svg", tools)
