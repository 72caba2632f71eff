"""`Fingerprint`: one digest of everything that decides the result of a tool, beside its arguments.

The digest covers the tool's own code, the project code and constants that it reaches, its schemas, the versions of the installed
distributions that it uses, and the declared `version` and `fingerprint_extra`. It does not cover comments, docstrings, formatting,
file names and declared settings such as `timeout`. It is the same in every process and on every machine with the same code.

Fail closed: where the code closure has a gap there is no digest, `unseen` names the gap, and results are not reused. A declared
`version` closes the gap: then the author answers for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...plans.immutable import immutable
from ...plans.values import canonical, digest
from ..resources import Resource
from ..types.schemas import with_prose

if TYPE_CHECKING:
    from ..tool import Tool

FORMAT = 6
"""Number of the format. It is part of the digest, so that a fingerprint of an older format never equals a new one."""

UNSEEN_SHOWN = 3  # gaps of one tool that a message lists


@immutable
class Fingerprint:
    """The digest of a tool's code closure, and its parts.

    Attributes:
        digest: `sha256:..`; `None`: something cannot be seen, and no `version` was declared.
        parts: The parts by name, each as a digest or a version: `function fetch`, `package requests`.
        unseen: The gaps in the code closure, as a sentence.
        reach: The networks, files and processes that the code uses, name -> kind; no part of the digest.
    """

    digest: str | None
    parts: Mapping[str, str]
    unseen: str | None
    reach: Mapping[str, str]


def fingerprint_of(tool: Tool) -> Fingerprint:
    """Return the fingerprint of a tool as its code is now. Reads source files if anything may have changed: O(code that the tool reaches)."""
    return _current(tool, "fingerprint") or _keep(tool, "fingerprint", tool.source, _annotations(tool))


def judgement_of(tool: Tool) -> Fingerprint:
    """Return the fingerprint of the code that judges the answers of a model tool: of its output type and its guards.

    The reuse key of such a tool has its request beside it: model, messages, schema.
    """
    returned = {name: each for name, each in _annotations(tool).items() if name == "return"}
    return _current(tool, "judgement") or _keep(tool, "judgement", None, returned)


def _current(tool: Tool, kind: str) -> Fingerprint | None:
    """Return the last fingerprint of a tool if nothing that it was made from has changed since."""
    kept = tool.last_fingerprints.get(kind)
    return kept[0] if kept is not None and kept[1].are_current() else None


def _keep(tool: Tool, kind: str, source: object | None, annotations: Mapping[str, object]) -> Fingerprint:
    from .closure import close_over  # noqa: PLC0415  # needs `Tool`

    resources, gaps = _resources(tool) if source is not None else ((), ())
    called, unknown = _called(tool) if source is not None and tool.called else ({}, ())
    encoded = tuple(part for codec in tool.types.codecs for part in codec.code)
    found = close_over(source, annotations, (*tool.influences, *encoded, *resources))
    found.unseen |= dict.fromkeys((*gaps, *unknown))
    parts = dict(found.parts) | {f"package {name}": version for name, version in found.versions.items()}
    if source is not None:
        parts |= _declared(tool) | called
        found.observations.add_value(tool.fingerprint_extra)
    # Sorted, so that the digest does not depend on the order of the walk.
    parts = {name: parts[name] for name in sorted(parts)}
    unseen = _shown(list(found.unseen))
    # The number of the format is in the digest: an older fingerprint can never equal a newer one by chance.
    # Not even a declared version makes results of a stand-in those of the resource.
    whole = digest(canonical([kind, FORMAT, parts, list(gaps)] if gaps else [kind, FORMAT, parts]))
    made = Fingerprint(None if unseen and tool.version is None else whole, parts, unseen, dict(found.reach))
    # A gap may close without a change of any object: its file is saved again, its module appears.
    # The code of the tools that an agent may call is observed by their own fingerprints.
    if unseen is None and not called:
        tool.last_fingerprints[kind] = made, found.observations
    return made


def _resources(tool: Tool) -> tuple[tuple[object, ...], tuple[str, ...]]:
    """Return the functions of the resources that a tool may open, and a sentence for each that a mere value stands for.

    A resource counts by its declaration, like code of the tool: what it gives is alive, and another object in each process.
    """
    replaced = dict(tool.replaced_resources)
    functions: list[object] = []
    gaps: list[str] = []
    for each in tool.opens:
        standing = replaced.get(each, each)
        if isinstance(standing, Resource):
            functions.append(standing.fn)
        else:
            gaps.append(f"a value stands for the resource '{each.name}'")
    return tuple(functions), tuple(gaps)


def _called(tool: Tool) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the fingerprints of the tools that an agent may call, as parts, and a sentence for each that has none."""
    parts: dict[str, str] = {}
    gaps: list[str] = []
    for each in tool.called:
        if isinstance(each, str):
            gaps.append(f"its tool '{each}' is not known before it is in a toolset")
        elif (found := fingerprint_of(each)).digest is None:
            gaps.append(f"its tool '{each.name}' has no fingerprint: {found.unseen}")
        else:
            parts[f"tool {each.name}"] = found.digest
    return parts, tuple(gaps)


def _declared(tool: Tool) -> dict[str, str]:
    """Return the parts that follow from the types and the declaration of a tool."""
    parts: dict[str, str] = {
        "parameters": digest(canonical(with_prose(tool.parameters, lambda _: None))),
        "returns": digest(canonical(with_prose(tool.types.returns, lambda _: None))),
    }
    # Results that stood although they do not fit must not stand for calls of the tool once it enforces its type.
    if (rule := tool.differing_results) is not None:
        parts["results"] = rule
    if tool.version is not None:
        parts["version"] = tool.version
    if tool.fingerprint_extra is not None:
        parts["fingerprint_extra"] = digest(canonical(tool.fingerprint_extra))
    return parts


def shown_fingerprint(tool: Tool) -> str | None:
    """Return the fingerprint of a tool as a person is asked about it: the format, and the digest of the parts that can be seen; `None`: there are none.

    Where there are gaps, an equal digest may miss a change behind a gap: no result is reused on it. It is that of the tool as it was first looked at in this
    process, and not as it is now: objects that a tool changes while it runs, such as the counter of its client, are no edit.
    """
    parts = tool.fingerprint_parts
    return f"{FORMAT}:{digest(canonical(dict(parts)))}" if parts else None


def has_changed(shown: str, found: str) -> bool:
    """Whether a tool has changed since `shown_fingerprint` was `shown`. Of two formats nobody knows, so that a new version of firmplan changes no tool."""
    return shown != found and shown.partition(":")[0] == found.partition(":")[0]


def is_fingerprint(named: str, parts: Mapping[str, str]) -> bool:
    """Whether parts have that digest, in this format or an older one."""
    given = dict(parts)
    # Journals keep fingerprints of every format, and `explain` compares their parts.
    return any(
        named == digest(canonical([kind, number, given]))
        for number in range(FORMAT, 0, -1)
        for kind in ("fingerprint", "judgement")
    )


def _annotations(tool: Tool) -> dict[str, object]:
    """Return the resolved annotations, if the types came from annotations."""
    from ..types.annotated import PythonTypes  # noqa: PLC0415  # needs pydantic

    if not isinstance(tool.types, PythonTypes):
        return {}
    found = tool.types.annotations
    return {**{each.name: each.annotation for each in found.parameters}, "return": found.returns}


def _shown(sentences: list[str]) -> str | None:
    if not sentences:
        return None
    more = len(sentences) - UNSEEN_SHOWN
    return "; ".join(sentences[:UNSEEN_SHOWN]) + (f"; and {more} more" if more > 0 else "")
