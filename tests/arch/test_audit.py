"""The lock has a hash of every file, and the audit finds what differs from it: another version, a missing hash, an unknown licence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import firmplan
import pytest
from packaging.requirements import Requirement

ROOT = Path(firmplan.__file__).parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
HASH = "a" * 64
ADVISORIES = """
import json, sys
words = sys.argv[1:]
names = [line.split("==")[0] for line in open(words[words.index("-r") + 1]) if "==" in line]
print(json.dumps({"dependencies": [{"name": name, "version": "1", %s} for name in names]}))
"""
"""A stand-in for pip-audit, whose sources are not reachable from every machine; the audit reads its JSON."""


def normalized(name):
    """Return the name of a package as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def run_script(name, *words, **env):
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / name), *words],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


@pytest.fixture
def audit(tmp_path):
    """Audit packages, given as name -> lines of metadata, against a lock."""

    def run(packages, lock=None, answer='"skip_reason": "unknown"'):
        site = tmp_path / "site"
        for name, lines in packages.items():
            folder = site / f"{name}-1.0.dist-info"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{lines}\n")
        tool = tmp_path / "tool" / "pip_audit"
        tool.mkdir(parents=True, exist_ok=True)
        (tool / "__init__.py").touch()  # a package hides the real pip-audit, which an environment may have
        (tool / "__main__.py").write_text(ADVISORIES % answer)
        pins = lock or "".join(f"{name}==1.0 --hash=sha256:{HASH}\n" for name in packages)
        (tmp_path / "test.lock").write_text(pins)
        words = ("--lock", str(tmp_path / "test.lock"), "--site", str(site))
        done = run_script("audit.py", *words, PYTHONPATH=str(tmp_path / "tool"))
        assert done.stderr == ""
        return done.returncode, done.stdout

    return run


def test_every_package_of_the_lock_has_the_hashes_of_its_files():
    """Each pinned package, on every platform; nothing is left to the day of the install."""
    pins = re.findall(r"^[\w.-]+==\S+", LOCK, re.MULTILINE)
    blocks = re.split(r"^(?=[\w.-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert len(pins) == len(blocks) > 90
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert {"setuptools", "pip-audit", "pywin32"} <= {pin.partition("==")[0] for pin in pins}


def test_every_recipe_installs_by_hashes():
    """In the Makefile, the install of an empty environment, and the image; and pip resolves nothing: old ones would look for what the lock has."""
    for file in ("Makefile", "scripts/empty_install", "deploy/Dockerfile"):
        text = (ROOT / file).read_text(encoding="utf-8")
        installs = re.findall(r"^.*(?:PIP\)|\$pip|-m pip)[^#\n]* install.*$", text, re.MULTILINE)
        assert len(installs) >= 2
        for line in installs:
            assert "--no-deps --require-hashes -r" in line or "--no-deps --no-build-isolation" in line, line


def test_a_selection_has_what_an_extra_needs_and_no_more():
    """The demo needs the server and no test tool; who has no extra needs no server."""
    chosen = {
        extra: set(re.findall(r"^([\w.-]+)==", run_script("lock.py", "select", *extra).stdout, re.MULTILINE))
        for extra in ((), ("server",), ("dev",), ("dev", "audit"))
    }
    assert {"pydantic", "openai", "anyio", "setuptools"} <= chosen[()]
    assert not chosen[()] & {"fastapi", "pytest", "mcp", "psycopg", "pip-audit"}
    assert chosen["server",] - chosen[()] >= {"fastapi", "starlette", "uvicorn"}
    assert not chosen["server",] & {"pytest", "ruff"}
    assert {"pytest", "mcp", "psycopg", "keyring", "fastapi"} <= chosen["dev",]
    assert chosen["dev", "audit"] - chosen["dev",] >= {"pip-audit", "cyclonedx-python-lib"}
    assert len(chosen["dev", "audit"]) == len(set(re.findall(r"^([\w.-]+)==", LOCK, re.MULTILINE)))


@pytest.mark.parametrize("extras", [(), ("server",), ("dev",), ("dev", "audit")])
def test_a_selection_lacks_nothing_that_its_packages_need(extras):
    """What they say themselves that they need here, extras of each other included: pip, which resolves nothing, would not say it."""
    chosen = {
        normalized(name)
        for name in re.findall(r"^([\w.-]+)==", run_script("lock.py", "select", *extras).stdout, re.MULTILINE)
    }
    there = {normalized(each.metadata["Name"]): each for each in distributions()}
    wanted: dict[tuple[str, str], str] = {(name, ""): "the lock" for name in chosen & there.keys()}
    lacks: dict[str, str] = {}
    left = list(wanted)
    while left:
        name, extra = left.pop()
        for need in map(Requirement, there[name].requires or ()):
            if need.marker is not None and not need.marker.evaluate({"extra": extra}):
                continue
            needed = normalized(need.name)
            if needed not in chosen:
                lacks[needed] = name
                continue
            for each in ("", *need.extras):
                if needed in there and (needed, each) not in wanted:
                    wanted[needed, each] = name
                    left.append((needed, each))
    assert lacks == {}
    assert len(wanted) >= 20


def test_an_environment_that_matches_its_lock_passes(audit):
    """Licences as expressions, as text and as classifiers; that no source of advisories was reachable is said."""
    code, said = audit(
        {
            "one": "License-Expression: (MIT OR GPL-3.0-only) AND Apache-2.0",
            "two": "License: Apache License, Version 2.0",
            "three": "Classifier: License :: OSI Approved :: ISC License (ISCL)",
            "psycopg": "License-Expression: LGPL-3.0-only",
        }
    )
    assert (code, said) == (
        0,
        (
            "4 packages in the lock, 4 installed, 0 faults\n"
            "advisories: NOT CHECKED, no source was reachable (pypi, osv; osv knows none of the packages)\n"
        ),
    )


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("", "odd: its metadata names no licence that is known here"),
        ("License: Some words of our own", "odd: its metadata names no licence"),
        (
            f"License: {'Permission is granted to everybody. ' * 9}",
            "odd: its metadata names no licence",
        ),
        ("License-Expression: GPL-3.0-only", "odd: the licence GPL-3.0-only is not in the list"),
        ("License-Expression: LGPL-3.0-only", "odd: the licence LGPL-3.0-only is not in the list"),
        ("License-Expression: MIT AND GPL-3.0-only", "odd: the licence MIT AND GPL-3.0-only is not"),
        ("License-Expression: MIT AND (GPL-2.0-only OR GPL-3.0-only)", "is not in the list"),
        ("Classifier: License :: Other/Proprietary License", "odd: its metadata names no licence"),
        (
            "Classifier: License :: OSI Approved :: MIT License\nClassifier: License :: Other/Proprietary License",
            "odd: its metadata names no licence",
        ),
    ],
)
def test_an_unknown_licence_is_a_fault(audit, lines, fault):
    code, said = audit({"fine": "License-Expression: MIT", "odd": lines})
    assert (code, fault in said, said.count("FAULT")) == (1, True, 1), said


PINNED = f"fine==1.0 --hash=sha256:{HASH}\n"


@pytest.mark.parametrize(
    ("lock", "fault"),
    [
        ("fine==1.0\n", "fine==1.0 has no SHA-256 hashes in the lock: run `make lock`"),
        (f"fine==1.0 --hash=md5:{HASH[:32]}\n", "fine==1.0 has no SHA-256 hashes"),
        (f"fine==1.1 --hash=sha256:{HASH}\n", "fine: expected version 1.1 of the lock, found 1.0"),
        (f"{PINNED}more==2 --hash=sha256:{HASH}\n", "more 2 of the lock is not installed"),
        (
            f"other==1 ; sys_platform == 'none' --hash=sha256:{HASH}\n",
            "fine 1.0 is installed, and is not in the lock",
        ),
        (f"fine>=1.0 --hash=sha256:{HASH}\n", "expected a package pinned with ==, found 'fine>=1.0"),
        (f"    --hash=sha256:{HASH}\n", "line 1: expected a package"),
    ],
)
def test_a_difference_to_the_lock_is_a_fault(audit, lock, fault):
    code, said = audit({"fine": "License-Expression: MIT"}, lock)
    assert (code, fault in said, said.count("FAULT")) == (1, True, 1), said


def test_a_package_of_another_platform_may_be_missing(audit):
    lock = f"{PINNED}odd==1 ; sys_platform == 'none' --hash=sha256:{HASH}\n"
    assert audit({"fine": "License-Expression: MIT"}, lock)[0] == 0


def test_a_known_vulnerability_is_a_fault(audit):
    """The advisory, and the version that mends it; without one the audit says how much was looked up."""
    packages = {"fine": "License-Expression: MIT"}
    code, said = audit(packages, answer='"vulns": [{"id": "X-1", "fix_versions": ["1.1"]}]')
    assert (code, "FAULT fine 1: X-1, mended in 1.1" in said) == (1, True)
    code, said = audit(packages, answer='"vulns": []')
    assert (code, "advisories: pypi knows 0 about 1 packages" in said) == (0, True)
