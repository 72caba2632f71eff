"""Carry out a page of the documentation as a reader would: write its files, run its programs and commands, and compare what they print.

| block | what happens |
| --- | --- |
| `python tools.py`, `yaml plan.yaml`, any kind with a file's name | the text is written into that file |
| `python` | the text is run as a program, in this process, after those before it in one namespace |
| `console` | each line after `$` is run as a command; the lines below it are its output |
| `console background` | the same, and the command goes on while the page does: the lines are the beginning of its output |
| `text` after a `python` block | the output of that program |
| `python langgraph`, `python prefect`, .. | code of another library: it is compiled, and run where `make peers` has put that library |

In outputs, `…` stands for any text. Of a command the reader sees stdout and stderr together, and so does this module. Addresses with the port 8000 or 8010 get a free port.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import Queue
from types import ModuleType
from typing import Self, TextIO

import firmplan
from forked import Program

PEERS = ("langgraph", "llmcompiler", "prefect")
PEERS_HOME = Path(firmplan.__file__).parent / ".venv" / "peers"
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
OURS = ("firmplan", "pytest", "python")
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
        self.ports = {each: str(free_port()) for each in ("8000", "8010")}
        self.background: list[Program] = []
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
            kind, _, rest = block["info"].partition(" ")
            text = self._here(block["text"])
            if kind == "console":
                for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                    command, expected = split_command(part)
                    if command.startswith("curl ") and shutil.which("curl") is None:
                        continue
                    said = self._start(command, expected) if rest == "background" else self.command(command)
                    compare(said, self._there(expected), command)
            elif rest in PEERS:
                self.said = self._peer(kind, rest, text)
            elif rest:
                path = self.folder / rest
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            elif kind == "python":
                self.said = self._program(text)
            elif kind == "text" and self.said is None:
                continue  # what a peer prints that is not here
            elif kind == "text":
                compare(self.said, self._there(text), "the program above")
            else:
                raise AssertionError(f"expected a block that can be carried out, found ```{block['info']}")

    def command(self, command: str) -> str:
        """Run one command line and return its output."""
        if found := re.fullmatch(r"cd (\S+)", command):
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
        out, err = self._ran(command)
        return self._there(err + out)

    def _ran(self, command: str) -> tuple[str, str]:
        words = shlex.split(command)
        if words[0] in OURS and not re.search(r"[|<>;&]", command):
            expanded = [re.sub(r"\$(\w+)", lambda name: self.env[name[1]], word) for word in words]
            with Program(self._words(expanded), cwd=self.folder, env=self.env) as program:
                return program.communicate(END_S)
        done = subprocess.run(
            ["sh", "-ec", command],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=END_S,
        )
        return done.stdout, done.stderr

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
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(text, str(source), "exec", dont_inherit=True), vars(self.module))
        return self._there(out.getvalue())

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
