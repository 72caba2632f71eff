"""The data card of a fine-tuning set: what is in it, where it is from, what was left out and why, as Markdown.

Whoever gets the set without the store needs no more to decide whether it may be used. The card quotes no message. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import __version__

if TYPE_CHECKING:
    from .export import Example, LeftOut, TrainingExport

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


def data_card(  # what a card says
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
