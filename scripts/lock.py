"""The lock: every package that a checkout installs, with its version and the hashes of all its files.

    python scripts/lock.py write              # resolve the locks anew; needs uv, which `make lock` brings
    python scripts/lock.py select dev audit   # print what firmplan with these extras needs, for `pip install --no-deps --require-hashes -r`

`requirements-http.lock` holds the programs that test the HTTP API from outside. They run in an environment of their own (`.venv/http`), because they want older
versions of packages that firmplan uses. `requirements-site.lock` holds what builds the documentation as a site, for `.venv/site`.

One file serves every other recipe: `select` follows uv's notes about who needs a package, so that the demo does not install the tools of
development, and nothing is resolved when a checkout is set up.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
HTTP_LOCK = ROOT / "requirements-http.lock"
HTTP_TOOLS = ("openapi-python-client>=0.29", "schemathesis>=4.32")
SITE_LOCK = ROOT / "requirements-site.lock"
SITE_TOOLS = ("zensical>=0.0.70", "mkdocstrings-python>=2.0")
SITE_HEADER = """\
# What builds the documentation as a site, with the hashes of all files, for the environment .venv/site.
# Made by `make lock`; installed by `make site` with --require-hashes.
"""
PEERS = {
    "dbos": ("dbos",),
    "hamilton": ("sf-hamilton",),
    "langgraph": ("langgraph", "langgraph-checkpoint-sqlite"),
    "prefect": ("prefect",),
    "pydantic_graph": ("pydantic-graph",),
}
"""Engines that `make peers` compares firmplan with; each has an environment and a lock of its own."""
PEER_HEADER = "# Made by `make lock`; installed by `make peers` with --require-hashes.\n"
EXTRAS = ("dev", "audit")
"""The extras of which the lock holds everything; `dev` has the others in it."""
HTTP_HEADER = """\
# The programs that test the HTTP API from outside, with the hashes of all their files, for the environment .venv/http.
# Made by `make lock`; installed by `make test` with --require-hashes.
"""
HEADER = """\
# Every package that firmplan with all its extras needs, on every platform, with the hashes of all its files.
# Made by `make lock`; installed by `make` with --require-hashes; checked by `make audit`.
"""
_PIN = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)(?: ; ([^\\]+?))?\s*\\?$")
_HASH = re.compile(r"--hash=(\w+):(\w+)")


@dataclass(frozen=True)
class Pin:
    """One package of the lock.

    Attributes:
        name: Its normalized name.
        version: Its version.
        marker: Where it is needed, as a PEP 508 marker; empty: everywhere.
        hashes: `sha256:..` of each of its files.
        via: The normalized names of the packages that need it.
        text: Its lines.
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    via: frozenset[str]
    text: str


def normalized(name: str) -> str:
    """Return a package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(text: str) -> list[Pin]:
    """Return the packages of a lock. Raises: ValueError: a line is neither a pinned package nor a part of one."""
    blocks: list[list[str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(" "):
            blocks.append([line])
        elif blocks:
            blocks[-1].append(line)
        else:
            raise ValueError(f"line {number}: expected a package, found {line.strip()!r}")
    return [_pin(block) for block in blocks]


def _pin(block: Sequence[str]) -> Pin:
    found = _PIN.match(block[0].split(" --hash")[0])
    if found is None:
        raise ValueError(f"expected a package pinned with ==, found {block[0]!r}")
    comments = " ".join(
        line.strip().removeprefix("#").strip() for line in block if line.strip().startswith("#")
    )
    via = {normalized(word) for word in comments.removeprefix("via").split()}
    hashes = tuple(f"{kind}:{digest}" for line in block for kind, digest in _HASH.findall(line))
    name, version, marker = found.groups()
    return Pin(normalized(name), version, marker or "", hashes, frozenset(via), "\n".join(block))


def select(pins: Sequence[Pin], project: dict[str, object], extras: Iterable[str]) -> list[Pin]:
    """Return the packages that the project with some extras needs, with those that build it.

    Args:
        pins: The lock.
        project: The content of `pyproject.toml`.
        extras: The extras.

    Raises:
        ValueError: The project needs a package that the lock does not have.
    """
    wanted = _direct(project, extras)
    known = {pin.name for pin in pins}
    if missing := sorted(wanted - known):
        raise ValueError(f"the lock has no {', '.join(missing)}: run `make lock`")
    while True:
        more = {pin.name for pin in pins if pin.name not in wanted and pin.via & wanted}
        if not more:
            return [pin for pin in pins if pin.name in wanted]
        wanted |= more


def _direct(project: dict[str, object], extras: Iterable[str]) -> set[str]:
    """Return the names that the project itself asks for; `firmplan[server]` in an extra stands for that extra."""
    about: dict[str, list[str]] = {}
    table = project["project"]
    build = project["build-system"]
    assert isinstance(table, dict)
    assert isinstance(build, dict)
    about = table.get("optional-dependencies", {})
    named: set[str] = set()
    left, seen = [*build["requires"], *table["dependencies"]], set(extras)
    for extra in sorted(seen):
        left += about[extra]
    while left:
        found = re.match(r"([\w.-]+)(?:\[([^\]]*)\])?", left.pop())
        assert found is not None
        if normalized(found[1]) != normalized(table["name"]):
            named.add(normalized(found[1]))
            continue
        for extra in (found[2] or "").split(","):
            if extra and extra not in seen:
                seen.add(extra)
                left += about[extra.strip()]
    return named


def read_project() -> dict[str, object]:
    """Return the content of `pyproject.toml`."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def write(uv: str = "uv") -> None:
    """Resolve the project with all its extras, the programs that test it over HTTP, the builder of the site, and its peers, anew, for every platform, and write the locks."""
    build = read_project()["build-system"]
    assert isinstance(build, dict)
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    LOCK.write_text(HEADER + _resolved(uv, ["pyproject.toml", *extras], build["requires"]), encoding="utf-8")
    HTTP_LOCK.write_text(HTTP_HEADER + _resolved(uv, [], HTTP_TOOLS), encoding="utf-8")
    SITE_LOCK.write_text(SITE_HEADER + _resolved(uv, [], SITE_TOOLS), encoding="utf-8")
    for peer, needs in PEERS.items():
        lock = ROOT / "benchmarks" / "peers" / f"{peer}.lock"
        lock.write_text(PEER_HEADER + _resolved(uv, [], needs), encoding="utf-8")


def _resolved(uv: str, sources: Sequence[str], needs: Iterable[str]) -> str:
    words = [uv, "pip", "compile", *sources, "-", "--universal", "--python-version", "3.11"]
    words += ["--generate-hashes", "--no-header", "--upgrade", "--quiet", "--system-certs"]
    done = subprocess.run(
        words, cwd=ROOT, input="\n".join(needs), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"error: {done.stderr.strip()}")
    return done.stdout


def main(words: Sequence[str]) -> None:
    """Run one of the two uses."""
    match words:
        case ["write"]:
            write(str(Path(sys.executable).with_name("uv")))
        case ["select", *extras]:
            try:
                chosen = select(read_lock(LOCK.read_text(encoding="utf-8")), read_project(), extras)
            except ValueError as error:
                raise SystemExit(f"error: {error}") from error
            print("\n".join(pin.text for pin in chosen))
        case _:
            raise SystemExit(f"expected `write`, or `select EXTRA..`, found {' '.join(words) or 'nothing'}")


if __name__ == "__main__":
    main(sys.argv[1:])
