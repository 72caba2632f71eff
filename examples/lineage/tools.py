"""Tools of the lineage example: from sources to a memo, in small steps with a value each."""

from __future__ import annotations

import re

from firmplan import agent, tool
from pydantic import BaseModel


class Claim(BaseModel):
    """A sentence with a number in it."""

    text: str
    number: int


class Position(BaseModel):
    """What the memo argues for."""

    recommendation: str
    reason: str


@tool(effect="pure")
def claims(source: str) -> list[Claim]:
    """Find the sentences of a source that state a number."""
    sentences = re.split(r"(?<=[.])\s+", source.strip())
    found = ((sentence, re.search(r"\d+", sentence)) for sentence in sentences)
    return [Claim(text=sentence, number=int(number[0])) for sentence, number in found if number]


@tool(effect="pure")
def weigh(market: list[Claim], policy: list[Claim]) -> list[Claim]:
    """Put the claims of both sources in order, the largest number first."""
    return sorted([*market, *policy], key=lambda claim: (-claim.number, claim.text))


@agent(temperature=0)
def take_position(evidence: list[Claim]) -> Position:
    """Recommend one thing to the town council, and give the one reason that weighs most.

    The evidence: ${evidence}
    """


@tool(effect="pure")
def outline(position: Position, evidence: list[Claim]) -> list[str]:
    """Name the sections: the recommendation, a section for each piece of evidence, and the risk."""
    return [position.recommendation, *(claim.text for claim in evidence[:3]), f"Risk: {position.reason}"]


@tool(effect="pure")
def section(number: int, heading: str) -> str:
    """Write a section."""
    return f"## {number}. {heading}\n"


@tool(effect="pure")
def memo(sections: list[str]) -> str:
    """Put the memo together."""
    return "# Memo to the town council\n\n" + "\n".join(sections)


@tool(effect="pure")
def clippings(items: list[Claim]) -> str:
    """Make the press clippings: another document, from another source."""
    return "\n".join(f"- {item.text}" for item in items)
