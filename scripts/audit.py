"""Check the packages that this environment has installed: hashes, versions, licences, known vulnerabilities.

    make audit
    python scripts/audit.py --lock FILE --site FOLDER   # another lock, and the packages of another folder

1. Every package of `requirements.lock` has SHA-256 hashes.
2. What is installed is what the lock names: no other version, nothing beside it, nothing missing.
3. Every licence, read from the packages' metadata, is in `[tool.firmplan.audit]` of `pyproject.toml`. An unknown one is a fault.
4. pip-audit asks for known vulnerabilities. Where no source of advisories is reachable, this part says so, and is no fault.

Exit code 1 where there is a fault, which is printed with what to do.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from lock import LOCK, Pin, normalized, read_lock, read_project
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.markers import Marker

UNLOCKED = frozenset({"firmplan", "pip"})
"""Installed without the lock: the checkout itself, and what comes with Python."""
SOURCES = ("pypi", "osv")
"""The sources of advisories that pip-audit knows; the first that is reachable is asked."""
SOURCE_TIMEOUT_S = 15
AUDIT_TIMEOUT_S = 600
LICENCE_LENGTH_MAX = 100
"""Characters of a `License` field that names a licence; a longer one is the licence's text."""
SPELLINGS = {
    "apache 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "bsd 2-clause license": "BSD-2-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "gnu lesser general public license v2 or later (lgplv2+)": "LGPL-2.0-or-later",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
}
"""How metadata from before SPDX expressions writes licences; a plain "BSD" does not say which, and the stricter one is taken."""


def hash_faults(pins: Sequence[Pin]) -> Iterator[str]:
    """Yield each package without a SHA-256 hash."""
    for pin in pins:
        if not pin.hashes or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in pin.hashes):
            yield f"{pin.name}=={pin.version} has no SHA-256 hashes in the lock: run `make lock`"


def version_faults(pins: Sequence[Pin], installed: Mapping[str, str]) -> Iterator[str]:
    """Yield each difference between the lock and what is installed."""
    applying = [pin for pin in pins if not pin.marker or Marker(pin.marker).evaluate()]
    wanted = {pin.name: pin.version for pin in applying}
    for name, version in sorted(installed.items()):
        if name in UNLOCKED:
            continue
        if name not in wanted:
            yield f"{name} {version} is installed, and is not in the lock: remove it, or run `make clean` and `make audit`"
        elif version != wanted[name]:
            yield f"{name}: expected version {wanted[name]} of the lock, found {version}: run `make clean` and `make audit`"
    for name in sorted(wanted.keys() - installed.keys() - UNLOCKED):
        yield f"{name} {wanted[name]} of the lock is not installed: run `make audit`, which installs it"


def licence_faults(found: Sequence[Distribution], rules: Mapping[str, Any]) -> Iterator[str]:
    """Yield each package whose licence is unknown or not allowed.

    Args:
        found: The installed packages.
        rules: `[tool.firmplan.audit]` of `pyproject.toml`.
    """
    allowed, exceptions = frozenset(rules["licences"]), rules.get("exceptions", {})
    read = rules.get("read", {})
    for each in sorted(found, key=lambda one: normalized(one.name)):
        name = normalized(each.name)
        licence = licence_of(each) or read.get(name)
        if licence is None:
            yield (
                f"{name}: its metadata names no licence that is known here: read its licence file, and add the package to "
                "[tool.firmplan.audit.read] in pyproject.toml, or a new spelling to SPELLINGS in scripts/audit.py"
            )
        elif exceptions.get(name) != licence and not is_allowed(licence, allowed):
            yield (
                f"{name}: the licence {licence} is not in the list of pyproject.toml ([tool.firmplan.audit]): do without the package, "
                "or add the licence there, or the package to its exceptions"
            )


def licence_of(found: Distribution) -> str | None:
    """Return a package's licence as an SPDX expression, from its metadata; `None`: it names none."""
    about = found.metadata
    if (expression := _spdx(about.get("License-Expression"))) is not None:
        return expression
    if (expression := _spdx(about.get("License"))) is not None:
        return expression
    named = [
        _spdx(classifier.split(" :: ")[-1])
        for classifier in about.get_all("Classifier", [])
        if classifier.startswith("License ::") and not classifier.endswith(("OSI Approved", "DFSG approved"))
    ]
    if not named or None in named:
        return None
    return " AND ".join(sorted({each for each in named if each is not None}))


def _spdx(text: str | None) -> str | None:
    if text is None or len(text) > LICENCE_LENGTH_MAX:
        return None
    try:
        return str(canonicalize_license_expression(SPELLINGS.get(text.strip().lower(), text.strip())))
    except InvalidLicenseExpression:
        return None


def is_allowed(expression: str, allowed: frozenset[str]) -> bool:
    """Whether a licence expression can be met with allowed licences: one side of each `OR`, both of each `AND`."""
    words = re.findall(r"[()]|[^\s()]+", re.sub(r"\s+WITH\s+", "+WITH+", expression))

    def either() -> bool:
        met = both()
        while words and words[0] == "OR":
            words.pop(0)
            met = both() or met
        return met

    def both() -> bool:
        met = one()
        while words and words[0] == "AND":
            words.pop(0)
            met = one() and met
        return met

    def one() -> bool:
        word = words.pop(0)
        if word != "(":
            return word.replace("+WITH+", " WITH ") in allowed
        met = either()
        words.pop(0)
        return met

    return either()


def advisory_faults(pins: Sequence[Pin]) -> tuple[list[str], str]:
    """Return each known vulnerability, and one line about which source was asked."""
    why = ""
    for source in SOURCES:
        # One package tells whether the source is reachable; without it every package would be asked for in vain.
        probe, why = _audit(pins[:1], source)
        if probe is None:
            continue
        answer, why = _audit(pins, source)
        if answer is None:
            break
        unknown = [each["name"] for each in answer if "skip_reason" in each]
        faults = [
            f"{each['name']} {each['version']}: {vulnerability['id']}, mended in {', '.join(vulnerability['fix_versions']) or 'no version'}"
            for each in answer
            for vulnerability in each.get("vulns", [])
        ]
        faults += [f"{name}: the source of advisories does not know it" for name in unknown]
        return faults, f"advisories: {source} knows {len(faults)} about {len(answer)} packages"
    return [], f"advisories: NOT CHECKED, no source was reachable ({', '.join(SOURCES)}; {why})"


def _audit(pins: Sequence[Pin], source: str) -> tuple[list[dict[str, Any]] | None, str]:
    """Return pip-audit's answer about packages, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text("\n".join(pin.text for pin in pins), encoding="utf-8")
        words = ["-m", "pip_audit", "-r", str(file), "--require-hashes", "--disable-pip", "--format", "json"]
        words += [
            "--vulnerability-service",
            source,
            "--timeout",
            str(SOURCE_TIMEOUT_S),
            "--progress-spinner",
            "off",
        ]
        try:
            done = subprocess.run(
                [sys.executable, *words], capture_output=True, text=True, check=False, timeout=AUDIT_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            return None, f"{source} did not answer"
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        lines = done.stderr.strip().splitlines() or ["pip-audit said nothing"]
        return None, f"{source}: {lines[-1][:200]}"
    if all("skip_reason" in each for each in found):  # the registry is a mirror without advisories
        return None, f"{source} knows none of the packages"
    return found, ""


def main() -> int:
    """Print what was found, and return the exit code."""
    parser = argparse.ArgumentParser(description="Check the packages that are installed.")
    parser.add_argument("--lock", type=Path, default=LOCK)
    parser.add_argument("--site", type=Path, help="the folder of the packages; default: this Python's")
    given = parser.parse_args()
    try:
        pins = read_lock(given.lock.read_text(encoding="utf-8"))
    except ValueError as error:
        print(f"FAULT {given.lock}: {error}")
        return 1
    found = [*(distributions() if given.site is None else distributions(path=[str(given.site)]))]
    installed = {normalized(each.name): each.version for each in found}
    tool: Any = read_project()["tool"]
    faults = [
        *hash_faults(pins),
        *version_faults(pins, installed),
        *licence_faults(found, tool["firmplan"]["audit"]),
    ]
    known, said = ([], "advisories: NOT CHECKED, the lock has faults") if faults else advisory_faults(pins)
    for fault in [*faults, *known]:
        print(f"FAULT {fault}")
    print(f"{len(pins)} packages in the lock, {len(installed)} installed, {len(faults) + len(known)} faults")
    print(said)
    return 1 if faults or known else 0


if __name__ == "__main__":
    sys.exit(main())
