"""`export_training`: good runs of an engine's store as a fine-tuning set in chat format, and a data card beside it.

    await export_training(engine, "planner.jsonl", kind="planner", runs=None)

| kind | one example | of which runs |
| --- | --- | --- |
| `planner` | the request for a plan, and the accepted plan | whose plan a model wrote |
| `steps` | the question of one `ask` step or `@agent` tool, and the accepted answer | that have such steps |

A run is good if it succeeded, its plan leaves nothing of the task out, and the verdicts, where some are handed in, say so. Answers have passed their schemas and guards; otherwise their
steps had failed. Of several examples with one question the one of the best and then the newest run stays.

An example that holds a secret is left out, and no option brings it in. Masking was rejected: a model would learn to write masks, and a secret that is
masked at one of two places is told. Data with labels (untrusted, private) is left out unless the caller names the label.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from .. import __version__
from ..errors import ConfigError, FirmplanError, InputRejected, RunNotFound
from ..plans.reports.nearest import did_you_mean, listing
from ..plans.values import Json, canonical
from ..tools.private_file import private_opener
from .verdicts import THRESHOLD, Verdicts

if TYPE_CHECKING:
    from ..engine import Engine
    from ..executor import Run
    from ..tools.models.completion import Message
    from ..tools.secret import SecretFinder

Kind: TypeAlias = Literal["planner", "steps"]
Label: TypeAlias = Literal["untrusted", "private"]
PAGE: Final = 500
"""Runs that are listed at a time."""

NOT_SUCCEEDED: Final = "the run has not succeeded"
REPLAY: Final = "the run is a kept replay of another"
UNDONE: Final = "the plan leaves out a part of its task"
NOT_JUDGED: Final = "no verdict says how good the run is"
JUDGED_BAD: Final = "the verdict on the run is below the threshold"
NO_MODEL: Final = "no model wrote the plan for its task: it was given, saved, or filled in"
A_PATCH: Final = "the plan is a patch, whose question shows a failed run"
NO_QUESTION: Final = "the run has no model step that succeeded"
UNREADABLE: Final = "the run cannot be rebuilt from its journal"
SECRET: Final = "it holds a secret, or a text with the form of a key"  # noqa: S105  # a reason, no secret
LABELLED: Final = {
    "untrusted": "it holds untrusted data",
    "private": "it holds private data",
}
DUPLICATE: Final = "its question is that of another example"
_BY_MODEL: Final = ("model", "reused")
"""The sources of plans that a model wrote as a whole (`Planned.source`)."""


@dataclass(frozen=True, slots=True)
class Example:
    """One example of a set.

    Attributes:
        messages: The question.
        answer: What the model should answer.
        run: The run.
        step: The path of its step; empty: the plan itself.
        model: The model that answered, as far as it is recorded.
        labels: The labels of question and answer.
        score: The verdict on the run.
        created: When the run was made, in Unix seconds.
    """

    messages: tuple[Message, ...]
    answer: str
    run: str
    step: str = ""
    model: str = ""
    labels: frozenset[str] = frozenset()
    score: float = 1.0
    created: float = 0.0

    @property
    def source(self) -> str:
        """The run, with the step."""
        return f"{self.run}:{self.step}" if self.step else self.run

    @property
    def question(self) -> bytes:
        """What makes two examples contradict or repeat each other."""
        return canonical([[each.role, each.content] for each in self.messages])

    def to_dict(self) -> dict[str, Json]:
        """Return the example as a line of the file."""
        said: list[Json] = [{"role": each.role, "content": each.content} for each in self.messages]
        return {"messages": [*said, {"role": "assistant", "content": self.answer}]}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run, or a step of it, that is no example, and why."""

    source: str
    why: str


@dataclass(frozen=True, slots=True)
class TrainingExport:
    """A set that was written.

    Attributes:
        path: The file with one example a line.
        card: The file with the data card.
        examples: The number of examples.
        left_out: Reason -> how many runs or steps were left out for it, the most frequent reason first.
        digest: SHA-256 of the file.
    """

    path: Path
    card: Path
    kind: Kind
    examples: int
    left_out: dict[str, int]
    digest: str

    def to_dict(self) -> dict[str, Json]:
        """Return the export as JSON."""
        return {
            "path": str(self.path),
            "card": str(self.card),
            "kind": self.kind,
            "examples": self.examples,
            "left_out": dict(self.left_out),
            "digest": self.digest,
        }

    def __str__(self) -> str:
        lines = [f"{self.examples} examples in {self.path}; {self.card} says what they are"]
        lines += [f"left out: {count} because {why}" for why, count in self.left_out.items()]
        return "\n".join(lines)


async def export_training(  # noqa: PLR0913  # what a set is made of
    engine: Engine,
    path: str | PathLike[str],
    *,
    kind: Kind,
    runs: Sequence[str] | None = None,
    judged: Verdicts | str | PathLike[str] | None = None,
    at_least: float = THRESHOLD,
    include: Collection[Label] = (),
    card: str | PathLike[str] | None = None,
    licence: str = "",
) -> TrainingExport:
    """Write the good runs of an engine's store as a fine-tuning set, and its data card. Nothing is called and no model is asked.

    Args:
        engine: Has the store, and the tools as they are now.
        path: The file of examples; it is replaced.
        kind: What is learnt: to plan, or to answer the questions of steps.
        runs: Ids of runs; `None`: all runs of the store.
        judged: Verdicts on runs, or their file (`verdicts.py`): a run without one is left out. `None`: success is the verdict.
        at_least: The least score of a good run.
        include: Labels of data that may be in the set.
        card: The file of the data card; by default beside the examples, with the ending `.md`.
        licence: What the card says of the licence of the data.

    Raises:
        ConfigError: An argument is not valid, or a secret of the engine cannot be read.
        InputRejected: A file cannot be written.
        RunNotFound: There is no run of an id.
    """
    _check(kind, at_least, include)
    finder = engine.secret_finder()
    verdicts = Verdicts.load(judged) if isinstance(judged, str | PathLike) else judged
    selection = _Selection(engine, kind, verdicts, at_least, frozenset[str](include), finder)
    async for run in _runs_of(engine, runs):
        await selection.take(run)
    examples = selection.examples()
    lines = [json.dumps(each.to_dict(), ensure_ascii=False) + "\n" for each in examples]
    data = "".join(lines).encode("utf-8", "surrogatepass")
    target = Path(path)
    beside = target.with_suffix(".md") if card is None else Path(card)
    if beside == target:
        raise ConfigError(
            f"card: expected another file than that of the examples, found {beside}; name another file with --card, or card="
        )
    counts = Counter(each.why for each in selection.left_out)
    made = TrainingExport(
        target,
        beside,
        kind,
        len(examples),
        dict(sorted(counts.items(), key=lambda each: (-each[1], each[0]))),
        "sha256:" + hashlib.sha256(data).hexdigest(),
    )
    judge = "success alone" if verdicts is None else f"{verdicts.source}, at least {at_least:g}"
    text = _data_card(
        made, examples, selection.left_out, judge=judge, include=sorted(include), licence=licence
    )
    text = finder.masked(text)
    if finder.find(text) is not None:
        raise InputRejected(
            "the data card would hold a secret: a run or a step is named like one; name the runs that are to be exported"
        )
    await asyncio.to_thread(_write, {target: data, beside: text.encode()})
    return made


def _check(kind: object, at_least: object, include: Iterable[object]) -> None:
    """Check the settings of an export. Raises: ConfigError."""
    if kind not in get_args(Kind):
        raise ConfigError(f"kind: expected 'planner' or 'steps', found {kind!r}")
    if not isinstance(at_least, int | float) or isinstance(at_least, bool) or not 0 <= at_least <= 1:
        raise ConfigError(f"at_least: expected a score from 0 to 1, found {at_least!r}")
    if isinstance(include, str):
        raise ConfigError(f"include: expected a list of labels, found {include!r}")
    for each in include:
        if each not in LABELLED:
            hint = did_you_mean(str(each), LABELLED, f"known are {listing(LABELLED)}")
            raise ConfigError(f"include: expected a label, found {each!r}; {hint}")


async def _runs_of(engine: Engine, ids: Sequence[str] | None) -> AsyncGenerator[Run]:
    """Yield the runs, each once; of a store the newest first. Raises: RunNotFound: a named run is not there."""
    if ids is not None:
        for run_id in dict.fromkeys(ids):
            yield await engine.get(run_id)
        return
    cursor: str | None = None
    while True:
        page = await engine.list_runs(limit=PAGE, cursor=cursor)
        for summary in page.runs:
            try:
                yield await engine.get(summary.id)
            except RunNotFound:  # deleted meanwhile
                continue
        cursor = page.cursor
        if cursor is None:
            return


@dataclass(slots=True)
class _Selection:
    """Takes the examples of runs that are good and may leave."""

    engine: Engine
    kind: Kind
    verdicts: Verdicts | None
    at_least: float
    include: frozenset[str]
    finder: SecretFinder
    left_out: list[LeftOut] = field(default_factory=list[LeftOut])
    _found: list[Example] = field(default_factory=list[Example])

    async def take(self, run: Run) -> None:
        """Take the examples of a run, or note why there are none."""
        why = self._fault(run)
        if why is not None:
            self._leave_out(run.id, why)
            return
        score = 1.0 if self.verdicts is None else self.verdicts.scores[run.id]
        try:
            examples = await (self._plan(run) if self.kind == "planner" else self._answers(run))
        except FirmplanError:
            self._leave_out(run.id, UNREADABLE)
            return
        for example in examples:
            self._admit(replace(example, score=score, created=run.created or 0.0))

    def examples(self) -> list[Example]:
        """Return the examples, one for each question, the oldest run first; repetitions are noted."""
        best: dict[bytes, Example] = {}
        # The newest run comes last, and takes the place of an older one with the same score.
        for each in sorted(self._found, key=lambda each: (each.score, each.created, each.source)):
            if (other := best.pop(each.question, None)) is not None:
                self._leave_out(other.source, DUPLICATE)
            best[each.question] = each
        return sorted(best.values(), key=lambda each: (each.created, each.source))

    def _fault(self, run: Run) -> str | None:
        """Return why a run is not good enough; `None`: it is."""
        if run.is_replay:
            return REPLAY
        if run.status != "succeeded":
            return NOT_SUCCEEDED
        if run.left_out:
            return UNDONE
        if self.verdicts is not None:
            if run.id not in self.verdicts.scores:
                return NOT_JUDGED
            if self.verdicts.scores[run.id] < self.at_least:
                return JUDGED_BAD
        return None

    async def _plan(self, run: Run) -> list[Example]:
        found = await self.engine.recorded_planning(run.id)
        if found.source.startswith("patch of "):
            self._leave_out(run.id, A_PATCH)
        elif found.source not in _BY_MODEL:
            self._leave_out(run.id, NO_MODEL)
        elif found.unknown is not None:
            self._leave_out(run.id, found.unknown)
        else:
            labels = frozenset({"untrusted"} if found.is_untrusted else ())
            return [Example(found.messages, found.answer, run.id, labels=labels)]
        return []

    async def _answers(self, run: Run) -> list[Example]:
        found = await self.engine.model_calls(run.id)
        for step, why in found.unknown.items():
            self._leave_out(f"{run.id}:{step}", why)
        if not found.calls and not found.unknown:
            self._leave_out(run.id, NO_QUESTION)
        return [
            Example(
                each.messages,
                each.answer,
                run.id,
                each.step,
                each.model,
                frozenset[str](each.labels),
            )
            for each in found.calls
        ]

    def _admit(self, example: Example) -> None:
        """Keep an example, unless it may not leave."""
        # Secrets first: no label that is included brings one in.
        texts = [*(each.content for each in example.messages), example.answer]
        if any(self.finder.find(text) is not None for text in texts):
            self._leave_out(example.source, SECRET)
            return
        for label, why in LABELLED.items():
            if label in example.labels and label not in self.include:
                self._leave_out(example.source, why)
                return
        self._found.append(example)

    def _leave_out(self, source: str, why: str) -> None:
        self.left_out.append(LeftOut(source, why))


def _write(files: dict[Path, bytes]) -> None:
    """Write files that only their owner can read, each in one step. Raises: InputRejected: one cannot be written."""
    for path, data in files.items():
        half = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with open(half, "wb", opener=private_opener) as file:  # a `Path` takes no opener
                file.write(data)
            half.replace(path)
        except OSError as error:
            half.unlink(missing_ok=True)
            raise InputRejected(f"{path} cannot be written: {error.strerror or error}") from error


# --- The data card: what is in the set, where it is from, what was left out and why, as Markdown. Whoever gets the set without the store needs no
# more to decide whether it may be used. The card quotes no message.

SOURCES_MAX = 200
"""Runs, and left-out sources, that the card lists; the counts are of all."""

_WHAT = {
    "planner": "Each example is the request for a plan of one task, and the plan that was accepted and whose run succeeded.",
    "steps": "Each example is the question that one step asked a model, and the answer that passed its schema and its guards.",
}
_HOW = {
    "planner": (
        "Runs do not store the messages of a planner. The present code builds the requests again from the task, the names and types of the given inputs, and the present tools, "
        "whose descriptions and types are those of the runs. The requests are those of the full profile, without worked examples from saved plans and without rejected drafts."
    ),
    "steps": (
        "Runs store digests of prompts, not prompts. The code that built the questions builds them again, and their prompts have the recorded digests. The messages do not contain "
        "schemas, which are sent as parameters of the request. The set has no rejected answers and no turns of agents."
    ),
}


def _data_card(
    made: TrainingExport,
    examples: Sequence[Example],
    left_out: Sequence[LeftOut],
    *,
    judge: str,
    include: Sequence[str],
    licence: str,
) -> str:
    """Return the card.

    Args:
        made: What was written.
        examples: The examples.
        left_out: What is not among them.
        judge: What decided that a run is good.
        include: The labels of data that may be in the set.
        licence: The licence of the data.
    """
    runs = list(dict.fromkeys(each.run for each in examples))
    models = Counter(each.model or "not recorded" for each in examples)
    labels = Counter(label for each in examples for label in sorted(each.labels))
    sections = [
        f"# Data card of {made.path.name}",
        f"{_WHAT[made.kind]} Made by firmplan {__version__}.",
        _table(
            ("", "value"),
            [
                ("kind", made.kind),
                ("examples", str(made.examples)),
                ("runs", str(len(runs))),
                ("format", 'JSON lines, `{"messages": [..]}`, the last message is the assistant\'s'),
                ("digest", f"`{made.digest}`"),
                ("judged by", judge),
                (
                    "licence of the data",
                    licence or "not stated: tasks, tools and results belong to whoever ran them",
                ),
            ],
        ),
        f"## How the messages were made\n\n{_HOW[made.kind]}",
        "## Models\n\n" + _table(("model that gave the answer", "examples"), _counted(models)),
        "## Labels\n\n"
        + (
            f"Data with these labels is included: {', '.join(include)}.\n\n"
            if include
            else "Untrusted and private data was left out.\n\n"
        )
        + _table(("label", "examples"), _counted(labels) or [("none", str(made.examples))]),
        "## Left out\n\n"
        "Examples with a secret of the engine, a key of a model, a value of the environment that is named like a secret, or a text with the form of a key are always left out. Personal data "
        "was not looked for.\n\n" + _table(("why", "runs or steps"), _counted(made.left_out)),
        "## Sources\n\n" + _listed(runs),
    ]
    if left_out:
        sections.append(
            "## Sources that were left out\n\n" + _listed([f"{each.source}: {each.why}" for each in left_out])
        )
    return "\n\n".join(sections) + "\n"


def _counted(counts: Counter[str] | dict[str, int]) -> list[tuple[str, str]]:
    return [
        (name, str(count)) for name, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *(rows or [("none", "0")])]
    return "\n".join(f"| {' | '.join(_cell(each) for each in line)} |" for line in lines)


def _cell(text: str) -> str:
    """Return a text that stays within its cell."""
    return " ".join(text.replace("|", "\\|").split())


def _listed(sources: Sequence[str]) -> str:
    lines = [f"- {_cell(each)}" for each in sources[:SOURCES_MAX]]
    if len(sources) > SOURCES_MAX:
        lines.append(f"- and {len(sources) - SOURCES_MAX} more")
    return "\n".join(lines) or "none"
