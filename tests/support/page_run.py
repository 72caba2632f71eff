"""Carry out a page of the documentation as a reader would: write its files, run its programs and commands, and compare what they print.

| block | what happens |
| --- | --- |
| `python tools.py`, `yaml plan.yaml`, any kind with a file's name | the text is written into that file; a file that a command has written has to have it |
| `python` | the text is run as a program, in this process, after those before it in one namespace; it may `await`, as in a notebook |
| `console` | each line after `$` is run as a command; the lines below it are its output |
| `console background` | the same, and the command goes on while the page does: the lines are the beginning of its output |
| `sh` | each line is run as a command, which has to succeed; the page shows no output |
| `text` or `json` after a `python` block | the output of that program |
| `yaml` with steps | a plan: the check finds no errors in it, with the `TOOLS` of the programs before it |
| `yaml bad-expr`, `json unknown-field`, .. | the same, with exactly this code as its error |
| `python langgraph`, `python prefect`, .. | code of another library: it is compiled, and run where `make peers` has put that library |
| any block below a comment `<!-- not run: REASON -->` | it is read (`faults_of_unrun`), and not run: commands and their options have to exist, programs to compile, documents to parse |

A block inside a comment is carried out like every other one, and a reader of the page does not see it: it prepares what a page's subject is not. In outputs, `…` stands for any text. Of a command the
reader sees stdout and stderr together, and so does this module. Addresses with a port of `PORTS` get a free port. `# ..` after a command is a remark.
A page that enters `examples/` gets a copy of that folder, as a reader has it in a clone.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from queue import Queue
from types import ModuleType
from typing import Self, TextIO

import firmplan
import yaml
from firmplan import check
from firmplan.cli.app import USAGE_ERROR, app
from forked import Program
from typer.main import get_command

PEERS = ("langgraph", "llmcompiler", "prefect")
ROOT = Path(firmplan.__file__).parent
PEERS_HOME = ROOT / ".venv" / "peers"
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>[^>]+) -->\n+)?(?P<indent> *)```(?P<info>[^\n]*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
OURS = ("firmplan", "pytest", "python", "uvicorn")
PORTS = ("8000", "8009", "8010")
CODE = re.compile(r"[a-z]+(-[a-z]+)+")  # of the check
END_S = 60.0  # a command takes a second; a machine under load gets some patience
# Quicker, and the output is the same; the forked process has loaded firmplan before pytest could rewrite its assertions.
PLAIN = "-p no:cacheprovider -p no:hypothesispytest -p no:xdist -p no:timeout -W ignore::pytest.PytestAssertRewriteWarning"


class PageRun:
    """One reader of one page, in one folder."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        ours = ("FIRMPLAN_", "PYTEST_", "OPENAI_")
        self.folder = folder
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(ours) and name not in {"CI", "BUILD_NUMBER"}
        }
        self.env |= {
            "PYTEST_ADDOPTS": PLAIN,
            "COLUMNS": "80",
            "PYTHONPATH": str(folder),
            "FIRMPLAN_DRAIN": "0",
            **(env or {}),
        }
        self.env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{self.env['PATH']}"
        self.ports = {each: str(free_port()) for each in PORTS}
        self.loop = asyncio.Runner()
        self.background: list[Program] = []
        self.written: set[Path] = set()
        self.programs = 0
        self.readers: list[threading.Thread] = []
        self.module = ModuleType(
            "program_of_the_page"
        )  # where fingerprints and dataclasses look for what a name means
        self.said: str | None = ""

    def __enter__(self) -> Self:
        self._cwd, self._path, self._environ = Path.cwd(), list(sys.path), dict(os.environ)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.close()
        os.chdir(self._cwd)
        os.environ.clear()
        os.environ.update(self._environ)
        sys.path[:] = self._path
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(self.folder)):
                del sys.modules[name]
        for program in self.background:
            program.send_signal(signal.SIGTERM)
            program.wait(END_S)
        for reader in self.readers:
            reader.join()
        for program in self.background:
            program.close()

    def carry_out(self, page: str) -> None:
        """Carry out every block of a page, in order. Raises: AssertionError: a block prints something else than the page says."""
        for block in FENCE.finditer(page):
            text = self._here(textwrap.dedent(block["text"]))
            kind, _, rest = block["info"].partition(" ")
            if block["why"]:
                self.said = None
                assert not (found := faults_of_unrun(kind, text)), "\n".join(found)
            elif kind == "console":
                self._commands(text, goes_on=rest == "background")
            elif rest in PEERS:
                self.said = self._peer(kind, rest, text)
            elif kind in {"yaml", "json"} and (not rest or CODE.fullmatch(rest)) and "steps" in text:
                self._check(yaml.safe_load(text), rest)
            elif rest:
                self._write(self.folder / rest, text)
            else:
                self._run(kind, text)

    def _commands(self, text: str, *, goes_on: bool) -> None:
        """Run the commands of a block, and compare what they print."""
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, expected = split_command(part)
            if command.startswith("curl ") and shutil.which("curl") is None:
                continue
            said = self._start(command, expected) if goes_on else self.command(command)
            compare(said, self._there(expected), command)

    def _write(self, path: Path, text: str) -> None:
        """Write a file of the page; a file that a command has written has to have this text."""
        if path.exists() and path not in self.written:
            compare(path.read_text(encoding="utf-8"), text, path.name)
            return
        self.written.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def _run(self, kind: str, text: str) -> None:
        """Run a program, commands without outputs, or compare what the program before printed."""
        if kind == "python":
            self.said = self._program(text)
        elif kind == "sh":
            for command in commands(text):
                self.command(command, succeeds=True)
        elif kind not in {"text", "json"}:
            raise AssertionError(f"expected a block that can be carried out, found ```{kind}")
        elif self.said is not None:  # else the program is not run, or is one of a peer that is not here
            compare(self.said, self._there(text), "the program above")

    def command(self, command: str, *, succeeds: bool = False) -> str:
        """Run one command line and return its output. Raises: AssertionError: it had to succeed and did not."""
        if found := re.fullmatch(r"cd (\S+)", command):
            if found[1].startswith("examples/") and not (self.folder / "examples").exists():
                left_out = shutil.ignore_patterns("*.db*", "__pycache__")
                shutil.copytree(ROOT / "examples", self.folder / "examples", ignore=left_out)
            self.folder = (self.folder / found[1]).resolve()
            return ""
        if found := re.fullmatch(r"mkdir (\S+)", command):
            (self.folder / found[1]).mkdir()
            return ""
        if found := re.fullmatch(r"export (\w+)=\$\((.*)\)", command):
            self.env[found[1]] = self._ran(found[2])[0].strip()
            return ""
        if found := re.fullmatch(r"export (\w+)=(\S+)", command):
            self.env[found[1]] = found[2]
            return ""
        out, err, code = self._ran(command)
        assert not (succeeds and code), f"{command}: exit code {code}\n{err}{out}"
        return self._there(err + out)

    def _ran(self, command: str) -> tuple[str, str, int]:
        command, _, file = command.partition(" > ")
        words = shlex.split(command, comments=True)
        if words[0] in OURS and not re.search(r"[|<>;&]", re.sub(r"'[^']*'", "", command)):
            expanded = [re.sub(r"\$(\w+)", lambda name: self.env[name[1]], word) for word in words]
            with Program(self._words(expanded), cwd=self.folder, env=self.env) as program:
                out, err = program.communicate(END_S)
            if file:
                (self.folder / file).write_text(out, encoding="utf-8")
            return "" if file else out, err, program.returncode or 0
        command += f" > {file}" if file else ""
        done = subprocess.run(
            ["sh", "-ec", command],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=END_S,
        )
        return done.stdout, done.stderr, done.returncode

    def _words(self, words: list[str]) -> list[str]:
        return words[1:] if words[0] == "python" else ["-m", *words]

    def _start(self, command: str, expected: str) -> str:
        """Start a command that goes on, and return as many lines of its output as the page shows."""
        program = Program(
            self._words(shlex.split(command)), cwd=self.folder, env={**self.env, "PYTHONUNBUFFERED": "1"}
        )
        self.background.append(program)
        lines: Queue[str] = Queue()
        for pipe in (program.stdout, program.stderr):
            self.readers.append(threading.Thread(target=_read_into, args=(pipe, lines), daemon=True))
            self.readers[-1].start()
        return self._there("".join(lines.get(timeout=END_S) for _ in expected.splitlines()))

    def _program(self, text: str) -> str:
        """Run a program of the page in this process, and return its output."""
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.env)
        self.programs += 1
        source = self.folder / f"program_{self.programs}.py"  # the fingerprint of a tool reads its source
        source.write_text(text, encoding="utf-8")
        self.module.__file__ = str(source)
        sys.modules[self.module.__name__] = self.module
        if sys.path[0] != str(self.folder):
            sys.path.insert(0, str(self.folder))
        code = compile(text, str(source), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            if code.co_flags & inspect.CO_COROUTINE:
                self.loop.run(eval(code, vars(self.module)))
            else:
                exec(code, vars(self.module))
        return self._there(out.getvalue())

    def _check(self, plan: dict[str, object], fault: str) -> None:
        """Check a plan of the page: it has the error that its block names, or none, and nothing in it is unused."""
        report = check({"firmplan": 1, **plan}, vars(self.module).get("TOOLS", []))
        assert [problem.code for problem in report.errors] == ([fault] if fault else []), str(report)
        unused = {"unused-step", "unused-input", "suspicious-text"}
        assert fault or unused.isdisjoint(problem.code for problem in report.problems), str(report)

    def _peer(self, kind: str, name: str, text: str) -> str | None:
        """Run another library's program, where `make peers` has put that library; else only compile it."""
        if kind != "python":
            return None
        compile(text, name, "exec", dont_inherit=True)
        python = PEERS_HOME / name / "bin" / "python"
        if not python.exists():
            return None
        env = {name: value for name, value in self.env.items() if name != "PYTHONPATH"}
        env["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = str(
            int(END_S)
        )  # its own 20 s are short for a loaded machine
        done = subprocess.run(
            [python, "-c", text],
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=END_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _here(self, text: str) -> str:
        for named, real in self.ports.items():
            text = re.sub(rf"\b{named}\b", real, text)
        return text

    def _there(self, text: str) -> str:
        for named, real in self.ports.items():
            text = text.replace(real, named)
        return text.replace(str(self.folder), ".")


def _read_into(pipe: TextIO, lines: Queue[str]) -> None:
    for line in pipe:
        lines.put(line)


def split_command(part: str) -> tuple[str, str]:
    """Return a command, whose lines may go on after a backslash, and its output."""
    command, _, rest = part.partition("\n")
    while command.endswith("\\"):
        line, _, rest = rest.partition("\n")
        command = command[:-1].rstrip() + " " + line.strip()
    return command, rest


def commands(text: str) -> Iterator[str]:
    """Yield the commands of a block of `sh`, without remarks and empty lines."""
    rest = text
    while rest:
        command, rest = split_command(rest)
        if command.strip() and not command.lstrip().startswith("#"):
            yield command


def faults_of_unrun(kind: str, text: str) -> list[str]:
    """Return what is wrong with a block that is read and not run."""
    if kind in {"sh", "console"}:
        parts = (part for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:])
        lines = commands(text) if kind == "sh" else (split_command(part)[0] for part in parts)
        return [fault for line in lines if (fault := faults_of_command(line))]
    try:
        if kind == "python":
            compile(text, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        elif kind in {"yaml", "json"}:
            list(yaml.safe_load_all(text)) if kind == "yaml" else json.loads(text)
        elif kind == "toml":
            tomllib.loads(text)
    except (SyntaxError, ValueError, yaml.YAMLError) as error:
        return [str(error)]
    return []


def faults_of_command(line: str) -> str:
    """Return what is wrong with a command line that is not run: a command of firmplan that does not exist, an unknown option, a missing or superfluous argument."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    words = list(itertools.takewhile(lambda word: not re.match(r"\d?[|<>;&]", word), words))
    if not words or words[0] != "firmplan":
        return ""
    command, context, words = get_command(app), None, words[1:]
    while True:
        context = command.context_class(command, parent=context, **command.context_settings)
        try:
            values, left, _ = command.make_parser(context).parse_args(list(words))
            if hasattr(command, "commands") and left:
                name, words = left[0], left[1:]
                if (command := command.get_command(context, name)) is None:
                    return f"{line}: there is no command {name!r}"
                continue
        except USAGE_ERROR as error:
            return f"{line}: {error}"
        missing = [each.name for each in command.params if each.required and not values.get(each.name)]
        if left and context.allow_extra_args:  # a command that runs another
            return faults_of_command(shlex.join(["firmplan", *left]))
        if left or missing:
            return f"{line}: expected {missing or 'no further argument'}, found {left}"
        return ""


def compare(said: str, expected: str, what: str) -> None:
    """Fail unless an output is the expected one, in which `…` stands for any text."""
    pattern = r"[\s\S]*?".join(re.escape(line) for line in settled(expected).split("…"))
    if re.fullmatch(pattern, settled(said)) is None:
        raise AssertionError(f"{what}: expected\n{settled(expected)}\nfound\n{settled(said)}")


def settled(text: str) -> str:
    """Return a text without what differs from run to run: times, and the ends of lines."""
    text = re.sub(r"\b\d+(?:\.\d+)? m?s\b", "0 ms", text)
    text = re.sub(r"\b\d+\.\d+s\b", "0.00s", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
