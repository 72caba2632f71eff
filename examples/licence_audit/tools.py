"""Tools for a licence audit of the Python packages installed here.

Two reads of the environment, two pure functions that sort what was found, and one write. Nothing here knows of plans:
each tool does one thing, and says by its effect what may be reused and what must wait for what.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Literal

from firmplan import ToolError, tool

Family = Literal["permissive", "weak copyleft", "strong copyleft", "unknown"]

FAMILIES: tuple[Family, ...] = ("permissive", "weak copyleft", "strong copyleft", "unknown")
"""From the mildest to the one that asks most of whoever ships it; `unknown` counts as worst."""

TEXT_LICENCE_MAX = 120
"""Characters of a free-text licence field that are read: some packages put the whole licence there."""

BY_PREFIX: tuple[tuple[str, Family], ...] = (
    ("mit", "permissive"),
    ("bsd", "permissive"),
    ("0bsd", "permissive"),
    ("apache", "permissive"),
    ("isc", "permissive"),
    ("psf", "permissive"),
    ("python", "permissive"),
    ("cnri", "permissive"),
    ("zlib", "permissive"),
    ("unlicense", "permissive"),
    ("cc0", "permissive"),
    ("hpnd", "permissive"),
    ("bsl-1", "permissive"),
    ("boost", "permissive"),
    ("zpl", "permissive"),
    ("public domain", "permissive"),
    ("lgpl", "weak copyleft"),
    ("mpl", "weak copyleft"),
    ("epl", "weak copyleft"),
    ("cddl", "weak copyleft"),
    ("gpl", "strong copyleft"),
    ("agpl", "strong copyleft"),
    ("eupl", "strong copyleft"),
    ("osl", "strong copyleft"),
)
"""Beginnings of SPDX ids and of the short names that classifiers use, in lower case."""

BY_PHRASE: tuple[tuple[str, str], ...] = (
    ("affero", "AGPL"),
    ("lesser general public", "LGPL"),
    ("library or lesser general", "LGPL"),
    ("general public", "GPL"),
    ("mozilla public", "MPL"),
    ("eclipse public", "EPL"),
    ("apache", "Apache"),
    ("python software foundation", "PSF"),
    ("public domain", "Public Domain"),
    ("unlicense", "Unlicense"),
    ("zope public", "ZPL"),
    ("isc license", "ISC"),
    ("bsd", "BSD"),
    ("mit", "MIT"),
)
"""Words that give a licence away, the more specific ones first."""


@dataclass(frozen=True)
class Package:
    """One installed distribution."""

    name: str
    version: str


@dataclass(frozen=True)
class Metadata:
    """What a distribution says of itself: `expression` is SPDX, `licence` free text; both may be empty."""

    name: str
    version: str
    expression: str
    licence: str
    classifiers: list[str]
    requires: list[str]


@dataclass(frozen=True)
class Finding:
    """One package, and what its licence asks of whoever ships it."""

    name: str
    version: str
    licence: str
    family: Family


@dataclass(frozen=True)
class Blame:
    """A package, and the installed packages that bring it in."""

    name: str
    required_by: list[str]


@dataclass(frozen=True)
class Written:
    """A file that was written."""

    path: str
    lines: int


@tool(effect="read", reuse_for="1h", resource="packages")
def list_packages() -> list[Package]:
    """List the Python distributions installed in this environment, by name."""
    found: dict[str, Package] = {}
    for each in distributions():
        name = _field(each, "Name")
        if name:
            found.setdefault(_plain(name), Package(name, each.version))
    return [found[key] for key in sorted(found)]


@tool(effect="read", reuse_for="1h", resource="packages")
def read_metadata(name: str) -> Metadata:
    """Read one installed distribution's licence, classifiers and dependencies."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        raise ToolError(f"no distribution '{name}' is installed here", code="not-installed") from None
    needs = {
        _plain(re.split(r"[^A-Za-z0-9._-]", line.strip(), maxsplit=1)[0]) for line in found.requires or ()
    }
    licences = [line for line in found.metadata.get_all("Classifier") or () if line.startswith("License ::")]
    licence = _field(found, "License").strip().split("\n", maxsplit=1)[0]
    return Metadata(
        name=name,
        version=found.version,
        expression=_field(found, "License-Expression"),
        licence=licence[:TEXT_LICENCE_MAX],
        classifiers=licences,
        requires=sorted(needs),
    )


@tool(effect="pure", isolation="inline")
def classify(package: Metadata) -> Finding:
    """Name a package's licence and put it into a family: permissive, weak or strong copyleft, unknown."""
    if package.expression:
        return _finding(package, package.expression, family_of(package.expression))
    for classifier in package.classifiers:
        if found := _recognised(classifier.rsplit("::", 1)[-1]):
            return _finding(package, found, family_of(found))
    if found := _recognised(package.licence):
        return _finding(package, found, family_of(found))
    return _finding(package, package.licence or "none stated", "unknown")


@tool(effect="pure", isolation="inline")
def who_requires(packages: list[Metadata], names: list[str]) -> list[Blame]:
    """For each name, find the installed packages that require it directly."""
    return [Blame(name, [p.name for p in packages if _plain(name) in p.requires]) for name in names]


@tool(effect="write", idempotent=True, resource="report")
def write_report(
    path: str, summary: str, counts: dict[str, int], findings: list[Finding], blames: list[Blame]
) -> Written:
    """Write the audit as a Markdown file: the summary, the counts, what needs a look, and every package."""
    lines = ["# Licences of the installed packages", "", summary, ""]
    lines += [f"- {family}: {counts.get(family, 0)}" for family in FAMILIES]
    if blames:
        lines += ["", "## Needs a look", ""]
        lines += [
            f"- {b.name}: required by {', '.join(b.required_by) or 'nothing else here'}" for b in blames
        ]
    lines += [
        "",
        "## All packages",
        "",
        "| package | version | licence | family |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {f.name} | {f.version} | {_cell(f.licence)} | {f.family} |" for f in findings]
    _replace(Path(path), "\n".join(lines) + "\n")
    return Written(path, len(lines))


def family_of(expression: str) -> Family:
    """Return the family of an SPDX expression: of `OR` the mildest part counts, of `AND` the strictest."""
    text = expression.strip()
    if (parts := _split(text, "OR"))[1:]:
        return min(map(family_of, parts), key=FAMILIES.index)
    if (parts := _split(text, "AND"))[1:]:
        return max(map(family_of, parts), key=FAMILIES.index)
    if text.startswith("(") and text.endswith(")"):
        return family_of(text[1:-1])
    named: list[Family] = [family for prefix, family in BY_PREFIX if text.lower().startswith(prefix)]
    if named[:1] == ["strong copyleft"] and "exception" in text.lower():
        return "weak copyleft"
    return named[0] if named else "unknown"


def _split(text: str, word: str) -> list[str]:
    """Split an expression at a word that stands outside parentheses."""
    parts, depth, start = list[str](), 0, 0
    for found in re.finditer(rf"[()]|\b{word}\b", text, re.IGNORECASE):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if depth == 0 and found[0] not in "()":
            parts.append(text[start : found.start()])
            start = found.end()
    return [*parts, text[start:]]


def _recognised(text: str) -> str | None:
    """Return the short name of a licence that is told of in words, or `None`."""
    plain = text.strip().lower()
    if any(plain.startswith(prefix) for prefix, _ in BY_PREFIX):
        return text.strip()
    return next((name for phrase, name in BY_PHRASE if re.search(rf"\b{phrase}\b", plain)), None)


def _finding(package: Metadata, licence: str, family: Family) -> Finding:
    return Finding(package.name, package.version, licence, family)


def _field(found: Distribution, key: str) -> str:
    """Return a metadata field as text; a damaged installation has none."""
    return str(found.metadata[key]) if key in found.metadata else ""


def _plain(name: str) -> str:
    """Return a distribution's name in the one spelling that all its spellings share."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _replace(path: Path, text: str) -> None:
    """Put the whole text in place at once, so that a crash leaves the old report or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
