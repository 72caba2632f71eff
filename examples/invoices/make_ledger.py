"""Make the ledger of the example, from `suppliers.csv`, `orders.csv` and `payments.csv`, as an SQLite file.

    python make_ledger.py [ledger.db]

A ledger that is there already is left alone.
"""

from __future__ import annotations

import csv
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

HERE = Path(__file__).parent

SCHEMA = """
CREATE TABLE suppliers (supplier TEXT PRIMARY KEY, account TEXT NOT NULL);
CREATE TABLE orders ("order" TEXT PRIMARY KEY, supplier TEXT NOT NULL REFERENCES suppliers, cents INTEGER NOT NULL);
CREATE TABLE payment_runs (key TEXT PRIMARY KEY);
CREATE TABLE payments (
  invoice TEXT PRIMARY KEY, account TEXT NOT NULL, cents INTEGER NOT NULL, key TEXT NOT NULL REFERENCES payment_runs
);
"""


def make_ledger(path: Path) -> None:
    """Make the ledger at `path`."""
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(SCHEMA)
        db.executemany("INSERT INTO suppliers VALUES (:supplier, :account)", _rows("suppliers"))
        db.executemany("INSERT INTO orders VALUES (:order, :supplier, :cents)", _rows("orders"))
        db.execute("INSERT INTO payment_runs VALUES ('opening')")
        db.executemany(
            "INSERT INTO payments VALUES (:invoice, :account, :cents, 'opening')", _rows("payments")
        )


def _rows(name: str) -> list[dict[str, str]]:
    with (HERE / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "ledger.db")
    if target.exists():
        print(f"{target} is there already")
    else:
        make_ledger(target)
        print(f"made {target}")
