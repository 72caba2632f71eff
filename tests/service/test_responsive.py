"""A server answers everybody while somebody has it compute for long: checks and runs of hostile plans do not keep its event loop."""

from __future__ import annotations

import threading

import httpx2
import pytest
from served import END_S

ANSWERED_MIN = 5  # requests that are answered while one computation is under way: on the event loop it would be one at the most
PAUSE_S = 0.01  # between two requests: a flood of them would take longer than the computation


class Asking:
    """Asks `/healthz` again and again, in a thread, as long as the block lasts."""

    def __init__(self, url):
        self.answered = 0
        self._url = url
        self._is_over, self._has_begun = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self):
        with httpx2.Client(base_url=self._url, timeout=END_S) as client:
            while not self._is_over.is_set():
                assert client.get("/healthz").status_code == 200
                self.answered += 1
                self._has_begun.set()
                self._is_over.wait(PAUSE_S)

    def __enter__(self):
        self._thread.start()
        assert self._has_begun.wait(END_S)
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()


def plan_of(*values):
    """Return a plan of `set` steps."""
    steps = [{"id": f"s{number}", "set": f"${{{value}}}"} for number, value in enumerate(values)]
    return {"firmplan": 1, "steps": steps, "output": f"${{s{len(steps) - 1}}}"}


@pytest.mark.parametrize(("route", "items"), [("/v1/plans:check", 700_000), ("/v1/runs", 710_000)])
def test_the_check_of_a_hostile_plan_keeps_nobody_waiting(server, route, items):
    """Constant expressions, each within its own bound, that take far more work together than a check may spend."""
    plan = plan_of(*[f"len([str(x) for x in range({items + number})])" for number in range(8)])
    with Asking(server.url) as asking:
        before = asking.answered
        answer = server.post(route, {"plan": plan})
        answered = asking.answered - before
    found = answer.json()
    assert answer.status_code in (200, 422)
    assert [(each["code"], each["path"]) for each in found["problems"]] == [
        ("limit-exceeded", "$.steps[1].set")
    ]
    assert "more than 5000000 operations" in found["problems"][0]["message"]
    assert answered >= ANSWERED_MIN


def test_a_run_of_dear_expressions_keeps_nobody_waiting(server):
    """Each expression is within its bound; others get their turn between them, and while the run is replayed."""
    steps = [
        {"id": f"s{number}", "set": f"${{len([str(x) for x in range(inputs.n + {number})])}}"}
        for number in range(2 * ANSWERED_MIN)
    ]
    inputs = {"n": {"type": "integer", "default": 130_000}}
    plan = {"firmplan": 1, "inputs": inputs, "steps": steps, "output": "${s0}"}
    with Asking(server.url) as asking:
        before = asking.answered
        run = server.post("/v1/runs", {"plan": plan}).json()["id"]
        types = [event["type"] for _, event in server.events(run)]
        answered = asking.answered - before
    assert types.count("WorkContinued") >= ANSWERED_MIN
    assert answered >= ANSWERED_MIN
    found = server.wait(run)
    assert (found["status"], found["output"]) == ("succeeded", 130_000)
    with Asking(server.url) as asking:
        before = asking.answered
        again = server.post(f"/v1/runs/{run}/replay")
        answered = asking.answered - before
    assert again.json()["digest"] == found["digest"]
    assert answered >= ANSWERED_MIN
