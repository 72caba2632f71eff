"""Measure the recorded and scripted evaluation sets, and write the tables of `docs/PLANNING.md`.

    python scripts/planning.py            # write them
    python scripts/planning.py --check    # exit with 1 if they are not what is measured

Nothing but this checkout is needed: the answers of models come from recordings, and rankings need no model. What stands between the marks is made here; the rest of
the page is written by hand.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "PLANNING.md"
BEGIN = "<!-- measured: made by scripts/planning.py; `make docs` makes it again -->"
END = "<!-- end of measured -->"
EVALS = ROOT / "examples" / "evals"
RECORDED = EVALS / "recorded"
RANKED = ("starter.yaml", "simple/simple.yaml", "recorded/desk.yaml", "recorded/calls.jsonl")

Runner: TypeAlias = Callable[[Sequence[str], Mapping[str, str]], str]


def run_python(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run `python` with these words in the folder of the recordings; return its output."""
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=RECORDED, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def evaluated(name: str, file: str, run: Runner) -> dict[str, Any]:
    """Return the summary of an evaluation that runs from its recording."""
    environment = {
        key: value for key, value in os.environ.items() if "FIRMPLAN" not in key and "OPENAI" not in key
    }
    command = ("traffic", "--replay", f"{name}.traffic.jsonl", "eval", file)
    words = ("-m", "firmplan", *command, "--replan", "1", "--against", "react", "--json")
    document: dict[str, Any] = json.loads(run(words, environment))
    summary: dict[str, Any] = document["planners"][0]
    return summary


def runs(run: Runner) -> str:
    """Return the table of the sets that are planned and run from recordings."""
    head = (
        "set",
        "tasks",
        "valid at first",
        "right at first",
        "right after patches",
        "right calls",
        "saved plan answers",
        "ReAct right",
        "requests, plans : ReAct",
        "output tokens, plans : ReAct",
        "ratio",
    )
    rows: list[tuple[str, ...]] = []
    for name, file in (("desk", "desk.yaml"), ("calls", "calls.jsonl")):
        each = evaluated(name, file, run)
        plan, react = each["against"]["planned"], each["against"]["react"]
        rows.append(
            (
                f"[`{file}`](../examples/evals/recorded/{file})",
                str(each["samples"]),
                *(_share(each[part]) for part in ("valid_first", "answer_first", "answer", "calls", "saved")),
                _share(react["right"]),
                f"{plan['requests']} : {react['requests']}",
                f"{plan['completion_tokens']} : {react['completion_tokens']}",
                f"{each['against']['output_ratio']:.2f}",
            )
        )
    return _table(head, rows)


def retrieval() -> str:
    """Return the table of how well words find tools and saved plans."""
    from firmplan.planner.evaluate.ranking import retrieval_of  # noqa: PLC0415  # loads the planner
    from firmplan.planner.evaluate.task_set import TaskSet  # noqa: PLC0415

    rows: list[tuple[str, ...]] = []
    for file in RANKED:
        tasks = TaskSet.load(EVALS / file)
        rows += [
            (
                f"[`{Path(file).name}`](../examples/evals/{file})",
                each.what,
                str(each.tasks),
                str(each.documents),
                f"{each.mrr:.3f}",
                f"{each.ndcg:.3f}",
            )
            for each in retrieval_of(tasks.tasks, tasks.library)
        ]
    return _table(("set", "of", "tasks", "among", "MRR", "NDCG@5"), rows)


def scripted() -> str:
    """Return the table of the starter set, for a model on loopback that gives each task the solution of the set."""
    from firmplan import Planner  # noqa: PLC0415  # as above
    from firmplan.planner.evaluate.measuring import measure  # noqa: PLC0415
    from firmplan.planner.evaluate.task_set import TaskSet  # noqa: PLC0415
    from firmplan.testing import ScriptedModel, unmarked  # noqa: PLC0415

    known = TaskSet.load(EVALS / "starter.yaml")
    solutions = {task.task.strip(): task.expected.solution for task in known.tasks}

    def answer(request: dict[str, Any]) -> Any:  # noqa: ANN401  # any reply
        asked = unmarked(request["messages"][1]["content"]).rpartition("# Task\n\n")[2]
        plan = solutions[asked.strip()]
        return None if plan is None else plan.to_dict()

    async def measured() -> dict[str, Any]:
        async with ScriptedModel(answer) as model:
            return (await measure(known, {"scripted": Planner("m", base_url=model.base_url)})).to_dict()

    (each,) = asyncio.run(measured())["planners"]
    shares = (_share(each[part]) for part in ("valid_first", "tools", "steps", "edges", "good"))
    row = ("[`starter.yaml`](../examples/evals/starter.yaml)", str(each["samples"]), *shares)
    return _table(("set", "tasks", "valid at first", "tools", "steps", "edges", "good"), [row])


def sizes() -> str:
    """Return the table of what a first request takes, in hundreds of estimated tokens, so that a word more changes no page."""
    from firmplan import Planner, Toolset  # noqa: PLC0415  # as above

    desk = list(Toolset.load(str(RECORDED / "desk.py")))
    previews = [(count, Planner("m").preview("What is to be done?", desk[:count])) for count in (0, 1, 3, 5)]
    rows = [
        (str(count), *(str(round(size, -2)) for size in (each.prompt_tokens, each.schema_tokens)))
        for count, each in previews
    ]
    return _table(("tools", "prompt", "schema of the answer"), rows)


def page(text: str, run: Runner = run_python) -> str:
    """Return the page with the tables as they are measured now; `run` carries out the evaluations."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    parts = [
        "### Plans and a ReAct loop, from recordings",
        runs(run),
        "### Plans of a model that gives the sets' own solutions",
        scripted(),
        "### Tokens of a first request",
        sizes(),
        "### Retrieval by words",
        retrieval(),
    ]
    return f"{before}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{END}{after}"


def main() -> int:
    """Write the page, or compare it."""
    text = PAGE.read_text(encoding="utf-8")
    made = page(text)
    if "--check" in sys.argv[1:]:
        if made != text:
            print("docs/PLANNING.md is not what is measured: run `make docs`")
        return int(made != text)
    PAGE.write_text(made, encoding="utf-8")
    return 0


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ("---",) * len(head), *rows))


if __name__ == "__main__":
    raise SystemExit(main())
