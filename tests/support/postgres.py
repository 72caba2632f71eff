"""A PostgreSQL server of the tests' own: a cluster in a temporary folder, on a free port of this machine.

`fsync` is off: the tests kill the server and never its machine, and what a commit has handed to the operating system outlives the server. With it on,
each restart after a kill would first write every file of every test to the disk.

PostgreSQL refuses to run as root: then it runs as the user that its package made, or as nobody.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from contextlib import closing
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psycopg
from in_memory import memory_folder

PLACES = ("/usr/lib/postgresql", "/usr/pgsql-*", "/usr/local/opt", "/opt/homebrew/opt", "/opt/local/lib")
VERSION_MIN = 13
USER, PASSWORD = "firmplan", "s3cr3t-Pa55"
MISSING = (
    "PostgreSQL's server is not installed here (looked for initdb on the PATH and where packages put it); "
    "scripts/postgres installs it on Debian and Ubuntu"
)
NUMBERS = count(1)


def find_binaries() -> Path | None:
    """Return the folder of the newest server that is installed here; `None`: there is none."""
    found = [Path(name) for name in [shutil.which("initdb")] if name]
    for place in PLACES:
        for root in Path("/").glob(place.removeprefix("/")):
            found += [*root.glob("*/bin/initdb"), *root.glob("bin/initdb")]
    servers = [path.resolve().parent for path in found if (path.resolve().parent / "postgres").exists()]
    return max(servers, key=_version, default=None)


def _version(folder: Path) -> int:
    said = subprocess.run(
        [folder / "postgres", "--version"], capture_output=True, text=True, check=False
    ).stdout
    number = re.search(r"\) (\d+)", said)
    return int(number[1]) if number else 0


class Cluster:
    """See the module. The user `firmplan` may do all.

    Args:
        is_brief: The server lives for one run of tests: its files lie in memory where there is room, and it spares upkeep.
    """

    def __init__(self, *, is_brief: bool = False) -> None:
        self._is_brief = is_brief
        self._binaries = find_binaries()
        if self._binaries is None or _version(self._binaries) < VERSION_MIN:
            raise RuntimeError(MISSING)
        self._folder = Path(
            tempfile.mkdtemp(prefix="firmplan-postgres-", dir=memory_folder() if is_brief else None)
        )
        self._data = self._folder / "data"
        self._owner: dict[str, object] = {}
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            os.chown(self._folder, entry.pw_uid, entry.pw_gid)
            self._owner = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        self.port = _free_port()
        self._make()
        self.start()

    def _make(self) -> None:
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._do(
            "initdb", "-D", self._data, "-U", USER, "--auth=md5", f"--pwfile={secret}",
            "--encoding=UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip
        settings = f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\nmax_connections = 60\nfsync = off\n"
        if self._is_brief:  # tests make and leave tables of their own, which nobody needs analysed, and compiling gains short queries nothing
            settings += "full_page_writes = off\nautovacuum = off\njit = off\n"
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(settings)

    def _do(self, name: str, *words: object) -> None:
        command = [self._binaries / name, *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=self._folder, **self._owner
        )
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"

    # --- life

    def start(self) -> None:
        """Start the server and wait until it answers."""
        log = self._folder / "log"
        command = [self._binaries / "pg_ctl", "-D", self._data, "-l", log, "-w", "-t", "60", "start"]
        done = subprocess.run(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            cwd=self._folder,
            **self._owner,
        )
        assert done.returncode == 0, log.read_text()[-3000:]

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: in order, or `immediate`, as if its machine had lost its power."""
        self._do("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def remove(self) -> None:
        """Stop the server and take its folder away."""
        if (self._data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self._folder)

    @property
    def pid(self) -> int:
        """The process of the server, which starts one for each session."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    @property
    def processes(self) -> list[int]:
        """The processes of the server and of its sessions, as Linux lists them."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]

    # --- use

    def url(
        self, schema: str = "", *, user: str = USER, password: str = PASSWORD, database: str = "postgres"
    ) -> str:
        """Return the URL of a store in a schema."""
        options = f"?options=-csearch_path%3D{schema}" if schema else ""
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}{options}"

    def fresh_url(self) -> str:
        """Return the URL of a store that nobody has used."""
        return self.url(f"t{next(NUMBERS)}")

    def sql(self, statement: str, url: str | None = None) -> list[tuple[object, ...]]:
        """Do something as the user who may do all; return what is answered."""
        with closing(psycopg.connect(url or self.url(), autocommit=True)) as db:
            cursor = db.execute(statement)
            return cursor.fetchall() if cursor.description else []


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
