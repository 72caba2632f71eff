"""Confidentiality: which private data a plan may hold, as bits of a label, and to whom it may go.

The result of a private tool, and an input with `x-readers`, may reach only their *readers*. Each set of readers is a *kind* of private data, with a bit of
its own, so that one pass of `labels.py` labels private data beside untrusted data. This module knows no plan: it says which bits a tool brings, and which of
them a *destination* (an argument of a tool, a model) may not have.

A reader is one of these:

- `send_mail`, `send_mail.body`, `crm_*`: a tool, an argument of a tool, every tool whose name begins so;
- `model`, `fast`: every model, the model of that name;
- `example.org`, `ann@example.org`, `ann`: whoever the call sends to, which the arguments in the tool's `egress` say. A domain stands for its subdomains and
  the mailboxes in it. While such an argument is not known, only the run can tell.

The person who started the run is a reader of everything. A pure tool only computes, so it is no destination: its result is as private as its arguments.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import field
from functools import cached_property
from typing import TypeAlias
from urllib.parse import urlsplit

from ...immutable import immutable, immutable_with_cache
from ...program.program import WORLD
from ...signature import Effect, Signature, Signatures, properties_of
from ...values import Json

READERS_KEY: str = "x-readers"
"""The key of an input's schema that lists who may have the input."""
MODEL = "model"
_FIRST = 4
"""The lower bits stand for untrusted data, for the conditions of a call, for what it refers to and for what chooses it (`labels.py`)."""

Recipients: TypeAlias = tuple[Json, ...] | None
"""The values of the arguments that say to whom a call sends; `None`: they are not known yet."""


@immutable
class Kind:
    """Private data that the same readers may have.

    Attributes:
        readers: As they are declared.
        resource: The resource that it was read from, whose own reads may have it; empty: none.
    """

    readers: frozenset[str]
    resource: str = ""


@immutable
class Destination:
    """Where a value goes.

    Attributes:
        names: Under which a reader may mean it.
        resource: The resource that it reads and sends to nobody else; empty: none.
        recipients: To whom it sends; empty: to nobody that the call names.
    """

    names: frozenset[str]
    resource: str = ""
    recipients: Recipients = ()


@immutable_with_cache
class Secrecy:
    """The kinds of private data in one check or one run.

    Attributes:
        kinds: Each has the bit of its index.
        known: Names of tools. A reader with another name is a person, a domain or a model.
    """

    kinds: tuple[Kind, ...] = ()
    known: frozenset[str] = frozenset()
    _bits: Mapping[Kind, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        bits = {kind: 1 << (_FIRST + number) for number, kind in enumerate(self.kinds)}
        object.__setattr__(self, "_bits", bits)

    @cached_property
    def mask(self) -> int:
        """All bits of private data."""
        return sum(self._bits.values())

    @cached_property
    def bits(self) -> tuple[int, ...]:
        """Each bit of private data."""
        return tuple(self._bits.values())

    @property
    def first_free(self) -> int:
        """The number of the first bit that stands for nothing yet."""
        return _FIRST + len(self.kinds)

    def of_tools(self, tools: Iterable[Signature | None]) -> int:
        """Return the bits of what some tools return."""
        label = 0
        for tool in tools if self.kinds else ():
            if tool is not None and tool.private:
                label |= self._bits.get(_kind_of(tool), 0)
        return label

    def of_input(self, schema: Mapping[str, Json]) -> int:
        """Return the bits of an input."""
        readers = readers_of(schema) if self.kinds else None
        return 0 if readers is None else self._bits.get(Kind(readers), 0)

    def refused(self, destination: Destination, label: int | None = None) -> tuple[int, int]:
        """Return the bits that a destination may not have, and those of which only the run can tell.

        Args:
            destination: Where the value goes.
            label: The label of the value; `None`: all bits are looked at.
        """
        refused = unsure = 0
        for kind, bit in self._bits.items():
            if label is not None and not label & bit:
                continue
            if self._is_reader(kind, destination):
                continue
            if destination.recipients is None and self.people(kind):
                unsure |= bit
            else:
                refused |= bit
        return refused, unsure

    def _is_reader(self, kind: Kind, destination: Destination) -> bool:
        if kind.resource and kind.resource == destination.resource:
            return True
        if any(is_named(reader, destination.names) for reader in kind.readers):
            return True
        people, recipients = self.people(kind), destination.recipients
        if not people or not recipients:
            return False
        return all(_may_have(people, each) for each in recipients)

    def people(self, kind: Kind) -> list[str]:
        """Return the readers of a kind that are no tools: domains, addresses, people."""
        return [
            reader
            for reader in kind.readers
            if reader != MODEL
            and not reader.endswith("*")
            and reader not in self.known
            and reader.rpartition(".")[0] not in self.known
        ]

    def shown(self, label: int) -> str:
        """Return the readers of the first kind in a label, for messages."""
        for kind, bit in self._bits.items():
            if label & bit:
                return ", ".join(sorted(kind.readers)) or "none but the caller of the run"
        return ""


def secrecy_of(
    called: Iterable[Signature | None], inputs: Iterable[Mapping[str, Json]], tools: Signatures
) -> Secrecy:
    """Return the kinds of private data that some plans may hold.

    Args:
        called: The tools that they call.
        inputs: The schemas of their inputs.
        tools: All tools.
    """
    found: dict[Kind, None] = {}
    for tool in called:
        if tool is not None and tool.private:
            found[_kind_of(tool)] = None
    for schema in inputs:
        if (readers := readers_of(schema)) is not None:
            found[Kind(readers)] = None
    return Secrecy(tuple(found), frozenset(tools.names)) if found else NOTHING_PRIVATE


def _kind_of(tool: Signature) -> Kind:
    return Kind(frozenset(tool.readers), "" if tool.resource == WORLD else tool.resource)


def readers_of(schema: Mapping[str, Json]) -> frozenset[str] | None:
    """Return who may have an input, `None`: everyone. A list that is no list of names, which the check refuses, names nobody."""
    if READERS_KEY not in schema:
        return None
    readers = schema[READERS_KEY]
    return (
        frozenset(each for each in readers if isinstance(each, str))
        if isinstance(readers, list)
        else frozenset()
    )


# Destinations


def is_destination(tool: Signature) -> bool:
    """Whether what a tool gets leaves the run. A pure tool only computes."""
    return tool.effect != Effect.PURE or bool(tool.egress)


def destination_of(tool: Signature, argument: str | None, recipients: Recipients) -> Destination:
    """Return where an argument of a tool goes; `None`: any argument of the tool.

    Args:
        tool: The tool.
        argument: Its argument.
        recipients: The values of the arguments that `egress` names.
    """
    names = {tool.name} if argument is None else {tool.name, f"{tool.name}.{argument}"}
    if tool.effect == Effect.MODEL:
        names.add(MODEL)
    is_own = tool.effect == Effect.READ and not tool.egress and tool.resource != WORLD
    return Destination(frozenset(names), tool.resource if is_own else "", recipients)


def model_destination(name: str, *, is_judged: bool = False) -> Destination:
    """Return a model as a destination; if a judge looks at its answers, another model sees them, too, so that no single name is enough."""
    return Destination(frozenset({MODEL} if is_judged else {MODEL, name}))


def any_model() -> Destination:
    """Return a model that nobody has named, such as that of a planner, as a destination."""
    return Destination(frozenset({MODEL}))


def default_of(tool: Signature, argument: str) -> Json:
    """Return the value of an argument that a call leaves out, `None`: nothing."""
    schema = properties_of(tool.parameters).get(argument)
    return schema.get("default") if isinstance(schema, dict) else None


_ADDRESSES = frozenset(
    {"url", "uri", "href", "link", "host", "hostname", "domain", "endpoint", "base_url", "webhook"}
)
_ADDRESS_FORMATS = frozenset(
    {"uri", "iri", "uri-reference", "hostname", "idn-hostname", "email", "idn-email", "ipv4", "ipv6"}
)


def receivers_of(tool: Signature) -> tuple[str, ...]:
    """Return the arguments by which a call says who gets its secrets: those of `egress`, else those that look like an address and allow no untrusted data."""
    if tool.egress:
        return tuple(sorted(tool.egress))
    return tuple(
        name
        for name, schema in properties_of(tool.parameters).items()
        if name not in tool.allow_untrusted
        and (
            name.lower() in _ADDRESSES
            or (isinstance(schema, dict) and schema.get("format") in _ADDRESS_FORMATS)
        )
    )


def recipients_in(tool: Signature, args: Mapping[str, Json]) -> tuple[Json, ...]:
    """Return to whom a call with these arguments sends; each value is a text, or nothing that fits a reader."""
    found: list[Json] = []
    for name in sorted(tool.egress):
        value = args[name] if name in args else default_of(tool, name)
        if isinstance(value, list):
            found += value
        elif value is not None:
            found.append(value)
    return tuple(found)


# Readers


def is_named(reader: str, names: Collection[str]) -> bool:
    """Whether a reader is a destination with one of these names."""
    return reader in names or (reader.endswith("*") and any(name.startswith(reader[:-1]) for name in names))


def _may_have(people: Iterable[str], recipient: Json) -> bool:
    if not isinstance(recipient, str):
        return False
    means = set(_meant_by(recipient))
    return any(reader.casefold() in means for reader in people)


def _meant_by(recipient: str) -> Iterator[str]:
    """Yield all names by which a reader may mean a recipient: the text itself, the mailbox and its domains, the host of the URL and its domains."""
    text = recipient.casefold()
    # Programs read these characters in different ways: as the end of a host, or as a second recipient. So such a text means nobody.
    if not text or not text.isprintable() or any(each in " \\,;<>\"'()" for each in text):
        return
    yield text
    host = text
    if "://" in text:
        try:
            parts = urlsplit(text)
            host = parts.hostname or ""
        except ValueError:
            return
        if parts.scheme not in ("http", "https") or "@" in parts.netloc:
            return
    elif "@" in text:
        name, _, host = text.partition("@")
        if not name or "@" in host:
            return
    if any(each in host for each in "/?#:%[]"):
        return
    labels = host.removesuffix(".").split(".")
    for start in range(len(labels) - 1):
        yield ".".join(labels[start:])


NOTHING_PRIVATE = Secrecy()
