"""Measure planning on the evaluation sets of this repository, without a model, and write the tables of `docs/PLANNING.md`.

    python scripts/planning.py            # write the tables
    python scripts/planning.py --print    # only print them

Two sets run from recorded traffic, one with a scripted model that gives each task the set's own solution. Everything goes through the production
code: HTTP, parsing, the check, the engine. What depends on the machine, such as time, is in no table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "PLANNING.md"
SETS = ROOT / "examples" / "evals"
RECORDED = (("desk.yaml", ("--replan", "1")), ("calls.jsonl", ()))
"""The sets with recorded traffic, and how their plans are run."""


def main() -> None:
    """Write or print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--print", action="store_true", dest="is_printed", help="print the tables only")
    made = tables()
    if parser.parse_args().is_printed:
        sys.stdout.write("\n\n".join(made.values()) + "\n")
        return
    text = PAGE.read_text(encoding="utf-8")
    for name, table in made.items():
        text = re.sub(
            rf"(<!-- {name} -->\n)(.*?)(<!-- end -->)",
            lambda found, table=table: found[1] + table + "\n" + found[3],
            text,
            flags=re.DOTALL,
        )
    PAGE.write_text(text, encoding="utf-8")


def tables() -> dict[str, str]:
    """Return the tables of the page, by the names of their places in it."""
    found = [(f"`recorded/{name}`, recorded", recorded(name, *words)) for name, words in RECORDED]
    return {
        "quality": quality([("`starter.yaml`, scripted", scripted()), *found]),
        "cost": cost(found),
        "size": size(),
    }


def recorded(name: str, *words: str) -> dict[str, Any]:
    """Return the evaluation of a set from its recorded traffic, as `firmplan eval --json` has it."""
    kept = {key: value for key, value in os.environ.items() if "FIRMPLAN" not in key and "OPENAI" not in key}
    traffic = f"{Path(name).stem}.traffic.jsonl"
    command = ["traffic", "--replay", traffic, "eval", name, "--against", "react", "--json", *words]
    done = subprocess.run(  # this interpreter, with words from above
        [sys.executable, "-m", "firmplan", *command],
        cwd=SETS / "recorded",
        env=kept,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def scripted() -> dict[str, Any]:
    """Return the evaluation of the starter set with a model that gives each task the set's solution; its plans are not run."""
    from firmplan import Planner  # noqa: PLC0415  # the command line's help needs none of it
    from firmplan.planner.evaluate.measuring import measure  # noqa: PLC0415
    from firmplan.planner.evaluate.task_set import TaskSet  # noqa: PLC0415
    from firmplan.testing import ScriptedModel, unmarked  # noqa: PLC0415

    known = TaskSet.load(SETS / "starter.yaml")
    solutions = {task.task.strip(): task.expected.solution for task in known.tasks}

    def answer(request: dict[str, Any]) -> Any:  # noqa: ANN401  # any reply
        asked = unmarked(request["messages"][1]["content"]).rpartition("# Task\n\n")[2]
        plan = solutions[asked.partition("\n\n#")[0].strip()]
        return None if plan is None else plan.to_dict()

    async def run() -> dict[str, Any]:
        async with ScriptedModel(answer) as model:
            measured = await measure(known, {"scripted": Planner("m", base_url=model.base_url)})
            return measured.to_dict()

    return asyncio.run(run())


def quality(found: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Return the table of right plans and answers."""
    rows = []
    for name, measured in found:
        (summary,) = measured["planners"]
        retrieval = {each["what"]: each for each in measured["retrieval"]}.get("tools", {})
        rows.append(
            [
                name,
                str(summary["samples"]),
                *map(share, (summary["valid_first"], summary["good"])),
                *(share(summary.get(key)) for key in ("answer_first", "answer")),
                *(number(retrieval.get(key), 2) for key in ("mrr", "ndcg@5")),
            ]
        )
    head = [
        "set, model",
        "tasks",
        "valid at first",
        "good",
        "right at first",
        "right after patch",
        "MRR",
        "NDCG@5",
    ]
    return table(head, rows)


def cost(found: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Return the table of plans against ReAct loops."""
    rows = []
    for name, measured in found:
        against = measured["planners"][0]["against"]
        for who in ("planned", "react"):
            spent = against[who]
            rows.append(
                [
                    name,
                    "plan" if who == "planned" else "ReAct",
                    share(spent["right"]),
                    *(str(spent[key]) for key in ("requests", "prompt_tokens", "completion_tokens")),
                    number(spent["usd"], 4),
                    number(against["output_ratio"], 1) if who == "planned" else "",
                ]
            )
    head = [
        "set, model",
        "by",
        "right",
        "requests",
        "tokens read",
        "tokens written",
        "US dollars",
        "written, to ReAct's",
    ]
    return table(head, rows)


def size() -> str:
    """Return the table of what a first request costs, by the number of tools."""
    from firmplan import Planner, Toolset  # noqa: PLC0415  # as above

    desk = Toolset.load(str(SETS / "recorded" / "desk.py"))
    rows = []
    for count in (0, 1, 3, 5):
        preview = Planner("m").preview("What is to be done?", list(desk)[:count])
        sizes = (preview.prompt_tokens, preview.schema_tokens, preview.prompt_tokens + preview.schema_tokens)
        rows.append([str(count), *map(str, sizes)])
    return table(["tools", "prompt", "schema", "together"], rows)


def share(value: float | None) -> str:
    """Return a share in words of a table."""
    return "-" if value is None else f"{value:.0%}".replace("%", " %")


def number(value: float | None, places: int) -> str:
    """Return a number in words of a table."""
    return "-" if value is None else f"{value:.{places}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
