"""Non-interference of whole runs: two runs that differ only in untrusted data make the same writes, or somebody spoke about each write that differs.

`test_non_interference.py` tries the labels alone, with `flow="off"`. Here engines run the plans, with every `flow`, with approvals and people who decide, with
policies; streamed by a planner whose early calls start before the plan is complete, patched, retried and forked. Who has to speak depends on `flow`:

- `strict`: a person, or a policy of the user whose use is recorded.
- `enforce`: the same, or a default rule whose use is recorded. For a write that is only missing, the warning `untrusted-condition` is enough. Plans that do not
  pass the check are put into the store past it, so the refusals are those of the engine.
- `warn` and `off`: any problem of the check.

A step of a patch that the header of its run names as controlled counts as warned of. A read with `egress` counts like a write, if it is made in both
runs. Arguments that may hold untrusted data are not compared, and a call may be missing where such an argument is. The order of effects is no
difference. What a person or a rule refused is called in no run. A portion of plans in which a feature met too little labelled data fails, too.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import pytest
from firmplan import Engine, Plan, Planner, PlanningFailed, PlanRejected, check
from firmplan.executor import Header, ToolsetLock, default_seed
from firmplan.executor.calls.flow.policies import Policies
from firmplan.executor.journal.header import program_of
from firmplan.executor.runs.request import judged
from firmplan.plans.inputs import fit_inputs
from firmplan.plans.program.program import RunAgent, RunPlan
from firmplan.plans.values import canonical
from firmplan.testing import FakeClock, Paced, ScriptedModel
from firmplan.tools import Toolset
from firmplan.tools.models.models import Model
from seeds import SEED, SWEEP, seeds
from untrusted_plans import (
    INTEGER,
    KINDS,
    NUMBERS,
    TOOLS,
    WORDS,
    WORLD,
    Author,
    World,
    answer_of,
    policies_of,
)

EVERY, PORTION = 20_000, 100
ALL_TOOLS = Toolset(TOOLS)
DATA, CONTROL = {"unsafe-flow", "judged-flow"}, "untrusted-condition"
NAMED = re.compile(r"of the write '(\w+)'|of '(\w+)', which says|whether step '(\w+)' writes")
REFUSALS = {"unsafe-flow", CONTROL, "policy-denied"}
BY_CONTROL = {"when", "blocked"}
"""Reasons of steps that were left out, but for values that are missing."""
NOTHING = canonical({})
DECISIONS_MAX = 60
RARE = {"early calls": 1, "patch": 1, "agent": 1, "retries": 1}
"""The same of rare features, for the portion that the tests try: in a sweep, a portion may lack one of them."""
FLOORS = {
    "retry": 2,
    "fork": 3,
    "approval": 10,
    "rule": 5,
    "policy": 2,
    "inner plan": 8,
    "on_error": 10,
    "repeat": 5,
    "for_each": 10,
    "strict": 3,
    "enforce": 10,
    "warn": 3,
    "off": 3,
}
"""Feature -> how many of 100 plans have to bring labelled data into a write, or a read that sends, that is judged, asked about, refused or made."""


@dataclass(frozen=True)
class Case:
    """One plan, and everything that happens to its runs.

    Attributes:
        named: Code -> ids of the writes that the check of the plan names; `None`: it is no plan.
        passes: Whether the plan passes the check of the engine.
        has_faulty_draft: Whether the model first writes a plan that has to be repaired.
        fork: The arguments of `Engine.fork`, if the run is forked.
    """

    number: int
    plan: dict[str, Any]
    flow: str
    policies: tuple[Any, ...]
    named: dict[str, set[str]] | None
    passes: bool
    is_streamed: bool
    has_faulty_draft: bool
    is_patched: bool
    is_retried: bool
    fork: dict[str, Any] | None
    calls_max: int

    @classmethod
    def of(cls, number):
        random, kind = Random(f"untrusted {number}"), number % 20
        plan = Author(random, has_models=kind == 3).plan()
        # A planner gives no plan that does not pass, so more of its plans run where nothing is refused.
        flow = random.choice(["strict", "enforce", "off" if kind < 3 else "enforce", "warn", "off"])
        policies = policies_of(random, 2 if kind in (4, 5) else random.choice([0, 0, 0, 1]))
        report = check(plan, ALL_TOOLS, rules=Policies(policies, has_defaults=flow != "strict").rule_for)
        is_plan = {found.code for found in report.errors} <= DATA
        ids = [step["id"] for step in plan["steps"]]
        forks = [{"at": random.choice(ids)}, {"inputs": {"n": 2}}, {"plan": "edited"}]
        fork = random.choice([None] * 5 + forks)
        return cls(
            number,
            plan,
            flow,
            policies,
            named=named_writes(report) if is_plan else None,
            passes=judged(report, flow).ok,
            is_streamed=kind in (1, 2),
            has_faulty_draft=random.random() < 0.4,
            is_patched=kind == 0,
            is_retried=random.random() < 0.4,
            fork=None if fork is None else {**fork, "allow_writes": random.random() < 0.6},
            calls_max=random.choice([1, 8]),
        )

    @property
    def has_planner(self):
        """Whether a model plans or patches."""
        return self.is_patched or self.is_streamed

    def worlds(self):
        """Return two worlds, and the inputs of the runs in each."""
        random = Random(f"worlds {self.number}")
        numbers, words = random.sample(NUMBERS, 2), random.sample(WORDS, 2)
        if self.is_patched:
            numbers[0] = None  # a run has to fail
        made = []
        for number, word in zip(numbers, words, strict=True):
            given = {"n": 1, "t": "Ann7"}
            if "x-trust" in self.plan["inputs"]["n"]:
                given["n"] = 2 if number is None else number + 1
            if "x-trust" in self.plan["inputs"]["t"]:
                given["t"] = word
            made.append((World(number, word), given))
        return made


@dataclass
class Story:
    """What happened in one world.

    Attributes:
        named: Code -> ids of the writes that the checks of its plans name.
        controlled: Ids of the steps that the headers of its runs name as controlled.
        spoken: Paths of the calls about which a person was asked, or a rule spoke.
        refused: Run and path of the calls that were refused, by a person or a rule.
        labelled: Ids of the steps whose call is labelled.
        left_out: Path -> why a step did not succeed.
        reached: Ids of the steps that ran.
        did: What happened, by feature.
    """

    named: dict[str, set[str]] = field(default_factory=dict)
    controlled: set[str] = field(default_factory=set)
    spoken: set[str] = field(default_factory=set)
    refused: set[tuple[str, str]] = field(default_factory=set)
    labelled: set[str] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    did: set[str] = field(default_factory=set)


def step_of(path):
    """Return the id of the plan's step that a call belongs to; the calls of an agent belong to the agent."""
    parts = re.sub(r"\[\d+\]|#\d+", "", path).split("/")
    return parts[-2] if re.fullmatch(r"act\d+", parts[-1]) else parts[-1]


def named_writes(report):
    """Return code -> ids of the writes that the problems of a check name."""
    found = {}
    for problem in report.problems:
        if problem.code in DATA or problem.code == CONTROL:
            names = {name for match in NAMED.finditer(problem.message) for name in match.groups() if name}
            found.setdefault(problem.code, set()).update(names)
    return found


# --- the life of a run


async def play_all(case, worlds):
    """Return what happens in each world. The worlds share an engine, unless a planner could remember one of them in the other."""
    async with AsyncExitStack() as stack:
        engines = [await engine_for(case, world, stack) for world, _ in worlds[: 1 + case.has_planner]]
        return [
            await play(case, engine, world, given, f"run-{number}")
            for number, (engine, (world, given)) in enumerate(zip(engines * 2, worlds, strict=False))
        ]


async def engine_for(case, world, stack):
    """Return an engine; it has a model only if the case needs one."""
    models, planner = {}, None
    if case.has_planner or "'ask'" in str(case.plan) or "'agent'" in str(case.plan):
        endpoint = await stack.enter_async_context(ScriptedModel(partial(reply, case, world)))
        models = {"default": Model("scripted", base_url=endpoint.base_url, api_key="none")}
        planner = Planner("scripted", base_url=endpoint.base_url, api_key="none", choose_over=None)
    return await stack.enter_async_context(
        Engine(
            ALL_TOOLS,
            store="memory:",
            flow=case.flow,
            policies=case.policies,
            clock=FakeClock(),
            models=models,
            planner=planner,
            max_concurrency=case.calls_max,
        )
    )


async def play(case, engine, world, given, run_id):
    """Return what happens in a world: the run, the decisions of people, its retry and its fork."""
    WORLD.set(world)
    story, runs = Story(), [run_id]
    run = await settled(case, engine, await begin(case, engine, given, run_id))
    try:
        if case.passes and case.is_retried and run.status == "failed":
            run = await settled(case, engine, await engine.retry(run.id, run_id_new=f"{run_id}-retry"))
            story.did.add("retry")
        runs.append(run.id)
        if case.passes and case.fork is not None:
            fork = {**case.fork, "plan": edited(case, run.plan)} if "plan" in case.fork else case.fork
            run = await settled(case, engine, await engine.fork(run.id, run_id_new=f"{run_id}-fork", **fork))
            story.did.add("fork")
    except PlanRejected:
        pass  # what a person has edited does not pass the check, or what a model has patched
    for each in dict.fromkeys([*runs, run.id]):
        await note(case, engine, each, story)
    return story


async def begin(case, engine, given, run_id):
    """Run the plan: planned by a model that streams it, given as it is, or put into the store past a check that it does not pass."""
    options = {"inputs": given, "run_id": run_id, "reuse": "off", "replan": int(case.is_patched)}
    if case.is_streamed and case.passes:
        return await engine.run(f"Do case {case.number}, for Ann7", stream=True, **options)
    if case.passes:
        return await engine.run(case.plan, **options)
    plan = Plan.model_validate(case.plan)
    fitted, _ = fit_inputs(plan, given)
    header = Header(plan, fitted, default_seed(plan, fitted), ToolsetLock.of([plan], ALL_TOOLS), reuse="off")
    await (await engine._open()).execution.submissions.submit(header, run_id=run_id)
    return await engine.resume(run_id)


async def settled(case, engine, run):
    """Return the run after people have decided about every call that waits: what they say depends on the call alone."""
    for _ in range(DECISIONS_MAX):
        if run.status != "waiting":
            break
        decisions = {}
        for call in (await engine.waiting(run.id)).calls:
            args = {each.name: each.value for each in call.args}
            random = Random(f"{case.number} {call.step} {canonical(args)}")
            said = random.choice(["approve", "approve", "approve", "deny", "edit"])
            decisions[call.step] = (
                {"approve": True, "edit": {"n": 1} if "n" in args else {}} if said == "edit" else said
            )
        await engine.decide(run.id, decisions, by="ann")
        run = await engine.resume(run.id)
    assert run.status in ("failed", "succeeded"), run.status
    return run


def edited(case, plan):
    """Return the plan with one more write that refers to what is there, as a person edits it."""
    made, random = plan.to_dict(), Random(f"edit {case.number}")
    known = [step for step in made["steps"] if "for_each" not in step and "tool" in step]
    numbers = [step["id"] for step in known if KINDS[step["tool"]].returns == INTEGER]
    more = {"id": "edited", "tool": random.choice(["pay", "pay_asked"]), "args": {"n": 2}}
    if numbers and random.random() < 0.5:
        more["args"] = {"n": f"${{{random.choice(numbers)}}}"}
    elif known:
        more["after"] = [random.choice(known)["id"]]
    return {**made, "steps": [*made["steps"], more]}


# --- the model


def reply(case, world, request):
    """Answer as the model of the planner, or as that of a step."""
    match request["tools"][0]["function"]["name"]:
        case "plan":
            return Paced(draft(case), partial(pace, world))
        case "changes":
            return {"changes": [], "remove": ["wrong", "extra"]}
        case "patch":
            return patch(case, request)
        case _:
            return answer_of(request)


async def pace(world, share):
    """Let early calls go on between two parts of a plan, and count them."""
    del share
    for _ in range(3):
        await asyncio.sleep(0)
    world.early = world.calls


def draft(case):
    """Return the plan; in some cases with steps that a repair takes out again, of which one sends something."""
    if not case.has_faulty_draft:
        return case.plan
    extra = {"id": "extra", "tool": "fetch", "args": {"n": 1}}
    return {**case.plan, "steps": [*case.plan["steps"], extra, {"id": "wrong", "tool": "nope"}]}


def patch(case, request):
    """Mend what failed, and make one more write."""
    random, said = Random(f"patch {case.number}"), str(request["messages"][-1]["content"])
    failed = re.findall(r"- (\w+): failed", said.replace("\\n", "\n"))
    tool = random.choice(["pay", "pay_asked", "send"])
    more = {"id": "patched", "tool": tool, "args": {"to": "Ann7"} if tool == "send" else {"n": 2}}
    mended = [{"op": "set", "step": name, "at": "on_error", "value": "skip"} for name in failed]
    return {"reasoning": "", "operations": [*mended, {"op": "add", "step": more}]}


# --- what was said


async def note(case, engine, run_id, story):
    """Add to a story what the check, the rules and the people said about a run."""
    execution = (await engine._open()).execution
    run, header = await engine.get(run_id), Header.from_dict((await execution.archive.row(run_id)).header)
    named = case.named
    if run.plan.digest != Plan.model_validate(case.plan).digest:
        rules = Policies(case.policies, has_defaults=case.flow != "strict").rule_for
        named = named_writes(check(run.plan, ALL_TOOLS, rules=rules))
    for code, names in named.items():
        story.named.setdefault(code, set()).update(names)
    story.controlled |= {*header.controlled}
    begun_with = (header.plan, header.lock, header.plans, header.language, header.rules, header.controlled)
    story.labelled.update(labelled_in(program_of(*begun_with)))
    async for event in engine.events(run_id):
        listen(event, run_id, story)
    for path, view in run.steps.items():
        if view.status == "succeeded":
            story.reached.add(step_of(path))
        if view.status != "succeeded" or view.error is not None:  # `on_error` may have filled it in
            story.left_out[path] = view.reason or view.status


def listen(event, run_id, story):
    """Add to a story what one event of a run says."""
    match event.type:
        case "ApprovalAsked":
            story.spoken.add(event.step)
            story.did.add("approval")
        case "ApprovalRuled" if event.data.get("rules"):
            story.spoken.add(event.step)
            rules = set(event.data["rules"].values())
            story.did.add("policy" if any(name.startswith("policy") for name in rules) else "rule")
        case "Denied":
            story.refused.add((run_id, event.step))
        case "CallFailed" if event.data["code"] in REFUSALS:
            story.refused.add((run_id, event.step))
            if event.data["code"] == "policy-denied":
                story.spoken.add(event.step)
                story.did.add("policy")
        case "PlanMade" if event.data["source"].startswith("patch"):
            story.did.add("patch")
        case _:
            pass


def labelled_in(program):
    """Yield the ids of the steps of a program that write, or send something away, with labels."""
    for step in program.steps:
        match step.action:
            case RunPlan(program=inner):
                yield from labelled_in(inner)
            case RunAgent(is_tainted=True) | RunAgent(is_controlled=True):
                yield step.id
            case _ if step.tainted or step.controlled:
                yield step.id
            case _:
                pass


# --- the law


def play_in_both(number):
    """Return a case with its two worlds and what happened there; `None`: it is no plan."""
    case = Case.of(number)
    if case.named is None:
        return None
    worlds = case.worlds()
    try:
        stories = asyncio.run(play_all(case, worlds))
    except PlanningFailed:
        return None  # the planner knows a fault of the plan that the check does not
    return case, [world for world, _ in worlds], stories


def differences(case, worlds, stories):
    """Yield the calls that differ although nobody spoke about them, and those that were refused and made."""
    for world, story in zip(worlds, stories, strict=True):
        for run, path in sorted(world.made & story.refused):
            yield path, "refused in this run, and made", run
    first, second = worlds
    for record in ("writes", "sent"):
        ones, others = getattr(first, record), getattr(second, record)
        for path in sorted({*ones, *others}):
            one, other = ones.get(path, []), others.get(path, [])
            # How often a read is made, or whether, changes nothing.
            is_same = one == other or (record == "sent" and (set(one) == set(other) or not (one and other)))
            if not (
                is_same
                or is_spoken(case, path, one, other, stories)
                or is_allowed(case, path, one, other, stories)
                or any("blocked" in story.left_out.values() for story in stories)
            ):
                yield path, one, other


def is_spoken(case, path, one, other, stories):
    """Whether somebody spoke about a call whose arguments are `one` in a world and `other` in the other."""
    if any(path in story.spoken for story in stories):
        return True
    if case.flow == "strict":
        return False
    name = step_of(path)
    codes = {code for story in stories for code, names in story.named.items() if name in names}
    if any(path.split("/")[0].split("[")[0].split("#")[0] in story.controlled for story in stories):
        codes.add(CONTROL)
    is_missing = set(one) <= set(other) or set(other) <= set(one)
    return (is_missing and CONTROL in codes) or (case.flow in ("warn", "off") and bool(codes & DATA))


def is_allowed(case, path, one, other, stories):
    """Whether a call is only missing because a value is, and the tool may be called with untrusted data there, so also without it."""
    if {*one, *other} == {NOTHING} and "/act" in path:
        return True  # of all arguments: who may choose them gains nothing by choosing how often
    bodies = [case.plan, *case.plan.get("plans", {}).values()]
    step = next((step for body in bodies for step in body["steps"] if step["id"] == step_of(path)), {})
    may_hold = KINDS[step["tool"]].may_hold if "tool" in step else ()
    if not any(re.search(r"[a-z]", str(step["args"][name])) for name in may_hold):
        return False
    if one and other:  # a person retries a call that its data made fail
        return set(one) == set(other)
    above = [path[: match.start()] for match in re.finditer(r"[\[#/]|$", path)]
    return any(story.left_out.get(each, "when") not in BY_CONTROL for story in stories for each in above)


def features(case, worlds, stories):
    """Yield what the plan and its runs have, if labelled data met a judge, a person or a write in them."""
    met = {
        step
        for world, story in zip(worlds, stories, strict=True)
        for step in {*map(step_of, {*story.spoken, *world.writes, *world.sent}), *refused_steps(story)}
        if step in story.labelled
    }
    if not met:
        return
    yield case.flow
    yield from sorted(set().union(*(story.did for story in stories)))
    if any(world.early for world in worlds):
        yield "early calls"
    reached = set().union(*(story.reached for story in stories))
    bodies = [case.plan, *case.plan.get("plans", {}).values()]
    keys = {key for body in bodies for step in body["steps"] if step["id"] in reached for key in step}
    yield from sorted(keys & {"on_error", "repeat", "retries", "for_each", "agent"})
    if any(step not in {each["id"] for each in case.plan["steps"]} for step in met):
        yield "inner plan"


def refused_steps(story):
    return {step_of(path) for _, path in story.refused}


@pytest.mark.sweep
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", seeds(EVERY // PORTION, sampled=1))
def test_runs_that_differ_in_untrusted_data_make_the_same_writes_or_somebody_spoke(seed):
    counts = Counter()
    for number in range(seed * PORTION, (seed + 1) * PORTION):
        if (played := play_in_both(number)) is not None:
            found = list(differences(*played))
            assert not found, (number, played[0].flow, found)
            counts.update(features(*played))
    floors = FLOORS if os.environ.get(SWEEP) or os.environ.get(SEED) else FLOORS | RARE
    few = {name: counts[name] for name, floor in floors.items() if counts[name] < floor}
    assert not few, f"too little labelled data met what the law is about: {few} of {floors}"
