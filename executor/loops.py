"""The loops inside one iteration: that of an `agent` step asks a model what to call next, that of a `plan_for` step asks the planner.

This module holds the state of a loop and answers questions about it: what is asked next, and what an answer means. The machine moves the steps of a
loop. Each of them is a step of its own with a path (`research/think0`, `rest/plan0`), a journal record and a digest, so that a replay asks nobody.

An agent step is a small loop inside one iteration: `think0` asks the model, `act0` makes the call that the model chose, `think1` asks again
with the outcome, and so on until the model answers or a limit is reached. The model sees the failure of a call; the failure does not fail the
agent step.

A model may choose several calls in one turn (`calls` in place of `call`); they are `act0_0`, `act0_1`, and so on. Reads that follow each other are
made at once, a write by itself and in its place. The model decided on all of them before it saw any outcome, so no write is made after a failed call of its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final, cast

from ..plans.expressions.data_spans import PromptData, Span
from ..plans.expressions.formula import Formula, read_formula
from ..plans.immutable import immutable, record
from ..plans.program.program import (
    QUESTION,
    AgentCall,
    AgentTurn,
    AgentTurns,
    AskAgent,
    AskModel,
    AskPerson,
    AskPlanner,
    CallTool,
    Program,
    RunAgent,
    RunPlanned,
    RunSubPlan,
    StepCode,
    Waits,
)
from ..plans.types.validate import value_problems
from ..plans.values import Json, canonical
from .budget import amount_of
from .canonical_value import CanonicalValue
from .execution_tree import Failure, Frame, Item, Iteration, Node, policies_of, told_places
from .policy import CallPolicy
from .states import State

RESULT_SHOWN_BYTES: Final = (
    16 * 1024
)  # size of one result in the prompt; the journal keeps the complete result
HISTORY_SHOWN_MAX: Final = 50  # latest calls in the prompt
LEFT_S_MIN: Final = 0.001  # of a timeout, for a turn that just began in time
GOAL: Final = "# Goal\n"
PARAGRAPH: Final = "\n\n"


@immutable
class Answer:
    """The model gave the result."""

    value: Json


@immutable
class NextCall:
    """A call that the model chose.

    Attributes:
        id: The id of its step.
    """

    tool: str
    args: dict[str, Json]
    id: str


@record
class AgentLoop:
    """The progress of one agent.

    Attributes:
        goal: The goal, rendered.
        goal_data: The parts of the goal that are data.
        history: For each call so far, the call and its outcome as text, and the parts of the text that are data.
        turns: The same, turn by turn.
        thoughts: Questions to the model so far.
        calls: Calls of tools so far.
        waiting: The calls of this turn that are not made yet.
        running: The calls of this turn that are being made.
        args: Of a call of an `@agent` tool: its arguments.
        timeout_s: Of such a call: the time for all that it asks and calls; `None`: no limit.
        retries: Of such a call: further tries of a turn that has failed; `None`: as its tool says.
    """

    agent: RunAgent
    goal: str
    goal_data: tuple[Span, ...] = ()
    args: Mapping[str, Json] = field(default_factory=dict[str, Json])
    timeout_s: float | None = None
    retries: int | None = None
    history: list[tuple[str, tuple[Span, ...]]] = field(default_factory=list[tuple[str, tuple[Span, ...]]])
    turns: list[AgentTurn] = field(default_factory=list[AgentTurn])
    thoughts: int = 0
    calls: int = 0
    waiting: list[NextCall] = field(default_factory=list[NextCall])
    running: tuple[NextCall, ...] = ()
    _has_failed: bool = False

    def find_exhausted(self, iterations: Iterable[Iteration]) -> Failure | None:
        """Return the failure if another thought would pass a limit; `None`: it would not."""
        # Limits are compared before each thought, never during a call: a call that has started is paid for, and its result may be the last one needed.
        if self.thoughts >= self.agent.steps_max:
            return Failure(
                "agent-exhausted",
                f"no answer after {self.thoughts} turns, which is its max_steps{self._last_words()}",
            )
        spent = self._spent(iterations)
        if self.timeout_s is not None and spent["seconds"] >= self.timeout_s:
            return Failure("agent-exhausted", f"no answer within its timeout of {self.timeout_s:g} s")
        for name, limit in self.agent.budget.items():
            if isinstance(limit, int | float) and spent.get(name, 0.0) >= limit:
                return Failure("agent-exhausted", f"no answer within its budget of {limit} {name}")
        return None

    def _last_words(self) -> str:
        """Return what the model of an `@agent` tool did to the end in the place of an answer."""
        if self.agent.call is None:
            return ""
        last = self.turns[-1].calls[-1:] if self.turns else ()
        did = (
            f"its model called '{last[0].tool}' to the end" if last else "its model chose nothing to the end"
        )
        return f": {did}; raise max_steps, or ask for less"

    def _spent(self, iterations: Iterable[Iteration]) -> dict[str, float]:
        spent = {"steps": float(self.calls), "model_calls": 0.0, "tokens": 0.0, "usd": 0.0, "seconds": 0.0}
        for iteration in iterations:
            spent["model_calls"] += amount_of(iteration.usage, "calls")
            spent["tokens"] += amount_of(iteration.usage, "tokens")
            spent["usd"] += amount_of(iteration.usage, "usd")
            if iteration.started is not None and iteration.finished is not None:
                spent["seconds"] += iteration.finished - iteration.started
        return spent

    def thought(self, iterations: Iterable[Iteration]) -> StepCode:
        """Return the next question to the model, as a step. `iterations`: as of `find_exhausted`."""
        agent = self.agent
        if agent.call is not None:
            return self._thought_of_call(agent.call, iterations)
        # A prompt is bounded, but an agent's history is not, so the earliest calls are left out. The latest ones lead to the next decision.
        shown = self.history[-HISTORY_SHOWN_MAX:]
        left_out = len(self.history) - len(shown)
        so_far = [_plain(f"(the first {left_out} calls are left out)")] if left_out else []
        parts = [
            (f"{GOAL}{self.goal}", tuple(span.moved(len(GOAL)) for span in self.goal_data)),
            _plain("# Calls so far"),
            *so_far,
            *(shown or [_plain("none")]),
        ]
        prompt, spans, sections = _joined(parts)
        ask = AskModel(
            prompt=constant(prompt),
            system=constant(agent.instructions),
            examples=None,
            returns=agent.reply,
            data=PromptData(spans, agent.instructions_data, sections=sections),
            turns=self._turns(),
        )
        # The text of the goal and of the results is data: `constant` escapes it, so that a `${..}` in a web page is never evaluated.
        self.thoughts += 1
        return StepCode(position=0, id=f"think{self.thoughts - 1}", action=ask)

    def _thought_of_call(self, call: CallTool, iterations: Iterable[Iteration]) -> StepCode:
        """Return the next question to the model of an `@agent` tool."""
        turns = self._turns()
        # The turns are a part of the request, so that its digest differs from turn to turn: a fork keeps a turn only where nothing before it differs.
        request: dict[str, Json] = {
            "args": dict(self.args),
            "turns": [_as_json(turn) for turn in turns.turns],
        }
        if turns.left_out:
            request["left_out"] = turns.left_out
        left_s = None
        if self.timeout_s is not None:
            # Rounded, so that the text of a message does not end in the dust of a subtraction.
            left_s = max(round(self.timeout_s - self._spent(iterations)["seconds"], 3), LEFT_S_MIN)
        self.thoughts += 1
        return StepCode(
            position=0,
            id=f"think{self.thoughts - 1}",
            action=AskAgent(call.tool, request, call.secrets, turns),
            retries=self.retries,
            timeout_s=left_s,
        )

    def _turns(self) -> AgentTurns:
        """Return what the model is told, in parts: of as many calls as the prompt shows, and only complete turns."""
        agent, shown, kept = self.agent, 0, list[AgentTurn]()
        for turn in reversed(self.turns):
            shown += len(turn.calls)
            if shown > HISTORY_SHOWN_MAX:
                break
            kept.append(turn)
        left_out = sum(len(turn.calls) for turn in self.turns[: len(self.turns) - len(kept)])
        return AgentTurns(
            self.goal, self.goal_data, agent.signatures, agent.returns, tuple(reversed(kept)), left_out
        )

    def decide(self, reply: Json) -> Answer | None:
        """Return the answer of the model; `None`: it chose calls, which `next_acts` has, or neither or both, and the next prompt says so."""
        said = cast("dict[str, Any]", reply)
        chosen = self._calls_in(said)
        has_answer = "answer" in said and (said["answer"] is not None or self._may_be_null(said))
        if has_answer and not chosen:
            return Answer(said["answer"])
        if chosen and not has_answer:
            self._choose(chosen, str(said.get("reasoning") or ""))
            return None
        text = "You gave both `call` and `answer`, or neither. Give exactly one of them."
        self.history.append(_plain(text))
        self.turns.append(AgentTurn(note=text))
        return None

    def _may_be_null(self, said: Mapping[str, Any]) -> bool:
        """Whether a null is meant as the answer: of an `@agent` tool, whose answers fit its annotation before they come here."""
        return self.agent.call is not None and "call" not in said and "calls" not in said

    def _calls_in(self, said: Mapping[str, Any]) -> list[Any]:
        """Return the calls that a reply chooses; none: it chooses none."""
        if said.get("call") is not None:
            return [said["call"]]
        # Several calls come from the form of native tool calls alone, which holds nothing else. The schema of other replies does not know the field, so
        # that a model may write anything there: such a field is not looked at, and no tool is called that the step does not name.
        match said:
            case {"reasoning": str(), "calls": [*calls], **rest} if not rest and all(
                map(self._is_own, calls)
            ):
                return calls
            case _:
                return []

    def _is_own(self, call: object) -> bool:
        """Whether this is a call of one of the agent's own tools."""
        match call:
            case {"tool": str(tool), "args": dict()}:
                return tool in self.agent.tools
            case _:
                return False

    def _choose(self, chosen: Sequence[Any], reasoning: str) -> None:
        """Note the calls that the model chose; those past a limit are not made."""
        name = f"act{self.thoughts - 1}"
        ids = [name] if len(chosen) == 1 else [f"{name}_{index}" for index in range(len(chosen))]
        calls = [NextCall(call["tool"], call["args"], at) for call, at in zip(chosen, ids, strict=True)]
        self.turns.append(AgentTurn(reasoning))
        self._has_failed = False
        # A turn may hold several calls, and the bound that the check tells is one call for each of `max_steps` turns.
        at_most = self.agent.steps_max if self.agent.calls_max is None else self.agent.calls_max
        limits = [at_most, self.agent.budget.get("steps")]
        room = min(int(limit) for limit in limits if isinstance(limit, int | float)) - self.calls
        self.waiting = calls[: max(room, 0)]
        for call in calls[max(room, 0) :]:
            self._note_call(call, "not made: this agent may make no more calls", "")

    def next_acts(self, is_write: Callable[[str], bool]) -> tuple[StepCode, ...]:
        """Return the calls of the turn that are made next, as steps: reads up to the next write, or one write; none: the turn is over.

        Args:
            is_write: Whether a tool of this name may change the world.
        """
        reads = next((at for at, call in enumerate(self.waiting) if is_write(call.tool)), len(self.waiting))
        if self.waiting and not reads and self._has_failed:
            for call in self.waiting:
                self._note_call(call, "not made: an earlier call of this turn failed; decide again", "")
            self.waiting = []
        count = reads or min(1, len(self.waiting))
        self.running, self.waiting = tuple(self.waiting[:count]), self.waiting[count:]
        return tuple(self._act(at, call) for at, call in enumerate(self.running))

    def _act(self, position: int, call: NextCall) -> StepCode:
        """Return a chosen call as a step."""
        # A model that has read untrusted data may put it into any argument, so all of them carry the label.
        tainted = tuple(sorted(call.args)) if self.agent.is_tainted else ()
        self.calls += 1
        action = CallTool(call.tool, constant(call.args), {})
        return StepCode(
            position=position,
            id=call.id,
            action=action,
            tainted=tainted,
            controlled=self.agent.is_tainted or self.agent.is_controlled,
        )

    def note(self, nodes: Sequence[Node]) -> None:
        """Add the outcomes of the calls that were made to the history."""
        for call, node in zip(self.running, nodes, strict=True):
            if node.state is State.SUCCEEDED and node.output is not None:
                self._note_call(call, _shown(node.output), "result")
            else:
                # Code and message may both be words of the tool, and the tool may have them from anywhere.
                failure = _failure_of(node)
                self._has_failed = True
                self._note_call(call, f"[{failure.code}]: {failure.message}", "error")

    def _note_call(self, call: NextCall, outcome: str, name: str) -> None:
        called = f"{call.tool}({canonical(cast('Json', call.args)).decode()})"
        arrow = "\n-> failed " if name == "error" else "\n-> "
        start = len(called) + len(arrow)
        # The arguments are the model's own words about data that it has read, so the call is data, too: in this prompt it would else stand where
        # the author speaks.
        spans = [Span(0, len(called), "call")]
        if name:
            spans.append(Span(start, start + len(outcome), name))
        self.history.append((f"{called}{arrow}{outcome}", tuple(spans)))
        turn = self.turns[-1]
        self.turns[-1] = replace(turn, calls=(*turn.calls, AgentCall(call.tool, call.args, outcome, name)))


def frame_of(codes: Sequence[StepCode], iteration: Iteration, policies: Mapping[str, CallPolicy]) -> Frame:
    """Return a frame below an iteration that runs these steps, none of which waits for another.

    Args:
        codes: The steps.
        iteration: Around them.
        policies: Tool -> how its calls are treated.
    """
    steps, order = tuple(codes), tuple(range(len(codes)))
    program = Program(iteration.item.node.frame.program.plan, steps, order, None, {}, Waits.of(steps))
    return Frame(program, policies_of(program, policies), {}, prefix=f"{iteration.path}/", owner=iteration)


def _as_json(turn: AgentTurn) -> Json:
    """Return a turn as a part of a request."""
    if not turn.calls:
        return {"note": turn.note}
    calls: list[Json] = [
        {"tool": call.tool, "args": dict(call.args), call.name or "note": call.outcome} for call in turn.calls
    ]
    return {"reasoning": turn.reasoning, "calls": calls} if turn.reasoning else {"calls": calls}


def _plain(text: str) -> tuple[str, tuple[Span, ...]]:
    """Return a text of firmplan's own, without data."""
    return text, ()


def _joined(
    parts: Sequence[tuple[str, tuple[Span, ...]]],
) -> tuple[str, tuple[Span, ...], tuple[int, ...]]:
    """Return the parts as paragraphs of one text, the spans of it that are data, and where the paragraphs begin."""
    spans: list[Span] = []
    begins: list[int] = []
    length = 0
    for text, inner in parts:
        begins.append(length)
        spans += [span.moved(length) for span in inner]
        length += len(text) + len(PARAGRAPH)
    return PARAGRAPH.join(text for text, _ in parts), tuple(spans), tuple(begins)


def constant(value: Json) -> Formula:
    """Return a value as a formula of which every text is data, never a template."""
    return read_formula(_escaped(value))[0]


def _escaped(value: Json) -> Json:
    match value:
        case str():
            return value.replace("${", "$${")
        case list():
            return [_escaped(each) for each in value]
        case dict():
            return {key: _escaped(each) for key, each in value.items()}
        case _:
            return value


def _shown(output: CanonicalValue) -> str:
    text = output.data.decode()
    return (
        text
        if len(text) <= RESULT_SHOWN_BYTES
        else f"{text[:RESULT_SHOWN_BYTES]} .. ({len(text)} characters in all)"
    )


def _failure_of(node: Node) -> Failure:
    item: Item | None = node.items[-1] if node.items else None
    return node.failure or (item.failure if item else None) or Failure("failed", "the call failed")


# --- the loop of a `plan_for` step
#
# `plan0` asks the planner, `run` runs the sub-plan that it made, and between them `ask0` asks a person if the planner has a question; then `plan1`
# asks the planner again, with the answer. The sub-plan is the value of `plan0` and stands in the journal, so that a replay, a resume, a fork and a
# retry run the same sub-plan and ask no model.


PLAN: Final = "plan"  # the key, in the value of a planning, of the sub-plan
EXPRESSIONS: Final = "expressions"  # and of the version of the expression language in which it was checked
ASKED: Final = "question"  # and of the planner's question in the place of a plan: `text returns`
RUN: Final = "run"  # id of the step that runs the sub-plan


@immutable
class SubPlanned:
    """The value of a planning: a sub-plan."""

    plan: Mapping[str, Any]
    language: int


@immutable
class SubQuestion:
    """The value of a planning: a question in the place of a plan."""

    text: str
    returns: Mapping[str, Json]


@record
class PlanningLoop:
    """The progress of one `plan_for` step.

    Attributes:
        given: The values that it is given.
        retries: Further plannings after a failed one, as the step says.
        timeout_s: Limit of one planning, as the step says.
        answers: The planner's questions so far, each with the answer.
        asked: The last question.
    """

    planned: RunPlanned
    given: Mapping[str, Json]
    retries: int | None = None
    timeout_s: float | None = None
    answers: list[Json] = field(default_factory=list[Json])
    asked: SubQuestion | None = None

    def ask_planner(self) -> StepCode:
        """Return the next question to the planner, as a step."""
        planned = self.planned
        request: dict[str, Json] = {
            "task": planned.words,
            "given": dict(self.given),
            "tools": list(planned.tools),
            "max_steps": planned.steps_max,
            "returns": dict(planned.returns),
        }
        if self.answers:
            request["answers"] = list(self.answers)
        action = AskPlanner(request, planned.hidden)
        id_ = f"plan{len(self.answers)}"
        return StepCode(position=0, id=id_, action=action, retries=self.retries, timeout_s=self.timeout_s)

    def read(self, value: Json) -> SubPlanned | SubQuestion:
        """Return what the planner said."""
        said = cast("dict[str, Any]", value)
        if ASKED in said:
            self.asked = SubQuestion(said[ASKED]["text"], said[ASKED]["returns"])
            return self.asked
        return SubPlanned(said[PLAN], said[EXPRESSIONS])

    def ask_person(self, question: SubQuestion) -> StepCode:
        """Return the planner's question, as a step that asks a person."""
        shown = constant({QUESTION: question.text})
        # A planner that has read untrusted data may have its question from there.
        tainted = (QUESTION,) if self.planned.is_tainted else ()
        return StepCode(
            position=0,
            id=f"ask{len(self.answers)}",
            action=AskPerson(shown, question.returns, is_question=True),
            tainted=tainted,
        )

    def note_answer(self, answer: Json) -> None:
        """Keep the answer to the last question for the next planning."""
        assert self.asked is not None
        self.answers.append([self.asked.text, answer])

    def run(self, program: Program) -> StepCode:
        """Return the sub-plan as a step that runs it."""
        return StepCode(position=0, id=RUN, action=RunSubPlan(program, self.given))

    def find_misfit(self, output: Json) -> Failure | None:
        """Return the failure if the output of the sub-plan does not fit `returns`."""
        # The planner was held to the type, but a value of unknown type may turn out to be of another one.
        faults = value_problems(output, self.planned.returns)
        if not faults:
            return None
        told = told_places(faults)
        return Failure(
            "bad-output", f"the output of the sub-plan does not fit the schema in `returns`: {told}"
        )
