"""Traces as agents leave them, made from a short list of what happened."""

from __future__ import annotations

import json

from firmplan import tool


def chat(task, *turns, answer=None, system=None):
    """Return chat messages. A turn is a list of (tool, args, result) that the model asked for together, or one of them."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": task})
    number = 0
    for turn in turns:
        calls, results = [], []
        for name, args, result in turn if isinstance(turn, list) else [turn]:
            number += 1
            spelled = args if isinstance(args, str) else json.dumps(args)
            calls.append(
                {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": spelled}}
            )
            content = result if isinstance(result, str) else json.dumps(result)
            results.append({"role": "tool", "tool_call_id": f"c{number}", "content": content})
        messages += [{"role": "assistant", "content": None, "tool_calls": calls}, *results]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    return messages


@tool(effect="read", resource="web")
def search_flights(origin: str, destination: str) -> list[dict]:
    """Find flights."""


@tool(effect="write", resource="bookings")
def book(flight_id: str, seats: int = 1) -> dict:
    """Book a flight."""


@tool(effect="write", resource="mail")
def send_mail(to: str, subject: str, body: str) -> str:
    """Send a mail."""


@tool(effect="read", resource="crm")
def find_customer(name: str) -> dict:
    """Find a customer."""


@tool(effect="read", resource="crm")
def list_invoices(customer_id: int, status: str = "any", limit: int = 50) -> list[dict]:
    """List the invoices of a customer."""


@tool(effect="read", resource="crm")
def get_invoice(invoice_id: int) -> dict:
    """Return an invoice."""


@tool(effect="write", resource="crm")
def remind(invoice_id: int, text: str = "") -> str:
    """Remind a customer of an invoice."""


@tool(effect="write", resource="bank")
def pay(amount: float, reference: str = "") -> dict:
    """Pay an amount."""


@tool(effect="read", resource="weather")
def weather(city: str, units: str | None = None) -> dict:
    """Tell the weather."""


TOOLS = [search_flights, book, send_mail, find_customer, list_invoices, get_invoice, remind, pay, weather]
