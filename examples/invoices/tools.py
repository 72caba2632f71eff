"""Tools for paying invoices: read what suppliers sent, read the ledger, match the two, pay.

Amounts are whole cents. What suppliers send is untrusted: it reaches `pay` only because a person approves each payment
run, and an approval is for exactly the payments that were asked about. `pay` may be repeated: the ledger remembers the
key of every payment run.
"""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from firmplan import Context, ToolError, tool

Status = Literal["due", "not due yet", "paid already", "no such order", "amount differs", "account differs"]

COLUMNS = ("invoice", "order", "supplier", "account", "amount", "due")


@dataclass(frozen=True)
class Invoice:
    """What a supplier asks for."""

    invoice: str
    order: str
    supplier: str
    account: str
    cents: int
    due: str


@dataclass(frozen=True)
class Order:
    """What was ordered, and the account that the ledger knows for its supplier."""

    order: str
    supplier: str
    account: str
    cents: int


@dataclass(frozen=True)
class Payment:
    """Money that is to go, or has gone, to an account."""

    invoice: str
    account: str
    cents: int


@dataclass(frozen=True)
class Verdict:
    """One invoice, and what the ledger says of it."""

    invoice: str
    status: Status
    account: str
    cents: int


@dataclass(frozen=True)
class Receipt:
    """A payment run that is in the ledger."""

    key: str
    invoices: list[str]
    cents: int


@tool(effect="read", resource="invoices", trust="untrusted")
def read_invoices(path: str) -> list[Invoice]:
    """Read the invoices in a CSV file with the columns invoice, order, supplier, account, amount, due."""
    if not Path(path).is_file():
        raise ToolError(f"expected a CSV file of invoices, found no file {path}", code="no-file")
    with Path(path).open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines)
        if tuple(rows.fieldnames or ()) != COLUMNS:
            raise ToolError(
                f"{path}: expected the columns {COLUMNS}, found {rows.fieldnames}", code="bad-csv"
            )
        return [_invoice(row, f"{path}, line {rows.line_num}") for row in rows]


@tool(effect="read", resource="ledger", trust="trusted")
def read_orders(ledger: str) -> list[Order]:
    """Read all orders in the ledger, each with the account that its supplier is known by."""
    query = 'SELECT "order", supplier, account, cents FROM orders JOIN suppliers USING (supplier) ORDER BY "order"'
    with _open(ledger) as db:
        return [Order(*row) for row in db.execute(query)]


@tool(effect="read", resource="ledger", trust="trusted")
def read_payments(ledger: str) -> list[Payment]:
    """Read all payments in the ledger, in the order in which they were made."""
    with _open(ledger) as db:
        return [
            Payment(*row) for row in db.execute("SELECT invoice, account, cents FROM payments ORDER BY rowid")
        ]


@tool(effect="pure", isolation="inline")
def judge(invoice: Invoice, orders: list[Order], payments: list[Payment], today: str) -> Verdict:
    """Compare an invoice with the ledger: is it due on that day (YYYY-MM-DD), or what is wrong with it?"""
    order = next((order for order in orders if order.order == invoice.order), None)
    return Verdict(invoice.invoice, _status(invoice, order, payments, today), invoice.account, invoice.cents)


@tool(effect="write", resource="ledger", idempotent=True, approval="always", trust="trusted")
def pay(ledger: str, payments: list[Payment], *, ctx: Context) -> Receipt:
    """Make all payments, or none, and enter them into the ledger. The same payment run twice pays once."""
    receipt = Receipt(ctx.idempotency_key, [p.invoice for p in payments], sum(p.cents for p in payments))
    with _open(ledger) as db:
        try:
            db.execute("INSERT INTO payment_runs (key) VALUES (?)", (receipt.key,))
        except sqlite3.IntegrityError:
            return receipt  # an earlier attempt came this far, and everything is entered in one transaction
        rows = [(p.invoice, p.account, p.cents, receipt.key) for p in payments]
        try:
            db.executemany("INSERT INTO payments (invoice, account, cents, key) VALUES (?, ?, ?, ?)", rows)
        except sqlite3.IntegrityError as error:
            raise ToolError(
                f"an invoice in this payment run is paid already: {error}", code="paid-already"
            ) from error
    return receipt


def _invoice(row: dict[str, str], where: str) -> Invoice:
    whole, _, rest = row["amount"].replace(",", "").partition(".")
    if not (whole.isdecimal() and len(rest) == 2 and rest.isdecimal()):
        raise ToolError(
            f"{where}: expected an amount such as 1,250.00, found {row['amount']!r}", code="bad-csv"
        )
    cents = int(whole) * 100 + int(rest)
    return Invoice(row["invoice"], row["order"], row["supplier"], row["account"], cents, row["due"])


def _status(invoice: Invoice, order: Order | None, payments: list[Payment], today: str) -> Status:
    if any(payment.invoice == invoice.invoice for payment in payments):
        return "paid already"
    if order is None or order.supplier != invoice.supplier:
        return "no such order"
    if order.account != invoice.account:
        return "account differs"
    if order.cents != invoice.cents:
        return "amount differs"
    return "due" if date.fromisoformat(invoice.due) <= date.fromisoformat(today) else "not due yet"


@contextmanager
def _open(ledger: str) -> Iterator[sqlite3.Connection]:
    """Yield the ledger inside one transaction, which an exception undoes."""
    if not Path(ledger).is_file():
        raise ToolError(
            f"found no ledger {ledger}; make one with `python make_ledger.py {ledger}`", code="no-ledger"
        )
    with closing(sqlite3.connect(ledger)) as db, db:
        yield db
