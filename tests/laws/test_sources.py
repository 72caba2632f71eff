"""What a person is told about the origin of data agrees with what the flow policy goes by, over random plans."""

from __future__ import annotations

from firmplan import Plan
from firmplan.plans.checker.flow.labels import UNNAMED
from firmplan.plans.checker.flow.sources import Sources
from firmplan.plans.program.compile import compile_plan
from firmplan.plans.program.program import CallTool, RunPlan
from hypothesis import given
from hypothesis import strategies as st
from seeds import examples
from typed_plans import TYPED_TOOLS, typed_plans

READS = ("several", "look")
INPUTS = ("n", "t")


class Untrusted:
    """A tool of the drawn plans, as untrusted as the example says."""

    def __init__(self, tool, untrusted):
        self._tool = tool
        self.trust = "untrusted" if tool.name in untrusted else "trusted"

    def __getattr__(self, name):
        return getattr(self._tool, name)


@examples(150)
@given(typed_plans(), st.sets(st.sampled_from(READS)), st.sets(st.sampled_from(INPUTS)))
def test_exactly_what_is_labelled_has_a_source(drawn, untrusted, inputs):
    """An argument is labelled exactly if it has a source, a controlled call has a source of its control, and each source is one."""
    for name in inputs:
        drawn["inputs"] = {**drawn["inputs"], name: {**drawn["inputs"][name], "x-trust": "untrusted"}}
    plan = Plan.model_validate(drawn)
    tools = [Untrusted(tool, untrusted) for tool in TYPED_TOOLS]
    sources = Sources(plan, tools)
    known = {*untrusted, *(f"inputs.{name}" for name in inputs)}
    waiting = [((), compile_plan(plan, tools))]
    while waiting:
        prefix, program = waiting.pop()
        for code in program.steps:
            trail = (*prefix, code.position)
            if isinstance(code.action, RunPlan):
                waiting.append((trail, code.action.program))
            if not isinstance(code.action, CallTool):
                continue
            given_args = sources.body(prefix).steps[code.position].args
            for name in given_args:
                found = sources.of_argument(trail, name)
                assert found.is_complete
                assert bool(found.sources) == (name in code.tainted), (sources.path(trail), name)
                assert {each for one in found.sources for each in one.tools or (one.name,)} <= known
                for one in found.sources:
                    assert one.via[0] == one.name
            # A call whose arguments show all that decided about it does not count as controlled, so only one direction holds.
            assert sources.of_control(trail).sources or not code.controlled, sources.path(trail)
    made = sources.of_output()
    assert {name for names in made.values() for name in names} <= known
    assert UNNAMED not in str(made)


def test_arguments_of_a_plan_are_a_source_of_the_control_inside():
    """A plan whose arguments have no value does not run."""
    inner = {
        "inputs": {"n": {"type": "integer"}},
        "steps": [{"id": "i0", "tool": "put_a", "args": {"n": 1}}],
        "output": "${i0}",
    }
    plan = Plan.model_validate(
        {
            "firmplan": 1,
            "inputs": {"n": {"type": "integer", "x-trust": "untrusted"}},
            "plans": {"inner": inner},
            "steps": [{"id": "s0", "plan": "inner", "args": {"n": "${[1, 2][inputs.n]}"}}],
            "output": "${s0}",
        }
    )
    assert compile_plan(plan, TYPED_TOOLS).steps[0].action.program.steps[0].controlled
    assert [found.name for found in Sources(plan, TYPED_TOOLS).of_control((0, 0)).sources] == ["inputs.n"]


def test_a_filter_is_a_source_of_the_items_that_it_lets_pass():
    plan = Plan.model_validate(
        {
            "firmplan": 1,
            "inputs": {"n": {"type": "integer", "x-trust": "untrusted"}},
            "steps": [
                {
                    "id": "s0",
                    "tool": "put_a",
                    "for_each": [1, 2],
                    "when": "${item == inputs.n}",
                    "args": {"n": "${item}"},
                }
            ],
        }
    )
    assert compile_plan(plan, TYPED_TOOLS).steps[0].tainted == ("n",)
    assert [found.name for found in Sources(plan, TYPED_TOOLS).of_argument((0,), "n").sources] == ["inputs.n"]
