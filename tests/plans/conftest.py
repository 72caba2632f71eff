"""The tools of the examples in the catalogue of codes, as signatures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from firmplan.plans.signature import Effect


@dataclass(frozen=True)
class ToolSignature:
    """A tool as the checker sees it: `Signature` without code."""

    name: str
    parameters: Mapping[str, Any]
    returns: Mapping[str, Any] | None = None
    effect: Effect = Effect.READ
    resource: str = "world"
    trust: Literal["trusted", "untrusted"] = "trusted"
    idempotent: bool = False
    can_reconcile: bool = False
    asks_approval: bool = False
    allow_untrusted: Collection[str] = field(default=())
    harmless: Collection[str] = field(default=())
    private: bool = False
    readers: Collection[str] = field(default=())
    egress: Collection[str] = field(default=())
    description: str = ""
    unstated_reach: str | None = None
    is_provided: bool = False


TEXT = {"type": "string"}
NUMBER = {"type": "number"}
WEATHER = {"type": "object", "properties": {"celsius": NUMBER, "text": TEXT}, "required": ["celsius", "text"]}


def takes(*required: str, **properties: Any) -> dict[str, Any]:
    """Return the schema of arguments: text unless said otherwise, all of them required but those in `properties`."""
    return {
        "type": "object",
        "properties": {**dict.fromkeys(required, TEXT), **properties},
        "required": list(required),
        "additionalProperties": False,
    }


EXAMPLES = (
    ToolSignature("weather", takes("city"), WEATHER),
    ToolSignature("cities", takes("country"), {"type": "array", "items": TEXT}),
    ToolSignature("fetch", takes("url"), TEXT, trust="untrusted"),
    ToolSignature("send_mail", takes("to", "body"), TEXT, effect=Effect.WRITE, resource="mail"),
    ToolSignature("search", takes("query"), None),
    ToolSignature("customer", takes("name"), TEXT, private=True, readers=("example.org",)),
    ToolSignature("post", takes("url", "body"), TEXT, effect=Effect.WRITE, resource="web", egress=("url",)),
    ToolSignature("news", takes("topic"), TEXT, unstated_reach="reaches the network (httpx.get)"),
)


@pytest.fixture(scope="session")
def tools() -> tuple[ToolSignature, ...]:
    """The tools of the examples."""
    return EXAMPLES


@pytest.fixture(scope="session")
def make_tool() -> Callable[..., ToolSignature]:
    """Makes one more tool: name, text arguments, other settings."""

    def make(
        name: str, *required: str, optional: Mapping[str, Any] | None = None, **settings: Any
    ) -> ToolSignature:
        return ToolSignature(name, takes(*required, **(optional or {})), **settings)

    return make
