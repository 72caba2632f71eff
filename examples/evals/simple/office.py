"""Three tools of an office, with few, fixed answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from firmplan import tool

MEETINGS: Final = {
    "2026-03-02": [("Budget", "09:00", 45), ("Hiring", "11:30", 30), ("Launch", "15:00", 60)],
    "2026-03-03": [("Review", "10:00", 90)],
}
WEATHER: Final = {"bergen": (7, "rain"), "seville": (24, "sun"), "riga": (3, "snow")}
FILES: Final = {
    "notes/launch.txt": "The launch is on 14 May in Riga. Ines Duarte has the budget, Piotr Nowak writes the invitations. The hall holds 120 guests.",
    "notes/printer.txt": "The printer on the second floor is broken. The repair takes until Friday; use the one on the first floor.",
}


@dataclass(frozen=True, slots=True)
class Meeting:
    """A meeting."""

    title: str
    start: str
    minutes: int


@dataclass(frozen=True, slots=True)
class Weather:
    """The weather in a city."""

    celsius: int
    sky: str


@tool(effect="read")
def meetings(date: str) -> list[Meeting]:
    """The meetings of a day, the earliest first.

    Args:
        date: Such as 2026-12-31.
    """
    return [Meeting(title, start, minutes) for title, start, minutes in MEETINGS.get(date, [])]


@tool(effect="read")
def weather(city: str) -> Weather:
    """The weather in a city."""
    celsius, sky = WEATHER[city.strip().casefold()]
    return Weather(celsius, sky)


@tool(effect="read")
def read_file(path: str) -> str:
    """The text of a file."""
    return FILES[path]
