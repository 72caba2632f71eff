"""A process that decides about runs as it is told, a line of JSON at a time: `python decision_child.py STORE NAME`.

`{"run", "step", "what": "approve" | "deny" | "done" | "retry" | "fail", "attempt"?}` is answered with `{"code": null}`, or with the code and
the message of what was raised. The first line that it prints says that it is ready.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from firmplan import Engine, FirmplanError


def decide(engine: Engine, name: str, told: dict[str, Any]) -> None:
    """Do as told."""
    place = {"run_id": told["run"], "step": told["step"], "by": name, "attempt": told.get("attempt")}
    match told["what"]:
        case "approve":
            engine.approve_sync(**place)
        case "deny":
            engine.deny_sync(**place, reason="no")
        case "done":
            engine.resolve_sync(**place, done="found")
        case "retry":
            engine.resolve_sync(**place, retry=True)
        case _:
            engine.resolve_sync(**place, fail="did nothing")


def main() -> None:
    """Answer until nothing more is told."""
    store, name = sys.argv[1:]
    with Engine([], store=store) as engine:
        engine.list_runs_sync()
        say({"ready": name})
        for line in sys.stdin:
            try:
                decide(engine, name, json.loads(line))
            except FirmplanError as error:
                say({"code": error.code, "message": error.message})
            else:
                say({"code": None, "message": ""})


def say(answer: dict[str, Any]) -> None:
    """Print one line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
