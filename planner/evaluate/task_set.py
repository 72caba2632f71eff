"""Sets of tasks that planners are measured by: the tasks, their tools, and the expectations of a plan.

    eval: 1
    groups:
      - tools: ../research/tools.py
        tasks:
          - id: names
            task: List the names of the texts in texts
            expect: {forbidden: [extract], answer: {contains: [roemer_1676]}}
            solution:
              steps: [{id: t, tool: read_texts, args: {folder: texts}}]
              output: ${[x.name for x in t]}

    labels:
      - {id: no_question, task: How many texts are there?, better: {steps: [..]}, worse: {steps: [..]}}
      - {id: no_names, of: names, worse: {steps: [..]}, about: it gives texts}
      - {id: the_same, of: names, even: [{steps: [..]}, {steps: [..]}]}

`solution` is one good plan: steps and edges are measured against it, and the tools that it calls must be called, unless `expect.tools`
names others. `labels` are pairs of plans that people have compared, or the name of a file with a list of pairs: a judge is measured by
them before it is believed. `of` names a task, whose solution is the better plan unless `better` gives one. Paths are relative to the
set's file. YAML or JSON; sets of function calling in JSON lines have their own form (`json_lines.py`).

    library: plans
    groups: [{tools: fakes.py, fakes: true, tasks: [{id: a, task: .., expect: {plan: weekly_report}}]}]

`library` is a folder of saved plans, which planners may use; `expect.plan` names the one that should answer a task. `fakes: true` says that the tools of a file touch nothing
outside the process: then plans that write are run too, and the file is loaded anew for each run.

    guards: [{personal_data: true}]
    swaps:
      names: {emily: {name: Emily Walsh, they: she}, jamal: {name: Jamal Jones, they: he}}

`guards` (of the set, and of a task) are asked about each output of a run; they are measured and refuse nothing. A task with `swaps: names` is planned and
run once for each variant, with its texts for `{name}` and `{they}` in the task, the inputs and the expected answer; `compare: [decision]` names the parts of the
output that are compared (`bias.py`). A task may write its variants itself: `swaps: {emily: {..}, jamal: {..}}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from ...errors import ConfigError, FirmplanError
from ...plans.format.load import read_source
from ...plans.format.shape import draft_of
from ...plans.plan import Plan, ToolStep
from ...plans.reports.nearest import did_you_mean, listing
from ...plans.values import Json, NotJson, canonical
from ...tools.guards.guard import Guard, check_guards
from ...tools.toolset import Toolset
from ..library.library import Library, SavedPlan
from .bias import Swap, filled, is_path
from .expected_calls import ExpectedCall
from .json_lines import FakeTools, LineTask, is_json_lines, read_json_lines

FORMAT = 1
VARIANTS_MAX = 20  # of one swap: each is planned and run for every sample
_TASK_KEYS = ("id", "task", "inputs", "expect", "solution", "guards", "swaps", "compare")
_GROUP_KEYS = ("tools", "tasks", "fakes")
_EXPECT_KEYS = ("tools", "forbidden", "answer", "steps_max", "plan")
_LABEL_KEYS = ("id", "task", "of", "better", "worse", "even", "about")
_ANSWER_KEYS = ("equals", "contains", "schema")


@dataclass(frozen=True, slots=True)
class Expected:
    """The expectations of a plan for a task; an expectation that is `None` is not looked at.

    Attributes:
        tools: Tools that must be called.
        forbidden: Tools that must not be called.
        answer: `{"equals": value}`, `{"contains": value or list}` or `{"schema": JSON Schema}` of a run's output.
        steps_max: The most steps.
        solution: One good plan.
        plan: The name of the saved plan that answers the task.
        calls: The calls that a run should make, no other.
    """

    tools: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    answer: Mapping[str, Json] | None = None
    steps_max: int | None = None
    solution: Plan | None = None
    plan: str | None = None
    calls: tuple[ExpectedCall, ...] | None = None


@dataclass(frozen=True, slots=True)
class EvalTask:
    """One task of a set.

    Attributes:
        guards: Guards that are asked about the output of a run.
        swap: The words that are swapped; `None`: none.
        variant: Which variant of the swap this is; empty: none, or all of them.
        fakes: Makes the tools anew for one run; `None`: the tools are real, so that nothing that writes is called.
    """

    id: str
    task: str
    tools: Toolset
    inputs: Mapping[str, Json] = field(default_factory=dict[str, Json])
    expected: Expected = field(default_factory=Expected)
    folder: Path = Path()
    guards: tuple[Guard, ...] = ()
    swap: Swap | None = None
    variant: str = ""
    fakes: Callable[[], FakeTools] | None = None

    def variants(self) -> list[EvalTask]:
        """Return the task once for each variant of its swap, with the words of the variant; without a swap the task itself."""
        if self.swap is None:
            return [self]
        return [self._with(name, words) for name, words in self.swap.variants.items()]

    def _with(self, variant: str, words: Mapping[str, str]) -> EvalTask:
        answer = self.expected.answer
        wanted = cast("Mapping[str, Json] | None", None if answer is None else filled(dict(answer), words))
        inputs = cast("dict[str, Json]", filled(dict(self.inputs), words))
        return replace(
            self,
            task=cast("str", filled(self.task, words)),
            inputs=inputs,
            expected=replace(self.expected, answer=wanted),
            variant=variant,
        )


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """Two plans for one task that people have compared.

    Attributes:
        better: The better plan; if they are even, one of them.
        even: Whether people found them equally good.
        about: The reason, in words.
    """

    id: str
    task: str
    better: Plan
    worse: Plan
    even: bool = False
    about: str = ""


@dataclass(frozen=True, slots=True)
class TaskSet:
    """Tasks that planners are measured by, and pairs of plans that judges are measured by.

    Attributes:
        library: Saved plans that may answer tasks.
    """

    name: str
    tasks: tuple[EvalTask, ...]
    labels: tuple[LabelledPair, ...] = ()
    library: tuple[SavedPlan, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> TaskSet:
        """Read a set from a file: YAML, JSON, or JSON lines (`json_lines.py`). Raises: ConfigError: an entry is not valid; the message names it."""
        file = Path(path)
        if is_json_lines(file):
            return cls(file.stem, tuple(_line_task(file, each) for each in read_json_lines(file)))
        try:
            document = read_source(file).value
        except (OSError, ValueError, FirmplanError) as error:
            raise ConfigError(f"expected a set of tasks, found {file}: {error}") from error
        match document:
            case {"eval": 1, "groups": list(groups), **rest}:
                swaps = _swaps(f"{file}: swaps", cast("Json", rest.get("swaps")))
                tasks = [
                    task for index, group in enumerate(groups) for task in _group(file, index, group, swaps)
                ]
                shared = _guards(f"{file}", cast("Json", rest.get("guards")))
                tasks = [replace(task, guards=(*shared, *task.guards)) for task in tasks]
            case _:
                raise ConfigError(f'{file}: expected {{"eval": {FORMAT}, "groups": [..]}}')
        # Labels name tasks by their ids.
        ids = [task.id for task in tasks]
        if twice := next((each for each in ids if ids.count(each) > 1), None):
            raise ConfigError(f"{file}: expected an id of its own for each task, found '{twice}' twice")
        where, labels = _listed_labels(file, cast("Json", rest.get("labels")))
        known = {task.id: task for task in tasks}
        compared = tuple(_label(f"{where}[{index}]", each, known) for index, each in enumerate(labels))
        library = _library(file, cast("Json", rest.get("library")))
        for task in tasks:
            _check_saved(file, task, library)
        return cls(str(rest.get("name") or file.stem), tuple(tasks), compared, library)

    def only(self, ids: Sequence[str]) -> TaskSet:
        """Return the set with only the tasks of these ids. Raises: ConfigError: there is no such task."""
        known = [task.id for task in self.tasks]
        for each in ids:
            if each not in known:
                raise ConfigError(
                    f"{self.name}: expected the id of a task, found '{each}'; {did_you_mean(each, known)}"
                )
        return replace(self, tasks=tuple(task for task in self.tasks if task.id in ids))


def _group(file: Path, index: int, group: Json, swaps: Mapping[str, Swap]) -> list[EvalTask]:
    where = f"{file}: groups[{index}]"
    match group:
        case {"tools": str(tools), "tasks": list(tasks), **rest}:
            _check_keys(where, cast("Mapping[str, object]", group), _GROUP_KEYS)
            path = file.parent / tools
            source = str(path) if path.suffix == ".py" else tools
            toolset = Toolset.load(source)
            folder = path.parent if path.suffix == ".py" else file.parent
            fakes = _fakes_of(where, source, cast("Json", rest.get("fakes", False)))
            found = [
                _task(f"{where}.tasks[{number}]", each, toolset, folder, swaps)
                for number, each in enumerate(tasks)
            ]
            return [replace(task, fakes=fakes) for task in found]
        case _:
            raise ConfigError(
                f'{where}: expected {{"tools": file or module, "tasks": [..]}}, found {group!r}'
            )


def _fakes_of(where: str, source: str, given: Json) -> Callable[[], FakeTools] | None:
    """Return what makes the fakes of a group anew, so that each run finds the state in which the file begins. Raises: ConfigError."""
    if not isinstance(given, bool):
        raise ConfigError(f"{where}.fakes: expected true or false, found {given!r}")
    if given and not source.endswith(".py"):
        # A module stays loaded, and with it the state that an earlier run has left.
        raise ConfigError(
            f"{where}.fakes: expected a file of tools, which is loaded anew for each run, found {source}"
        )
    return (lambda: FakeTools(Toolset.load(source))) if given else None


def _library(file: Path, given: Json) -> tuple[SavedPlan, ...]:
    """Return the saved plans of a set. Raises: ConfigError."""
    if given is None:
        return ()
    if not isinstance(given, str):
        raise ConfigError(f"{file}: library: expected a folder of plans, found {given!r}")
    return tuple(Library(file.parent / given).plans())


def _check_saved(file: Path, task: EvalTask, library: Sequence[SavedPlan]) -> None:
    """Expect that the saved plan which a task names is there. Raises: ConfigError."""
    wanted, known = task.expected.plan, [each.name for each in library]
    if wanted is not None and wanted not in known:
        hint = did_you_mean(wanted, known, f"known are {listing(known)}")
        raise ConfigError(
            f"{file}: task '{task.id}': expected a saved plan of 'library', found '{wanted}'; {hint}"
        )


def _line_task(file: Path, line: LineTask) -> EvalTask:
    """Return the task of a line. Raises: ConfigError."""
    where = f"{file}: task '{line.id}'"
    expected = _expected(where, cast("dict[str, Any]", dict(line.expect)), None, line.task)
    if line.calls is not None:
        names = tuple(dict.fromkeys(call.tool for call in line.calls))
        expected = replace(expected, calls=line.calls, tools=expected.tools or names)
    return EvalTask(
        line.id, line.task, line.fakes().tools, line.inputs, expected, file.parent, fakes=line.fakes
    )


def _task(where: str, entry: Json, tools: Toolset, folder: Path, swaps: Mapping[str, Swap]) -> EvalTask:
    match entry:
        case {"id": str(id_), "task": str(task), **rest}:
            _check_keys(where, cast("Mapping[str, object]", entry), _TASK_KEYS)
            inputs = cast("dict[str, Json]", rest.get("inputs") or {})
            expect = cast("dict[str, Any]", rest.get("expect") or {})
            made = EvalTask(
                id_,
                task,
                tools,
                inputs,
                _expected(where, expect, cast("Json", rest.get("solution")), task),
                folder,
                _guards(where, cast("Json", rest.get("guards"))),
            )
            return _with_swap(where, made, cast("dict[str, Json]", rest), swaps)
        case _:
            raise ConfigError(f'{where}: expected {{"id": .., "task": ..}}, found {entry!r}')


def _guards(where: str, given: Json) -> tuple[Guard, ...]:
    """Return the guards of a set or a task. Raises: ConfigError."""
    if not isinstance(given, list | None):
        raise ConfigError(f"{where}.guards: expected a list of guards, found {given!r}")
    check_guards(where, given or [])
    return tuple(cast("list[dict[str, Json]]", given or []))


def _swaps(where: str, given: Json) -> dict[str, Swap]:
    """Return the swaps of a set, by name. Raises: ConfigError."""
    if not isinstance(given, dict | None):
        raise ConfigError(f"{where}: expected names with their variants, found {given!r}")
    return {name: _swap(f"{where}.{name}", name, variants) for name, variants in (given or {}).items()}


def _swap(where: str, name: str, given: Json) -> Swap:
    """Return a swap. Raises: ConfigError: there are too few or too many variants, two are alike, or their words differ."""
    if not isinstance(given, dict) or not 2 <= len(given) <= VARIANTS_MAX:
        raise ConfigError(
            f"{where}: expected 2 to {VARIANTS_MAX} variants, such as {{emily: {{name: Emily}}, jamal: {{name: Jamal}}}}, found {given!r}"
        )
    variants: dict[str, dict[str, str]] = {}
    for variant, words in given.items():
        if (
            not isinstance(words, dict)
            or not words
            or not all(isinstance(each, str) for each in words.values())
        ):
            raise ConfigError(f"{where}.{variant}: expected words with their texts, found {words!r}")
        variants[variant] = cast("dict[str, str]", words)
    first = next(iter(variants.values()))
    for variant, texts in variants.items():
        if set(texts) != set(first):
            raise ConfigError(
                f"{where}.{variant}: expected the words {listing(sorted(first))}, found {listing(sorted(texts))}"
            )
        if twin := next((each for each in variants if each != variant and variants[each] == texts), None):
            raise ConfigError(
                f"{where}.{variant}: expected other texts than those of '{twin}', found the same"
            )
    return Swap(name, variants)


def _with_swap(where: str, task: EvalTask, entry: Mapping[str, Json], swaps: Mapping[str, Swap]) -> EvalTask:
    """Return a task with its swap and the paths that are compared. Raises: ConfigError."""
    given, compare = entry.get("swaps"), entry.get("compare")
    if given is None:
        if compare is not None:
            raise ConfigError(f"{where}.compare: expected 'swaps' beside it, found none")
        return task
    if isinstance(given, str):
        if given not in swaps:
            hint = did_you_mean(given, swaps, f"known are {listing(swaps)}")
            raise ConfigError(f"{where}.swaps: expected a swap of the set, found '{given}'; {hint}")
        swap = swaps[given]
    else:
        swap = _swap(f"{where}.swaps", task.id, given)
    paths = [compare] if isinstance(compare, str) else compare if isinstance(compare, list) else []
    for each in paths if compare is not None else ():
        if not isinstance(each, str) or not is_path(each):
            raise ConfigError(
                f"{where}.compare: expected a path such as decision or reasons[0].code, found {each!r}"
            )
    if compare is not None and not paths:
        raise ConfigError(f"{where}.compare: expected a list of paths, found {compare!r}")
    text = task.task + canonical(dict(task.inputs)).decode()
    for word in swap.words:
        # A word that the task never says would make all variants one task, and hide every difference.
        if f"{{{word}}}" not in text:
            raise ConfigError(
                f"{where}: expected {{{word}}} in the task or its inputs, since it is swapped, found it in neither"
            )
    return replace(task, swap=replace(swap, paths=tuple(cast("list[str]", paths))))


def _expected(where: str, expect: dict[str, Any], solution: Json, task: str) -> Expected:
    _check_keys(f"{where}.expect", expect, _EXPECT_KEYS)
    plan = None if solution is None else _plan(f"{where}.solution", task, solution)
    answer = expect.get("answer")
    if answer is not None:
        _check_keys(f"{where}.expect.answer", cast("dict[str, Any]", answer), _ANSWER_KEYS)
        _check_json(f"{where}.expect.answer", answer)
    steps = () if plan is None else plan.steps
    called = tuple(dict.fromkeys(step.tool for step in steps if isinstance(step, ToolStep)))
    return Expected(
        tuple(expect.get("tools", called)),
        tuple(expect.get("forbidden", ())),
        answer,
        expect.get("steps_max"),
        plan,
        expect.get("plan"),
    )


def _listed_labels(file: Path, given: Json) -> tuple[str, list[Json]]:
    """Return the labels and their place: the set, or a file beside it. Raises: ConfigError."""
    where = f"{file}: labels"
    if isinstance(given, str):
        beside = file.parent / given
        where = str(beside)
        try:
            given = read_source(beside).value
        except (OSError, ValueError, FirmplanError) as error:
            raise ConfigError(
                f"{file}: labels: expected a list, or a file with one, found {given}: {error}"
            ) from error
    if not isinstance(given, list | None):
        raise ConfigError(f"{where}: expected a list of labels, found {given!r}")
    return where, given or []


def _label(where: str, entry: Json, tasks: Mapping[str, EvalTask]) -> LabelledPair:
    """Return a label. Raises: ConfigError."""
    given = cast("dict[str, Json]", entry if isinstance(entry, dict) else {})
    _check_keys(where, given, _LABEL_KEYS)
    about = str(given.get("about", ""))
    match given:
        case {"id": str(id_), "even": [one, other]}:
            task, _ = _compared(where, given, tasks)
            pair = _plan(f"{where}.even[0]", task, one), _plan(f"{where}.even[1]", task, other)
            return LabelledPair(id_, task, *pair, even=True, about=about)
        case {"id": str(id_), "worse": worse}:
            task, solution = _compared(where, given, tasks)
            better = _plan(f"{where}.better", task, given["better"]) if "better" in given else solution
            if better is not None:
                return LabelledPair(id_, task, better, _plan(f"{where}.worse", task, worse), about=about)
        case _:
            pass
    raise ConfigError(
        f'{where}: expected {{"id": .., "task" or "of": .., "better": plan, "worse": plan}}, found {entry!r}'
    )


def _compared(
    where: str, entry: Mapping[str, Json], tasks: Mapping[str, EvalTask]
) -> tuple[str, Plan | None]:
    """Return the task of a label, and its solution if one is known. Raises: ConfigError."""
    match entry:
        case {"of": str(id_)}:
            if id_ not in tasks:
                raise ConfigError(
                    f"{where}.of: expected the id of a task, found '{id_}'; {did_you_mean(id_, list(tasks))}"
                )
            return tasks[id_].task, tasks[id_].expected.solution
        case {"task": str(task)}:
            return task, None
        case _:
            raise ConfigError(f'{where}: expected "task" or "of", found neither')


def _plan(where: str, task: str, given: Json) -> Plan:
    """Return a plan that is written without its version and task. Raises: ConfigError."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where}: expected a plan, found {given!r}")
    draft = draft_of({"firmplan": 1, "task": task, **cast("Mapping[str, Any]", given)})
    if draft.plan is None or not draft.whole:
        raise ConfigError(f"{where}: {'; '.join(map(str, draft.problems))}")
    return draft.plan


def _check_keys(where: str, given: Mapping[str, object], known: Sequence[str]) -> None:
    for key in given:
        if key not in known:
            hint = did_you_mean(str(key), known, f"known are {listing(known)}")
            raise ConfigError(f"{where}: found the unknown key '{key}'; {hint}")


def _check_json(where: str, value: object) -> None:
    try:
        canonical(value)
    except NotJson as error:
        raise ConfigError(f"{where}: expected JSON: {error}") from error
