"""Build the documentation as a site: `make site` writes it into build/site/html.

    python scripts/build_site.py            # build it with .venv/site, and fail where a link, an anchor or a page of the navigation is wrong
    python scripts/build_site.py --stage    # only write what the builder reads, into build/site/source

The pages stay where readers of the repository, messages and tests look for them (README.md, docs/); this script copies them into a folder of the same
shape, so that every relative link means the same on the site. Three things differ there: a link to a folder leads to the README of that folder, the name
of a file beside the language of a code block is the title of the block, and docs/API.md has the whole docstring of each name, rendered by mkdocstrings,
in the place of the summary.

The builder is Zensical, which continues mkdocs-material; it has an environment and a lock of its own (requirements-site.lock).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "docs" / "site"
WORK = ROOT / "build" / "site"
BUILDER = ROOT / ".venv" / "site" / "bin" / "zensical"
LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\((?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w+) (?P<rest>\S.*)$", re.MULTILINE)
FURTHER = "    # further pages\n"
"""Where the pages that the navigation does not name are put."""
WORKER = "worker.js"
"""Ours, in the place of the script that the builder's offline mode loads from another host."""
FOREIGN_WORKER = "https://unpkg.com/iframe-worker/shim"
TESTING_NAMES = (
    "ScriptedModel",
    "ScriptedTool",
    "MemoryStore",
    "FakeClock",
    "run_plan",
    "assert_step",
    "assert_same_run",
    "read_recorded",
)
"""The names of `firmplan.testing` that docs/TESTING.md is about."""


def read_config() -> dict[str, object]:
    """Return the settings of the site."""
    found: dict[str, object] = tomllib.loads((CONFIG / "zensical.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    return found


def navigation(part: object) -> Iterator[str]:
    """Yield the pages of the navigation, in its order."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict):
        for inner in part.values():
            yield from navigation(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from navigation(inner)


def navigation_faults() -> list[str]:
    """Return the pages that the navigation names and that do not exist, and those that it names twice."""
    listed = list(navigation(read_config()["nav"]))
    missing = [page for page in listed if not (ROOT / page).is_file()]
    twice = sorted({page for page in listed if listed.count(page) > 1})
    return [
        *(f"{page}: the navigation names it, and there is no such page" for page in missing),
        *(f"{page}: the navigation has it {listed.count(page)} times" for page in twice),
    ]


def further_pages() -> list[str]:
    """Return the pages of docs/ that the navigation does not name: they stand at the end of the reference."""
    listed = set(navigation(read_config()["nav"]))
    pages = (page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md"))
    return sorted(page for page in pages if page not in listed)


def stage(work: Path = WORK) -> None:
    """Write everything that the builder reads into a folder."""
    source = work / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    config = (CONFIG / "zensical.toml").read_text(encoding="utf-8")
    assert FURTHER in config
    lines = "".join(f'    "{page}",\n' for page in further_pages())
    (work / "zensical.toml").write_text(config.replace(FURTHER, lines), encoding="utf-8")
    for name in ("site.css", WORKER):
        shutil.copy2(CONFIG / name, source)
    left, seen = [*navigation(read_config()["nav"]), *further_pages()], set[str]()
    while left:
        name = left.pop()
        if name in seen or not (ROOT / name).is_file():
            continue
        seen.add(name)
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith(".md"):
            shutil.copy2(ROOT / name, target)
            continue
        text, linked = staged(name)
        target.write_text(text, encoding="utf-8")
        left += linked
    _stage_package(work / "package")


def staged(name: str) -> tuple[str, list[str]]:
    """Return the text of a page as the builder gets it, and the files that it links."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if name == "docs/API.md":
        text = _with_docstrings(text)
    linked: list[str] = []

    def lead(found: re.Match[str]) -> str:
        label, target, anchor = found[1], found[2], found[3] or ""
        path = Path(os.path.normpath(ROOT / Path(name).parent / unquote(target)))
        if path.is_dir() and (path / "README.md").is_file():
            path, target = path / "README.md", f"{target.rstrip('/')}/README.md"
        elif path.is_dir() or not path.is_relative_to(ROOT):
            return label.lstrip("!")[1:-1]
        linked.append(path.relative_to(ROOT).as_posix())
        return f"{label}({target}{anchor})"

    def title(found: re.Match[str]) -> str:
        named = re.fullmatch(r"[\w./-]+\.\w+", found["rest"])
        return f"{found['indent']}```{found['kind']}" + (f' title="{named[0]}"' if named else "")

    parts = re.split(r"(^ *```.*?^ *```$)", text, flags=re.MULTILINE | re.DOTALL)
    for index, part in enumerate(parts):
        parts[index] = FENCE.sub(title, part, count=1) if index % 2 else LINK.sub(lead, part)
    return "".join(parts), linked


def _with_docstrings(text: str) -> str:
    """Return the page of the Python API with the docstring of each name below its heading."""
    head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    names = [section.split("\n", 1)[0] for section in sections]
    told = [*names, *(f"testing.{name}" for name in TESTING_NAMES)]
    return head + "\n".join(f"::: firmplan.{name}\n" for name in told)


def _stage_package(target: Path) -> None:
    """Copy the modules of the package: mkdocstrings reads a folder named `firmplan`, and the name of a clone is its owner's choice."""
    shutil.rmtree(target, ignore_errors=True)
    with (ROOT / "pyproject.toml").open("rb") as file:
        packages: list[str] = tomllib.load(file)["tool"]["setuptools"]["packages"]
    for package in packages:
        inner = Path(*package.split(".")[1:])
        if not (ROOT / inner).is_dir():
            continue  # `firmplan.demo` lies elsewhere, and has no public name
        (target / "firmplan" / inner).mkdir(parents=True, exist_ok=True)
        for module in (ROOT / inner).glob("*.py"):
            shutil.copy2(module, target / "firmplan" / inner)


class _Page(HTMLParser):
    """What a built page links, loads and defines."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element."""
        each = {name: value or "" for name, value in attrs}
        self.ids |= {each[name] for name in ("id", "name") if name in each}
        if tag == "a" and "href" in each:
            self.links.append(each["href"])
        if tag in {"script", "img", "source", "iframe"} and "src" in each:
            self.loaded.append(each["src"])
        if tag == "link" and each.get("rel") in {
            "stylesheet",
            "preload",
            "preconnect",
            "icon",
            "modulepreload",
        }:
            self.loaded.append(each["href"])


def own_worker(html: Path) -> None:
    """Have every page load our stand-in for workers, instead of one from another host."""
    for path in html.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        up = "../" * (len(path.relative_to(html).parts) - 1)
        path.write_text(text.replace(FOREIGN_WORKER, f"{up}{WORKER}"), encoding="utf-8")


def faults_of(html: Path) -> list[str]:
    """Return what is wrong with a built site: links and anchors that lead nowhere, and whatever a page loads from another host."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(html.rglob("*.html"))}
    found: list[str] = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # it may be shown at any address, and its links begin at the root of the host
        name = path.relative_to(html)
        found += [f"{name}: loads {each}" for each in page.loaded if re.match(r"(https?:)?//", each)]
        for link in page.links:
            if re.match(r"\w+:|//", link):
                continue
            file, anchor = urldefrag(link)
            target = Path(os.path.normpath(path.parent / unquote(file))) if file else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                found.append(f"{name}: the link {link} leads to no file")
            elif (
                anchor and target in pages and unquote(anchor) not in pages[target].ids and anchor != "__top"
            ):
                found.append(f"{name}: the link {link} leads to no anchor")
    if not list(html.rglob("search.js*")):
        found.append("the site has no index for its search")
    return found


def main(words: Sequence[str]) -> int:
    """Stage and build; print what is wrong, and return the exit code."""
    faults = navigation_faults()
    if not faults:
        stage()
    if not faults and "--stage" not in words:
        html = WORK / "html"
        shutil.rmtree(html, ignore_errors=True)
        done = subprocess.run(
            [str(BUILDER), "build", "--strict", "--clean", "-f", str(WORK / "zensical.toml")],
            cwd=WORK,
            env={**os.environ, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
        if done.returncode:
            faults = [said.partition("Traceback ")[0]]
        else:
            own_worker(html)
            faults = faults_of(html)
    for fault in faults:
        print(fault)
    if not faults:
        print(f"the site is in {(WORK / 'html').relative_to(ROOT)}: open index.html")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
