"""A desk with people, rooms, mails and bookings, all of them fakes: the tools touch nothing outside the process, and the file is loaded anew for each run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from firmplan import ToolError, tool


@dataclass(frozen=True)
class Person:
    """A colleague."""

    name: str
    mail: str
    team: str


@dataclass(frozen=True)
class Room:
    """A room, and for how many people it is."""

    room: str
    seats: int


PEOPLE = [
    Person("Ada Lovelace", "ada@desk.example", "engines"),
    Person("Mary Somerville", "mary@desk.example", "science"),
    Person("Charles Babbage", "charles@desk.example", "engines"),
]
ROOMS = [Room("R1", 4), Room("R2", 12), Room("R3", 30)]
booked: dict[str, str] = {"R2": "2027-01-14"}
sent: list[tuple[str, str]] = []


@tool(effect="read")
def find_people(team: str) -> list[Person]:
    """Find the colleagues of a team."""
    return [each for each in PEOPLE if each.team == team]


@tool(effect="read")
def rooms_for(seats: int) -> list[Room]:
    """List the rooms with at least so many seats, the smallest first."""
    return [each for each in ROOMS if each.seats >= seats]


@tool(effect="write", resource="rooms")
def book_room(room: str, day: str) -> str:
    """Book a room for a day, such as 2027-01-14; return the number of the booking."""
    if booked.get(room) == day:
        raise ToolError(f"{room} is taken on {day}", code="taken")
    booked[room] = day
    return f"{room}/{day}"


@tool(effect="write", resource="mails")
def send_mail(to: str, text: str) -> int:
    """Send a mail; return how many have been sent."""
    sent.append((to, text))
    return len(sent)


@tool(effect="pure")
def convert(amount: float, unit: Literal["km", "miles"]) -> float:
    """Convert a distance from this unit to the other one."""
    return round(amount * 1.609344, 3) if unit == "miles" else round(amount / 1.609344, 3)
