"""The invoices example: what is due is paid once, after a person has looked; everything else is listed."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import firmplan
import pytest
from firmplan import Engine, Plan, Toolset, check
from forked import Program

FOLDER = Path(firmplan.__file__).parent / "examples" / "invoices"
TODAY = {"today": "2026-03-10"}


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """Return the ledger of a private copy of the example, which is the current folder."""
    shutil.copytree(FOLDER, tmp_path / "invoices")
    monkeypatch.chdir(tmp_path / "invoices")
    made = subprocess.run([sys.executable, "make_ledger.py"], capture_output=True, text=True, check=True)
    assert made.stdout == "made ledger.db\n"
    return Path("ledger.db")


def rows(ledger, query):
    with closing(sqlite3.connect(ledger)) as db:
        return db.execute(query).fetchall()


def test_plan_passes_its_check(ledger):
    """The plan is free of faults and of warnings."""
    report = check(Plan.load("plan.yaml"), Toolset.load("tools.py"))
    assert [str(problem) for problem in report.problems] == []


def test_taking_the_approval_away_is_an_unsafe_flow(ledger):
    """Without an approval, what suppliers send may not reach the payment."""
    source = Path("tools.py").read_text()
    Path("bold.py").write_text(source.replace(', approval="always"', ""))
    report = check(Plan.load("plan.yaml"), Toolset.load("bold.py"))
    assert [(problem.code, problem.path) for problem in report.errors] == [
        ("unsafe-flow", "$.steps[5].args.payments")
    ]


def test_pays_what_is_due_once_a_person_agrees(ledger):
    """The run waits before the write; approved, it pays the two due invoices and names the doubtful ones."""
    with Engine(Toolset.load("tools.py"), store="memory:") as engine:
        run = engine.run_sync(Plan.load("plan.yaml"), inputs=TODAY)
        assert run.status == "waiting"
        assert run.steps["paid"].status == "waiting"
        assert rows(ledger, "SELECT count(*) FROM payments") == [(1,)]
        engine.approve_sync(run.id, "paid", by="controller")
        run = engine.resume_sync(run.id)
    assert run.raise_for_status().output == {
        "paid": ["BP-501", "CL-220"],
        "euros": 1739.5,
        "questions": [
            {"invoice": "EE-9031", "status": "amount differs"},
            {"invoice": "BP-502", "status": "account differs"},
            {"invoice": "XX-1", "status": "no such order"},
        ],
    }
    assert rows(ledger, "SELECT invoice FROM payments WHERE key != 'opening'") == [("BP-501",), ("CL-220",)]


def test_denied_pays_nothing(ledger):
    """A denial cancels the payment and what follows from it; the ledger is as it was."""
    with Engine(Toolset.load("tools.py"), store="memory:") as engine:
        run = engine.run_sync(Plan.load("plan.yaml"), inputs=TODAY)
        engine.deny_sync(run.id, "paid", by="controller", reason="not this week")
        run = engine.resume_sync(run.id)
    assert run.steps["paid"].status == "cancelled"
    assert rows(ledger, "SELECT count(*) FROM payments") == [(1,)]


def test_the_same_payment_run_twice_pays_once(ledger):
    """The ledger remembers the key of a payment run, so a repeated call changes nothing and says the same."""
    pay = Toolset.load("tools.py").get("pay")
    args = pay.bind(
        {"ledger": "ledger.db", "payments": [{"invoice": "BP-501", "account": "DE1", "cents": 5}]}
    )
    context = firmplan.Context(idempotency_key="k1")
    assert pay.seal(pay.invoke(args, context)) == pay.seal(pay.invoke(args, context))
    assert rows(ledger, "SELECT cents FROM payments WHERE key = 'k1'") == [(5,)]


DIES = """
    if Path("die").exists():
        import os
        import signal

        Path("die").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return receipt
"""


def test_killed_right_after_the_payment_pays_once(ledger):
    """The process dies when the ledger has the payments and the journal does not know yet; resumed, it pays no more."""
    source = Path("tools.py").read_text()
    end = source.index("\n\n\ndef _invoice")
    Path("tools.py").write_text(
        source[:end].removesuffix("    return receipt") + DIES.lstrip("\n") + source[end:]
    )
    firmplan_("run", "plan.yaml", "--input", "today=2026-03-10", "--run-id", "march", code=4)
    firmplan_("approve", "march", "paid")
    Path("die").touch()
    firmplan_("resume", "march", code=-9)
    assert rows(ledger, "SELECT count(*) FROM payments") == [(3,)]
    told = firmplan_("resume", "march")
    assert "CL-220" in told
    assert rows(ledger, "SELECT invoice FROM payments WHERE key != 'opening'") == [("BP-501",), ("CL-220",)]
    assert rows(ledger, "SELECT count(*) FROM payment_runs") == [(2,)]


def firmplan_(*words, code=0):
    """Run a command in a process of its own and return what it prints."""
    process = Program(["-m", "firmplan", *words])
    out, err = process.communicate(timeout=100)
    assert process.returncode == code, err
    return out
