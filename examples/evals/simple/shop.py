"""Three tools of a small shop, with few, fixed answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from firmplan import tool

PRODUCTS: Final = {"kettle": (24.5, 12), "toaster": (39.0, 0), "lamp": (18.25, 40)}
ORDERS: Final = {1042: ("Mina Olsen", "shipped", 63.5), 1043: ("Tom Okafor", "open", 18.25)}
RATES: Final = {("EUR", "USD"): 1.25, ("EUR", "GBP"): 0.75}


@dataclass(frozen=True, slots=True)
class Product:
    """A product."""

    name: str
    price: float
    stock: int


@dataclass(frozen=True, slots=True)
class Order:
    """An order."""

    number: int
    customer: str
    status: str
    total: float


@tool(effect="read")
def product(name: str) -> Product:
    """A product of the shop: its price in euros, and how many are in stock."""
    price, stock = PRODUCTS[name.strip().casefold()]
    return Product(name, price, stock)


@tool(effect="read")
def order(number: int) -> Order:
    """An order, with its customer, its status and its total in euros."""
    customer, status, total = ORDERS[number]
    return Order(number, customer, status, total)


@tool(effect="read")
def exchange_rate(source: str, target: str) -> float:
    """How much of the target currency one unit of the source currency buys.

    Args:
        source: Three letters, such as EUR.
        target: Three letters, such as EUR.
    """
    return RATES[source.strip().upper(), target.strip().upper()]
