"""Stand-ins: tools and models that answer from what was recorded or written down, and touch nothing.

A stand-in has the name, types, effect and policies of the tool that it stands for, so that plans are checked, ordered and
approved as with the real one. A `pure` tool needs none: it is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

from typing_extensions import override

from ..errors import ConfigError
from ..executor.journal.toolset_lock import ToolLock
from ..plans.values import Json, canonical
from ..tools import Context, ModelReply, ModelRequest, Models, Tool, Usage, make_tool
from ..tools.declaration import Approval
from ..tools.schemas import SchemaTypes
from .answers import Answerer

_CONTEXT: Final = "firmplan_context"


class Untouched(Mapping[str, str]):
    """Secrets for a rehearsal: each is its own expression, as it stands in a recording."""

    @override
    def __getitem__(self, name: str) -> str:
        return f'${{secret("{name}")}}'

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(())  # there are as many as are asked for

    @override
    def __len__(self) -> int:
        return 0


def types_of(lock: ToolLock) -> SchemaTypes:
    """Return a tool's types as its lock says them: they bind what is recorded and what is called alike."""
    return SchemaTypes(f"stand-in for '{lock.name}'", lock.parameters, lock.returns, _CONTEXT)


def stand_in(lock: ToolLock, types: SchemaTypes, answers: Answerer, approval: Approval) -> Tool:
    """Return a tool that answers every call from what is known."""

    async def play(firmplan_context: Context | None = None, **args: Json) -> Json:
        step = firmplan_context.step if firmplan_context is not None else ""
        return answers.give(step, canonical(cast("Json", args)))

    return make_tool(
        play,
        types=types,
        name=lock.name,
        description=lock.description,
        effect=lock.effect.value,
        idempotent=lock.idempotent,
        version="stand-in",
        timeout=lock.timeout_s,
        retries=lock.retries,
        approval=approval,
        trust=lock.trust,
        resource=lock.resource,
        allow_untrusted=tuple(lock.allow_untrusted),
        reconcile=_unknown if lock.can_reconcile else None,
    )


def _unknown(_key: str, _args: dict[str, Json]) -> None:
    """Say that nothing is known of an earlier call."""


class StandInModels(Models):
    """Models that answer prompts from what is known."""

    def __init__(self, answers: Answerer) -> None:
        super().__init__({})
        self._answers = answers

    @override
    def key_parts(self, request: ModelRequest) -> dict[str, Json]:
        raise ConfigError("a rehearsal keeps no results")

    @override
    async def ask(self, request: ModelRequest, *, timeout_s: float | None = None) -> ModelReply:
        return ModelReply(self._answers.give(request.step, prompt_of(request)), Usage(), "stand-in", "")


def prompt_of(request: ModelRequest) -> bytes:
    """Return what names a prompt in a recording: its messages and the form of its answer."""
    messages: Sequence[Json] = [cast("Json", message.to_dict()) for message in request.messages]
    return canonical({"messages": list(messages), "returns": dict(request.schema)})
