"""Effect order against its rule, written out naively: who waits for whom, who is woken, and who is blocked; and the order of verdicts."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace

import pytest
from firmplan.executor.ledger import Ledger
from firmplan.executor.skip_rules import ending_by, ending_by_inputs
from firmplan.executor.states import Reason, State
from firmplan.plans.program.program import WORLD, Touch

RESOURCES = ["a", "b", WORLD]
CASES = 3_000


def program(random):
    """Some steps that read and write, in an order that is not that of their positions."""
    count = random.randrange(2, 8)
    steps = []
    for position in range(count):
        touched = random.sample(RESOURCES, random.choice([0, 1, 1, 1, 2]))
        touches = tuple(Touch(resource, random.random() < 0.5) for resource in touched)
        steps.append(SimpleNamespace(position=position, touches=touches))
    order = list(range(count))
    random.shuffle(order)
    return SimpleNamespace(steps=steps, order=order)


def share(one, other):
    return one.resource == other.resource or WORLD in (one.resource, other.resource)


class Rule:
    """What the contract says, looked up step by step."""

    def __init__(self, program):
        self.program = program
        self.settled = {}

    def earlier(self, step):
        order = self.program.order
        return [self.program.steps[position] for position in order[: order.index(step.position)]]

    def may_start(self, step):
        """On one resource a write waits for every earlier read and write, and a read for every earlier write."""
        return all(
            other.position in self.settled
            for other in self.earlier(step)
            if any(share(a, b) and (a.writes or b.writes) for a in other.touches for b in step.touches)
        )

    def is_blocked(self, step):
        """A write is, once an earlier step on its resource went wrong."""
        return any(
            self.settled.get(other.position, False)
            for other in self.earlier(step)
            if any(share(a, b) and b.writes for a in other.touches for b in step.touches)
        )


@pytest.mark.parametrize("seed", range(10))
def test_steps_wait_are_woken_and_are_blocked_by_the_rule(seed):
    """Whatever is asked, ended or skipped in whatever order: never too early, never forgotten, and woken in program order."""
    random = Random(seed)
    for _ in range(CASES // 10):
        made = program(random)
        ledger, rule = Ledger(made), Rule(made)
        waiting, started = set(), set()

        def ask(step, ledger=ledger, rule=rule, waiting=waiting, started=started):
            admitted = ledger.admit(step)
            assert admitted == rule.may_start(step)
            (started if admitted else waiting).add(step.position)
            (waiting if admitted else started).discard(step.position)

        while len(rule.settled) < len(made.steps):
            step = random.choice([each for each in made.steps if each.position not in rule.settled])
            if step.position not in started and random.random() < 0.7:
                if step.position not in waiting:
                    ask(step)
                continue
            rule.settled[step.position] = is_bad = random.random() < 0.3
            waiting.discard(step.position)
            woken = ledger.settle(step, is_bad=is_bad)
            assert list(woken) == sorted(set(woken), key=made.order.index)
            for position in woken:
                if position in waiting:
                    ask(made.steps[position])
            for each in made.steps:
                assert ledger.is_blocked(each) == rule.is_blocked(each)
                assert each.position not in waiting or not rule.may_start(each), "nobody woke it"


def test_a_step_that_ends_wakes_only_whom_it_held():
    """A step without effects wakes nobody; one that reads wakes no reader."""
    steps = [
        SimpleNamespace(position=0, touches=()),
        SimpleNamespace(position=1, touches=(Touch("a", writes=False),)),
        SimpleNamespace(position=2, touches=(Touch("a", writes=True),)),
        SimpleNamespace(position=3, touches=(Touch("a", writes=False),)),
        SimpleNamespace(position=4, touches=(Touch("b", writes=True),)),
    ]
    ledger = Ledger(SimpleNamespace(steps=steps, order=range(5)))
    assert [ledger.admit(step) for step in steps] == [True, True, False, False, True]
    assert list(ledger.settle(steps[0], is_bad=False)) == []
    assert list(ledger.settle(steps[4], is_bad=True)) == []
    assert list(ledger.settle(steps[1], is_bad=False)) == [2]
    assert ledger.admit(steps[2])
    assert list(ledger.settle(steps[2], is_bad=False)) == [3]
    assert ledger.admit(steps[3])


# --- how a step ends because of others

OK, FAILED, CANCELLED = (State.SUCCEEDED, None), (State.FAILED, None), (State.CANCELLED, None)
LEFT_OUT, GONE = (State.SKIPPED, Reason.WHEN), (State.SKIPPED, Reason.DEPENDENCY_FAILED)
REFERENCE, BLOCKED = (State.SKIPPED, Reason.SKIPPED_REFERENCE), (State.SKIPPED, Reason.BLOCKED)
DENIED, BUDGET = (State.SKIPPED, Reason.DENIED), (State.CANCELLED, Reason.BUDGET)


def node_over(*ends, lenient=(), after=()):
    """A node that refers to steps which ended so; `after` names positions that it only waits for."""
    nodes = [
        SimpleNamespace(state=state, reason=reason, failure=None, items=(), code=None)
        for state, reason in ends
    ]
    needs = tuple(position for position in range(len(ends)) if position not in after)
    code = SimpleNamespace(needs=needs, lenient=frozenset(lenient), after=tuple(after))
    return SimpleNamespace(frame=SimpleNamespace(nodes=nodes), code=code)


@pytest.mark.parametrize(
    ("ends", "lenient", "end"),
    [
        ((), (), None),
        ((OK, OK), (), None),
        ((FAILED,), (), GONE),
        ((GONE,), (), GONE),
        ((BLOCKED,), (), GONE),
        ((DENIED,), (), GONE),
        ((FAILED,), (0,), GONE),  # `first` passes over skips, never over failures
        ((LEFT_OUT,), (), REFERENCE),
        ((REFERENCE,), (), REFERENCE),
        ((LEFT_OUT,), (0,), None),
        ((LEFT_OUT, LEFT_OUT), (0,), REFERENCE),
        ((CANCELLED,), (), (State.CANCELLED, Reason.CANCELLED)),
        ((BUDGET,), (), BUDGET),
        ((LEFT_OUT, CANCELLED), (), (State.CANCELLED, Reason.CANCELLED)),
        ((CANCELLED, LEFT_OUT), (), (State.CANCELLED, Reason.CANCELLED)),
        ((LEFT_OUT, CANCELLED, OK, FAILED), (), GONE),
        ((OK, LEFT_OUT, OK), (), REFERENCE),
        ((OK, OK, GONE), (), GONE),
    ],
)
def test_failures_go_before_cancels_and_cancels_before_skips(ends, lenient, end):
    node = node_over(*ends, lenient=lenient)
    assert ending_by(node, node.code.needs) == ending_by_inputs(node) == end


@pytest.mark.parametrize(
    ("ends", "end"),
    [
        ((OK, OK), None),
        ((OK, LEFT_OUT), None),  # a skip does not spread through `after`
        ((OK, FAILED), BLOCKED),
        ((OK, DENIED), BLOCKED),
        ((OK, CANCELLED), BLOCKED),
        ((FAILED, FAILED), GONE),
        ((LEFT_OUT, FAILED), BLOCKED),
        ((LEFT_OUT, OK), REFERENCE),
        ((CANCELLED, FAILED), (State.CANCELLED, Reason.CANCELLED)),
    ],
)
def test_what_a_step_comes_after_blocks_it(ends, end):
    """The second step stands in `after`, the first is referred to."""
    assert ending_by_inputs(node_over(*ends, after=(1,))) == end
