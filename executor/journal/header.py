"""The header of a run: everything that is settled before its first event, and never changes.

With the header and the journal a run can be built again anywhere, without the tools: the plan, the saved plans that
it uses, its inputs, its seed, and the lock of its tools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import field, replace
from hashlib import sha256
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from ...errors import EngineBug, StoreError
from ...plans import Plan
from ...plans.checker.flow.labels import Counted
from ...plans.collecting import collector_paused
from ...plans.expressions.functions import EXPRESSION_VERSION
from ...plans.immutable import frozen, immutable
from ...plans.program.compile import compile_plan
from ...plans.values import Digest, Json, canonical, digest
from ...tools.logbook import RequestContext
from ..budget import PLANNING
from ..events import PlanMade
from ..fork import Fork
from ..lru_cache import LARGE_PLANS, IdentityCache, LruCache
from ..machine import (
    CHOICES_COUNT_SINCE,
    CONTROL_COUNTS_SINCE,
    NO_FORK,
    ROUNDS_COUNT_SINCE,
    RULES_VERSION,
    WORLD_COUNTS_SINCE,
    Machine,
)
from ..policy import ReuseMode
from ..stores.header_text import header_text
from .toolset_lock import ToolsetLock

if TYPE_CHECKING:
    from ...plans.checker.survey import Survey
    from ...plans.program.program import Program, RunPlanned
    from ...plans.signature import Signatures
    from ..loops import SubPlanned


HEADER_FORMAT: Final = 1
ASKING_FORMAT: Final = 2
"""The header format of retries, and of forks and patches that ask a person where an older version would not: older versions must refuse them."""
SHOWN_UNTRUSTED: Final = "untrusted_text"  # the key, in the record of a planning, that says that the planner was shown untrusted data
RULES_ONCE: Final = 1  # of a run whose header does not say
# Fields that later versions added, with their first value, in the order of the JSON. A header leaves out a field that has its first value, so that
# headers of older versions keep their bytes, and so their digests.
_LATER: Final[Mapping[str, object]] = {
    "rules": RULES_ONCE,
    "submitter": None,
    "context": None,
    "request": "",
    "schedule": None,
    "deadline": None,
    "priority": None,
    "approval_expires_s": None,
    "returns": None,
    "replan": 0,
}
_VALUES_LATER: Final = attrgetter(*_LATER)  # all of them in one call: a small run makes its header once more


@frozen
class Submitter:
    """Who submitted a run.

    Attributes:
        name: A name that the program which calls the engine has established, such as the name of an API key.
        may_approve: Whether this name may approve calls of the run.
        tenant: Whose run it is: lists, saved plans and results for reuse are kept apart by it. Empty: nobody's in particular.
        others: Who else has decided what runs, and so may not approve its calls: authors of a schedule's plan who changed it after the schedule was made.
    """

    name: str
    may_approve: bool = True
    tenant: str = ""
    others: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        made: dict[str, Json] = {"name": self.name, "may_approve": self.may_approve}
        made |= {"tenant": self.tenant} if self.tenant else {}
        return {**made, "others": list(self.others)} if self.others else made

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Submitter:
        """Read it back."""
        found = cls(**data)
        return replace(found, others=tuple(found.others)) if found.others else found


@immutable
class Header:
    """See the module.

    Attributes:
        plan: `None` while a task has not been planned.
        plans: Saved plans that the plan uses, by the name or digest that it uses.
        planning: What the planner did, as JSON: `source`, `attempts` and their `usage`; `cost` is what all plannings of the run used, as
            `usage.planning` shows it (headers of older versions have none), `failed` or `over` why no plan came.
        concurrency_max: Calls at a time in this run; `None`: the engine's limit.
        budget: What the run may use, as it was submitted (`budget.py`).
        fork: How it came of its parent, if it did.
        language: The version of the expression language that the run began with. It decides which functions its plan has.
        replan: How often, at most, the planner may patch the plan if the run fails.
        rules: The version of the machine's moves that the run began with (`machine.py`).
        submitter: Who submitted the run; `None`: it is not known, as in headers of older versions.
        context: The HTTP request that submitted the run, and the trace that the run is a part of; `None`: there is none. It decides nothing.
        request: Digest of the request that made the run; empty: none was given, or the header is of an older version.
        schedule: The schedule whose time made the run, as `name` and `at` (Unix seconds); `None`: no schedule did.
        deadline: When the run is to have ended, in Unix seconds; `None`: it has no deadline.
        priority: Before which other runs it gets a place, from 1, first, to 5; `None`: it is among those in the middle. It decides no result.
        approval_expires_s: How long a person is waited for whose approval a call needs, in seconds, where its tool does not say; `None`: for ever.
        returns: Of a task: JSON Schema that the output of its plan has to fit; `None`: any output will do.
    """

    plan: Plan | None
    inputs: Mapping[str, Json]
    seed: str
    lock: ToolsetLock
    plans: Mapping[str, Plan] = field(default_factory=dict[str, Plan])
    task: str | None = None
    planning: Json = None
    reuse: ReuseMode = "auto"
    concurrency_max: int | None = None
    budget: Mapping[str, float] = field(default_factory=dict[str, float])
    fork: Fork | None = None
    language: int = EXPRESSION_VERSION
    rules: int = RULES_VERSION
    replan: int = 0
    submitter: Submitter | None = None
    context: RequestContext | None = None
    request: str = ""
    schedule: Mapping[str, Json] | None = None
    deadline: float | None = None
    priority: int | None = None
    approval_expires_s: float | None = None
    returns: Mapping[str, Json] | None = None

    # A header decides everything about a run that events do not. So whatever the machine asks is derived from the header alone: a run that another
    # engine takes over, with other settings, goes on as it began.

    @property
    def program(self) -> Program:
        """The program of the run. Raises: PlanRejected: the plan cannot be compiled; EngineBug: there is no plan."""
        if self.plan is None:
            raise EngineBug("a run without a plan has no program")
        return program_of(*_sources_of(self))

    def sub_program(self, made: SubPlanned, planned: RunPlanned) -> Program:
        """Return the program of a sub-plan that a `plan_for` step got. Raises: PlanRejected: it cannot be compiled."""
        plan = read_plan(made.plan)
        controlled = tuple(step.id for step in plan.steps) if planned.is_controlled else ()
        return program_of(
            plan, self.lock, {}, made.language, self.rules, controlled, is_chosen=planned.is_tainted
        )

    @property
    def submitter_name(self) -> str | None:
        """The name of who submitted the run; `None`: it is not known."""
        return self.submitter.name if self.submitter is not None else None

    @property
    def tenant(self) -> str:
        """Whose run it is; empty: nobody's in particular."""
        return self.submitter.tenant if self.submitter is not None else ""

    @property
    def controlled(self) -> tuple[str, ...]:
        """Ids of the steps that are there because of untrusted data (`Fork`)."""
        return self.fork.controlled if self.fork is not None else ()

    @property
    def written(self) -> tuple[str, ...]:
        """Ids of the steps whose own words count as untrusted data (`Fork`)."""
        return self.fork.written if self.fork is not None else ()

    @property
    def is_shown_untrusted(self) -> bool:
        """Whether the planner that made the plan was shown untrusted data."""
        return isinstance(self.planning, dict) and self.planning.get(SHOWN_UNTRUSTED) is True

    @property
    def planning_cost(self) -> dict[str, float]:
        """The usage of the planning, by the names of a budget; empty without a planner, or with one of an older version."""
        match self.planning:
            case {"cost": dict(cost)}:
                return {
                    name: float(amount)
                    for name in PLANNING
                    if isinstance(amount := cost.get(name), int | float)
                }
            case _:
                return {}

    @property
    def plan_made(self) -> PlanMade | None:
        """The event that tells how a planner made the plan; `None` without a planner, or with one of an older version."""
        match self.planning:
            case {"source": str(source), "cost": dict(cost)}:
                return PlanMade(source, cost)
            case _:
                return None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON; the plan in it is shared, and never to be changed."""
        data: dict[str, Any] = {
            # The lowest format that says all: an older version reads it unless it would do something else than this one.
            "format": ASKING_FORMAT if self.fork is not None and self.fork.is_newer else HEADER_FORMAT,
            "expressions": self.language,
            "plan": _WRITTEN.get(self.plan, _written) if self.plan else None,
            "plans": {name: plan.to_dict() for name, plan in self.plans.items()} if self.plans else {},
            "inputs": dict(self.inputs),
            "seed": self.seed,
            "lock": self.lock.to_list(),
            "task": self.task,
            "planning": self.planning,
            "reuse": self.reuse,
            "concurrency_max": self.concurrency_max,
            "budget": dict(self.budget),
            "fork": self.fork.to_dict() if self.fork else None,
        }
        for (name, first), value in zip(_LATER.items(), _VALUES_LATER(self), strict=True):
            if value != first:
                data[name] = value.to_dict() if isinstance(value, Submitter | RequestContext) else value
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Header:
        """Read it back. Raises: StoreError: it is of a format that this version does not know, or was changed."""
        # A header was written by firmplan, so its fields are not validated one by one: what does not fit fails with one of these errors.
        try:
            return _READ.get(data, cls._read)
        except (LookupError, TypeError, ValueError, AttributeError) as fault:
            raise StoreError(f"a run header that says too little or too much: {fault!r}") from fault

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> Header:
        if data.get("format") not in (HEADER_FORMAT, ASKING_FORMAT):
            raise StoreError(
                f"a run header of format {data.get('format')!r}; this firmplan reads {HEADER_FORMAT} and {ASKING_FORMAT}"
            )
        # A newer language or newer rules might give another result, silently. An older one is evaluated as it was.
        if (language := data.get("expressions", 1)) > EXPRESSION_VERSION:
            raise StoreError(
                f"a run whose expressions are of version {language}; this firmplan evaluates up to "
                f"{EXPRESSION_VERSION}: upgrade firmplan"
            )
        later: dict[str, Any] = {name: data.get(name, first) for name, first in _LATER.items()}
        if (rules := later["rules"]) > RULES_VERSION:
            raise StoreError(
                f"a run that moves by rules of version {rules}; this firmplan knows up to {RULES_VERSION}: upgrade firmplan"
            )
        if later["submitter"] is not None:
            later["submitter"] = Submitter.from_dict(later["submitter"])
        if later["context"] is not None:
            later["context"] = RequestContext(**later["context"])
        return cls(
            plan=read_plan(data["plan"]) if data["plan"] is not None else None,
            plans={name: read_plan(plan) for name, plan in data["plans"].items()},
            inputs=data["inputs"],
            seed=data["seed"],
            lock=ToolsetLock.from_list(data["lock"]),
            task=data["task"],
            planning=data["planning"],
            reuse=data["reuse"],
            concurrency_max=data["concurrency_max"],
            budget=data["budget"],
            fork=Fork.from_dict(data["fork"]),
            language=language,
            **later,
        )


# A run is looked up several times while it is driven, and its header may be megabytes of plan. Stores return the same object for the same
# bytes, so identity is a cheap and safe key; hashing the header would cost what the cache saves.
_LATELY: Final = 4
_READ: Final = IdentityCache[Mapping[str, Any], Header](_LATELY)
_WRITTEN: Final = IdentityCache[Plan, Mapping[str, Any]](_LATELY)


def header_digest(header: Mapping[str, Any]) -> Digest:
    """Return the digest of a header as it is stored: the first record of a run has it, so that the chain covers it."""
    # Not of the row's bytes: a store may keep the plan apart from the header, and the digest must not depend on where.
    return digest(header_text(header))


def build_machine(header: Header) -> Machine:
    """Return the machine of a run before its first event.

    Raises:
        PlanRejected: The plan does not pass the check of this version.
    """
    program = header.program
    # The tree of a large plan is made before the run's heap is frozen, and would have the collector look through all objects once a run.
    with nullcontext() if program.waits.is_brief else collector_paused():
        return Machine(
            program,
            header.inputs,
            header.lock.policies,
            seed=header.seed,
            budget=header.budget,
            planning=header.planning_cost if header.planning else None,
            fork=header.fork or NO_FORK,
            rules=header.rules,
            sub_programs=header.sub_program,
            deadline=header.deadline,
            approval_expires_s=header.approval_expires_s,
        )


def default_seed(plan: Plan, inputs: Mapping[str, Json]) -> str:
    """Return the seed of a run that was given none: the same for the same plan and inputs."""
    # The first 32 hex digits of the digest are enough for a seed.
    return digest(canonical(["seed", plan.digest, cast("Json", dict(inputs))]))[7:39]


# Plans and programs of stored runs are read once and compiled once, however often a run is shown, resumed or replayed. The key of a
# plan is the digest of its stored bytes; the key of a program is the plan's text and the lock of its tools, because nothing else decides it.
# `known_plans.py` keeps the programs of large plans in the store, too.


_NAMES: IdentityCache[object, bytes] = IdentityCache(8)
_TEXTS: IdentityCache[Plan, bytes] = IdentityCache(8)
_PLANS: LruCache[bytes, Plan] = LruCache(count_min=LARGE_PLANS)
_PROGRAMS: LruCache[tuple[bytes, ...], Program] = LruCache(count_min=LARGE_PLANS)


def read_plan(data: Mapping[str, Any]) -> Plan:
    """Return the plan that was stored as `data`. Raises: pydantic's ValidationError: it is none."""
    name = _name(data)
    plan = _PLANS.get(name, lambda: Plan.model_validate(data), steps_in)
    _TEXTS.keep(plan, name)
    return plan


def _written(plan: Plan) -> Mapping[str, Any]:
    """Return a plan as it is stored; whoever reads it gets this very plan, which has been checked and digested already."""
    data = plan.to_dict()
    _PLANS.get(_name(data), lambda: plan, steps_in)
    return data


def text_name(plan: Plan) -> bytes:
    """Return what names the text of a plan, with its prose and the order of its keys: plans with one digest may differ in them."""
    return _TEXTS.get(plan, lambda given: _name(_WRITTEN.get(given, _written)))


def program_of(  # noqa: PLR0913  # everything that decides a program
    plan: Plan,
    lock: ToolsetLock,
    plans: Mapping[str, Plan],
    language: int,
    rules: int = RULES_VERSION,
    controlled: Sequence[str] = (),
    written: Sequence[str] = (),
    *,
    is_chosen: bool = False,
    surveyed: tuple[Survey, Signatures] | None = None,
) -> Program:
    """Return the program of a run.

    Args:
        plan: The plan.
        lock: The run's tools.
        plans: Saved plans that the plan uses.
        language: The version of the expression language that the run began with.
        rules: The version of the machine's moves that the run began with.
        controlled: See `Fork`.
        written: See `Fork`.
        is_chosen: See `compile_plan`.
        surveyed: See `compile_plan`.

    Raises:
        PlanRejected: The plan cannot be compiled.
    """
    key = _program_key(plan, lock, plans, language, rules, controlled, written, is_chosen=is_chosen)
    # `surveyed` is no part of the key: it saves the compiler a walk over the plan, and leads to the same program.
    return _PROGRAMS.get(
        key,
        lambda: compile_plan(
            plan,
            lock,
            plans=plans,
            language=language,
            counted=Counted(
                control=rules >= CONTROL_COUNTS_SINCE,
                world=rules >= WORLD_COUNTS_SINCE,
                rounds=rules >= ROUNDS_COUNT_SINCE,
                choices=rules >= CHOICES_COUNT_SINCE,
            ),
            controlled=controlled,
            written=written,
            is_chosen=is_chosen,
            surveyed=surveyed,
        ),
        lambda program: steps_in(program.plan),
    )


def _program_key(  # noqa: PLR0913  # the arguments of `program_of`
    plan: Plan,
    lock: ToolsetLock,
    plans: Mapping[str, Plan],
    language: int,
    rules: int,
    controlled: Sequence[str],
    written: Sequence[str],
    *,
    is_chosen: bool = False,
) -> tuple[bytes, ...]:
    """Return everything that decides a program."""
    key = (
        f"{language} {rules} {int(is_chosen)} {' '.join(controlled)} / {' '.join(written)}".encode(),
        text_name(plan),
        lock.name,
    )
    return (
        key
        if not plans
        else (
            *key,
            *(part for name in sorted(plans) for part in (name.encode(), text_name(plans[name]))),
        )
    )


def program_key(header: Header) -> tuple[bytes, ...]:
    """Return everything that decides the program of a run, whose plan has been made."""
    return _program_key(*_sources_of(header))


def _sources_of(
    header: Header,
) -> tuple[Plan, ToolsetLock, Mapping[str, Plan], int, int, Sequence[str], Sequence[str]]:
    """Return what the program of a run is made of, as `program_of` takes it."""
    plan, fork = cast("Plan", header.plan), header.fork
    controlled, written = ((), ()) if fork is None else (fork.controlled, fork.written)
    return plan, header.lock, header.plans, header.language, header.rules, controlled, written


def find_program(key: tuple[bytes, ...]) -> Program | None:
    """Return the program of a key, if this process has it."""
    return _PROGRAMS.find(key)


def keep_program(key: tuple[bytes, ...], program: Program) -> None:
    """Remember a program that did not have to be compiled."""
    _PROGRAMS.keep(key, program, steps_in(program.plan))


def _name(data: object) -> bytes:
    """Return what names stored JSON; what was stored holds no NaN, which orjson would write as null."""
    return _NAMES.get(data, lambda given: sha256(orjson.dumps(given)).digest())


def steps_in(plan: Plan) -> int:
    """Return how many steps a plan has, those of its inner plans included."""
    return len(plan.steps) + sum(len(inner.steps) for inner in plan.plans.values())
