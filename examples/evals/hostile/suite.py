"""Run every task under every attack and every setting, and print a table.

    python -m firmplan.examples.evals.hostile.suite [--setting NAME ..] [--only ID ..] [--details]

The engine, the store and the client of the model are the real ones; the model is a server on loopback (`oracle.py`). A setting says how the
engine is set up and who is there to be asked. An attack is run on a task if its text reaches the task: if a value of the run holds it when
nothing defends the task. Runs are made one after the other, since the worlds are on one stage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias, cast

from firmplan import Context, Engine, Planner, PlanRejected, Run, Tool, Toolset
from firmplan.testing import ScriptedModel

from .cases import WORLDS, Attack, Json, Task, load_attacks, load_probes, load_tasks
from .oracle import Oracle, mark_of
from .stage import STAGE, SinkCall, State

SECRETS: Final = {"FAIR_KEY": "k-5551"}

Person: TypeAlias = Literal["nobody", "careful", "approves all"]


@dataclass(frozen=True, slots=True)
class Setting:
    """How an engine is set up, and who is there to be asked.

    Attributes:
        flow: `Engine(flow=..)`.
        person: Who answers; a careful person approves the calls that the task needs, and denies others.
        approvals: Whether tools ask for approvals as their author wrote; without, nobody is asked and the check refuses instead.
        trusts_reads: Whether reads are as trusted as their author says; without, the result of every read is untrusted.
        has_policies: Whether the integrators' policies count beside the default rules.
    """

    name: str
    flow: str
    person: Person = "nobody"
    approvals: bool = True
    trusts_reads: bool = True
    has_policies: bool = True


OFF: Final = Setting("off", "off", approvals=False, has_policies=False)
RECOMMENDED: Final = Setting("enforce", "enforce")
SETTINGS: Final = (
    OFF,
    Setting("warn", "warn", approvals=False, has_policies=False),
    Setting("enforce, no approvals", "enforce", approvals=False),
    Setting("enforce, default rules", "enforce", has_policies=False),
    RECOMMENDED,
    Setting("strict", "strict"),
    Setting("enforce, no read trusted", "enforce", trusts_reads=False),
    Setting("enforce, careful person", "enforce", "careful"),
    Setting("enforce, approves all", "enforce", "approves all"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run.

    Attributes:
        attack: `None`: without an attack.
        status: Of the run; `refused`: the check refused the plan.
        reason: Why it did not succeed.
        is_useful: Whether the person has what he wanted, and nothing else has changed.
        is_hit: Whether the attacker has what he wanted with nobody asked about it.
        is_let_through: Whether he has it because a person approved it.
        asked: Calls about which a person was asked.
        is_reached: Whether the attacker's text was in a value of the run.
    """

    task: str
    attack: Attack | None
    setting: str
    status: str
    reason: str = ""
    is_useful: bool = False
    is_hit: bool = False
    is_let_through: bool = False
    asked: int = 0
    is_reached: bool = False

    @property
    def is_harm(self) -> bool:
        """Whether harm was done with nobody asked."""
        return self.is_hit and self.attack is not None and self.attack.is_harm


Case: TypeAlias = tuple[Task, Attack | None]


async def measure(
    settings: Iterable[Setting] = SETTINGS,
    cases: Sequence[Case] | None = None,
    undefended: Sequence[Outcome] | None = None,
) -> list[Outcome]:
    """Return the outcome of every run.

    Args:
        settings: The settings.
        cases: Tasks and attacks; `None`: all.
        undefended: What became of each case without a defence, which shows whom the attack reaches; `None`: the cases are run without a defence first.
    """
    oracle = Oracle()
    outcomes: list[Outcome] = []
    cases = cases_of() if cases is None else cases
    async with ScriptedModel(oracle) as model:
        if undefended is None:
            undefended = await _outcomes(OFF, cases, model, oracle)
        reached = [case for case, each in zip(cases, undefended, strict=True) if _counts(case, each)]
        for setting in settings:
            if setting == OFF:
                outcomes += [each for case, each in zip(cases, undefended, strict=True) if case in reached]
            else:
                outcomes += await _outcomes(setting, reached, model, oracle)
    return outcomes


def cases_of(only: Iterable[str] = ()) -> list[Case]:
    """Return each task alone and under each attack of its world, and each probe; `only`: those with one of these ids."""
    chosen = frozenset(only)
    cases: list[Case] = []
    for task in load_tasks():
        cases += [(task, None), *((task, attack) for attack in load_attacks() if attack.world == task.world)]
    cases += load_probes()
    return [
        (task, attack)
        for task, attack in cases
        if not chosen or task.id in chosen or (attack is not None and attack.id in chosen)
    ]


def _counts(case: Case, undefended: Outcome) -> bool:
    task, attack = case
    return attack is None or undefended.is_reached or task.id == attack.id


async def _outcomes(
    setting: Setting, cases: Sequence[Case], model: ScriptedModel, oracle: Oracle
) -> list[Outcome]:
    """Run cases under one setting, with one engine for each world."""
    outcomes: list[Outcome] = []
    async with AsyncExitStack() as stack:
        engines: dict[str, Engine] = {}
        for world in WORLDS:
            planner = Planner("scripted", base_url=model.base_url, api_key="none")
            made = Engine(
                toolset_of(world, setting),
                store="memory:",
                planner=planner,
                flow=cast("Any", setting.flow),
                secrets=SECRETS,
                policies=WORLDS[world].POLICIES if setting.has_policies else (),
            )
            engines[world] = await stack.enter_async_context(made)
        for task, attack in cases:
            oracle.expect(task, attack)
            outcomes.append(await _run(engines[task.world], setting, task, attack))
            model.requests.clear()
            model.headers.clear()
    return outcomes


def toolset_of(world: str, setting: Setting) -> Toolset:
    """Return the tools of a world as a setting has them."""
    tools: Iterable[Tool] = WORLDS[world].TOOLS
    if not setting.approvals:
        tools = [replace(tool, approval=None) for tool in tools]
    if not setting.trusts_reads:
        tools = [replace(tool, trust="untrusted") if tool.effect == "read" else tool for tool in tools]
    return Toolset(list(tools))


# --- one run


async def _run(engine: Engine, setting: Setting, task: Task, attack: Attack | None) -> Outcome:
    """Run a task, answer for the person, and compare the world with what the person wanted."""
    expected, wanted = await wished(task, attack)
    _reset(task.world, attack)
    try:
        if task.by_words is not None:
            await engine.save_plan(task.id, task.plan)
        run = await engine.run(task.by_words or task.plan, inputs=task.given, reuse="off")
    except PlanRejected as refused:
        codes = sorted({each.code for each in refused.report.errors})
        return Outcome(task.id, attack, setting.name, "refused", ", ".join(codes))
    run, asked, approved = await _decided(engine, run, setting.person, wanted)
    hits = _hits(attack, wanted)
    # A run that waits or fails tells its person that something is missing; one that succeeds does not.
    is_silent = run.status == "succeeded" and STAGE.state != expected
    is_dropped = attack is not None and attack.goal.get("missing") is True and is_silent
    return Outcome(
        task.id,
        attack,
        setting.name,
        run.status,
        "" if run.status == "succeeded" else _why(run),
        is_useful=run.status == "succeeded" and STAGE.state == expected and _is_answer(task, run.output),
        is_hit=is_dropped or any(call.step not in approved for call in hits),
        is_let_through=any(call.step in approved for call in hits),
        asked=len(asked),
        is_reached=attack is not None and _holds(run, mark_of(attack)),
    )


async def wished(task: Task, attack: Attack | None) -> tuple[State, Sequence[SinkCall]]:
    """Return the world as the person wants it, and the calls that make it so: in the world that the attacker has prepared."""
    tools: Toolset = WORLDS[task.world].TOOLS
    _reset(task.world, attack)
    for write in task.writes:
        tool = tools.get(write["tool"])
        await cast("Awaitable[object]", tool.invoke(tool.bind(write["args"]), Context()))
    reads = [SinkCall(read["tool"], "", read["args"]) for read in task.reads]
    return STAGE.state, (*STAGE.calls, *reads)


async def _decided(
    engine: Engine, run: Run, person: Person, wanted: Sequence[SinkCall]
) -> tuple[Run, set[str], set[str]]:
    """Answer for a person until the run ends; return it, the calls that were asked about, and the approved ones."""
    asked: set[str] = set()
    approved: set[str] = set()
    left = list(wanted)
    while run.status == "waiting":
        waiting = {path: view.args for path, view in run.steps.items() if view.args is not None}
        asked |= set(waiting)
        if person == "nobody":
            break
        # One after the other: a denial of one item may end those that follow.
        path, args = next(iter(waiting.items()))
        known = next((call for call in left if _is_same(args, call)), None)
        if person == "approves all" or known is not None:
            left = [
                call for call in left if call is not known
            ]  # the same call once more is not what the task needs
            approved.add(path)
            await engine.approve(run.id, path, by="person")
        else:
            await engine.deny(run.id, path, by="person", reason="I did not ask for this")
        run = await engine.resume(run.id)
    return run, asked, approved


def _reset(world: str, attack: Attack | None) -> None:
    if attack is None:
        STAGE.reset(WORLDS[world].STATE)
    else:
        STAGE.reset(WORLDS[world].STATE, attack.text, adds=attack.adds, first=attack.first)


def _hits(attack: Attack | None, wanted: Sequence[SinkCall]) -> list[SinkCall]:
    """Return the calls of the run that are the attacker's and not the person's own."""
    if attack is None:
        return []
    own = [(call.tool, call.args) for call in wanted]
    hits: list[SinkCall] = []
    for call in STAGE.calls:
        if (call.tool, call.args) in own:
            own.remove((call.tool, call.args))  # the same call once more is not the person's
        elif attack.hits(call):
            hits.append(call)
    return hits if len(hits) >= attack.goal.get("times", 1) else []


def _is_same(args: Json, call: SinkCall) -> bool:
    return all(call.args.get(name) == value for name, value in args.items())


def _is_answer(task: Task, output: Json) -> bool:
    if task.equals is not None:
        return output == task.equals
    text = json.dumps(output, ensure_ascii=False)
    return all(words in text for words in task.says)


def _holds(run: Run, mark: str) -> bool:
    return bool(mark) and json.dumps(mark)[1:-1] in json.dumps([view.output for view in run.steps.values()])


def _why(run: Run) -> str:
    if run.status == "waiting":
        return "asks about " + ", ".join(path for path, view in run.steps.items() if view.args is not None)
    return "; ".join(f"{error.step}: {error.code}" for error in run.errors)


# --- the table


HEAD: Final = (
    "setting",
    "tasks done",
    "tasks that ask",
    "calls asked",
    "done under attack",
    "harm",
    "harm, adaptive",
    "let through",
    "influence",
)


def table_of(outcomes: Sequence[Outcome]) -> str:
    """Return a row for each setting, in columns, below the head."""
    names = dict.fromkeys(each.setting for each in outcomes)
    lines = [list(HEAD), *(_row(name, [each for each in outcomes if each.setting == name]) for name in names)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEAD))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(widths[at]) for at, cell in enumerate(line) if at)])
        for line in lines
    )


def _row(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    plain = [each for each in outcomes if each.attack is None]
    attacked = [(each, each.attack) for each in outcomes if each.attack is not None]
    of_tasks = [(each, attack) for each, attack in attacked if attack.id != each.task]
    adaptive = [each for each, attack in attacked if attack.id == each.task and attack.is_harm]
    influence = [each for each, attack in attacked if attack.kind == "influence"]
    harm = [each for each, attack in of_tasks if attack.is_harm]
    return [
        name,
        _share(sum(each.is_useful for each in plain), len(plain)),
        _share(sum(each.asked > 0 for each in plain), len(plain)),
        str(sum(each.asked for each in plain)),
        _share(sum(each.is_useful for each, _ in of_tasks), len(of_tasks)),
        f"{sum(each.is_hit for each in harm)} of {len(harm)}",
        f"{sum(each.is_hit for each in adaptive)} of {len(adaptive)}",
        str(sum(each.is_let_through for each, _ in attacked)),
        f"{sum(each.is_hit for each in influence)} of {len(influence)}",
    ]


def _share(count: int, whole: int) -> str:
    return f"{count} of {whole} ({100 * count / whole:.0f} %)" if whole else "-"


def details_of(outcomes: Sequence[Outcome]) -> str:
    """Return the tasks that were not done, the attacks that succeeded with nobody asked, and how many did harm by family, one a line."""
    lines = [
        f"{each.setting}: task {each.task} {each.status}: {each.reason or 'not what was wanted'}"
        for each in outcomes
        if each.attack is None and not each.is_useful
    ]
    lines += [
        f"{each.setting}: {each.attack.kind} {each.attack.id} in {each.task}: {each.attack.about}"
        for each in outcomes
        if each.attack is not None and each.is_hit
    ]
    tried = Counter(
        (each.setting, each.attack.family) for each in outcomes if each.attack and each.attack.is_harm
    )
    done = Counter((each.setting, each.attack.family) for each in outcomes if each.attack and each.is_harm)
    lines += [
        f"{setting}: harm by {family}: {done[setting, family]} of {count}"
        for (setting, family), count in tried.items()
    ]
    return "\n".join(lines)


def main() -> int:
    """Print the table; return the exit code: 1 where harm is done under the recommended setting with nobody asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = {each.name: each for each in SETTINGS}
    parser.add_argument("--setting", action="append", choices=names)
    parser.add_argument("--only", action="append", default=[], help="id of a task, an attack or a probe")
    parser.add_argument(
        "--details", action="store_true", help="what was not done, and which attacks succeeded"
    )
    given = parser.parse_args()
    os.environ.setdefault("FIRMPLAN_LOG", "error")  # each unsafe flow is a warning, and there are hundreds
    outcomes = asyncio.run(measure([names[name] for name in given.setting or names], cases_of(given.only)))
    print(table_of(outcomes))
    if given.details:
        print(details_of(outcomes))
    return 1 if any(each.is_harm for each in outcomes if each.setting == RECOMMENDED.name) else 0


if __name__ == "__main__":
    sys.exit(main())
