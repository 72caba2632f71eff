"""MCP servers that want a login: a real authorization server and a real protected server, both made with the SDK, in a process."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import stat
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest
from firmplan import ConfigError, Engine, Toolset
from firmplan.tools.mcp import oauth as logins
from firmplan.tools.mcp.oauth import FileTokens, OAuth, _expect_safe
from forked import Program, start_script
from forked import run as run_program
from mcp_http import PATIENCE_S

SERVER = Path(__file__).parents[2] / "support" / "mcp_protected.py"
LOOK = {"firmplan": 1, "steps": [{"id": "a", "tool": "look"}], "output": "${a}"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Vault:
    """The protected server, and the folder in which its log and switches lie."""

    def __init__(self, folder):
        self.folder = folder
        ports = free_port(), free_port()
        self.url = f"http://127.0.0.1:{ports[1]}/mcp"
        self.process = start_script(SERVER, folder, *ports)
        end = time.monotonic() + PATIENCE_S
        for port in ports:
            while not is_open(port):
                assert time.monotonic() < end
                assert self.process.exitcode is None
                time.sleep(0.02)

    @property
    def log(self):
        path = self.folder / "log"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of settings of nobody."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    made = Vault(tmp_path_factory.mktemp("vault"))
    yield made
    made.process.kill()
    made.process.join()


@pytest.fixture
def vault(process, home):
    """The server with an empty folder; it still knows the clients of earlier tests, but nobody else does."""
    for path in process.folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (process.folder / "ttl").write_text("3600")
    return process


def log_in(vault, *words, browse=True):
    """Carry out `firmplan tools login`, with a browser that opens what the command prints; return code, output and errors."""
    command = ("-m", "firmplan", "tools", "login", vault.url, "--no-browser", "--json", *words)
    with Program(command, cwd=vault.folder) as process:
        said = ""
        while browse and (line := process.stderr.readline()):
            said += line
            if found := re.match(r"http://127\.0\.0\.1:\d+/authorize\S*", line):
                page = httpx2.get(found[0], follow_redirects=True)
                said += f"page: {page.status_code} {page.text}\n"
                break
        out, err = process.communicate(timeout=60)
    return process.returncode, out, said + err


def be_logged_in(vault, **oauth):
    """Log in as the command does, without a process for it."""

    def show(address):
        threading.Thread(target=httpx2.get, args=(address,), kwargs={"follow_redirects": True}).start()

    assert asyncio.run(logins.log_in(vault.url, OAuth.of(oauth), show))[1]


def look(vault, **oauth):
    tools = Toolset.from_mcp(vault.url, oauth=oauth or True)
    with Engine(tools=tools, store="memory:") as engine:
        return engine.run_sync(LOOK)


def kept(home):
    (path,) = home.glob("firmplan/mcp/*.json")
    return path


def test_a_person_logs_in_and_programs_use_the_tokens(vault, home):
    """Registered once, one code; the file is the owner's alone. Another program needs no person and no new login."""
    code, out, err = log_in(vault)
    assert code == 0, err
    path = kept(home)
    assert json.loads(out) == {"server": "vault", "tools": 2, "asked": True, "tokens": str(path)}
    assert "page: 200" in err
    assert "You can close this page" in err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert look(vault).output == "seen"
    assert vault.log == ["register", "authorize", "code"]
    code, out, _ = log_in(vault, browse=False)
    assert (code, json.loads(out)["asked"]) == (0, False)


def test_without_a_login_a_program_says_what_to_do(vault):
    """It registers no client and opens no page."""
    with pytest.raises(ConfigError, match=r"wants a person to log in: firmplan tools login http://127"):
        look(vault)
    with pytest.raises(ConfigError, match=r"or log in: oauth=True"):
        Toolset.from_mcp(vault.url)
    assert vault.log == []


def test_a_token_is_refreshed_in_a_new_process_too(vault, home):
    """At the authorization server, which is elsewhere; the new refresh token is kept, since the old one was for one use."""
    (vault.folder / "ttl").write_text("1")
    be_logged_in(vault)
    first = json.loads(kept(home).read_text())
    time.sleep(2.1)
    assert look(vault).output == "seen"
    second = json.loads(kept(home).read_text())
    assert second["tokens"]["refresh_token"] != first["tokens"]["refresh_token"]
    assert stat.S_IMODE(kept(home).stat().st_mode) == 0o600
    time.sleep(2.1)
    assert look(vault).output == "seen"
    assert vault.log[:4] == ["register", "authorize", "code", "refresh"]
    assert set(vault.log[4:]) == {"refresh"}
    assert vault.log.count("authorize") == 1


def test_a_token_that_expires_under_way_is_refreshed(vault):
    """Within one session, before the next call."""
    (vault.folder / "ttl").write_text("2")
    be_logged_in(vault)
    tools = Toolset.from_mcp(vault.url, oauth=True)
    with Engine(tools=tools, store="memory:") as engine:
        assert engine.run_sync(LOOK).output == "seen"
        time.sleep(3.1)
        assert engine.run_sync(LOOK).output == "seen"
    assert vault.log.count("authorize") == 1
    assert "refresh" in vault.log


def test_two_programs_refresh_one_after_the_other(vault):
    """A refresh token can be used once: without turns the second program would need a person."""
    (vault.folder / "ttl").write_text("2")
    be_logged_in(vault)
    time.sleep(3)
    (vault.folder / "ttl").write_text("3600")
    script = (
        "from firmplan import Toolset; import sys; print(Toolset.from_mcp(sys.argv[1], oauth=True).names)"
    )
    (vault.folder / "names.py").write_text(script)
    programs = [Program([vault.folder / "names.py", vault.url]) for _ in range(4)]
    assert [each.communicate(timeout=60)[0].strip() for each in programs] == ["('look', 'meet')"] * 4
    assert vault.log.count("refresh") == 1


def test_calls_go_on_concurrently(vault):
    """The login does not put them in a row: each of these calls ends when all eight have begun."""
    be_logged_in(vault)
    tools = Toolset.from_mcp(vault.url, oauth=True)
    steps = [{"id": f"m{i}", "tool": "meet", "args": {"guests": 8}} for i in range(8)]
    with Engine(tools=tools, store="memory:") as engine:
        assert engine.run_sync({"firmplan": 1, "steps": steps}).status == "succeeded"


def test_a_refused_login_and_revoked_tokens_are_told(vault, home):
    """The command fails with the server's word, and nothing is kept; a program says that a person is needed."""
    (vault.folder / "deny").touch()
    code, out, err = log_in(vault)
    assert (code, "the login was refused: access_denied" in out) == (2, True), err
    assert "The login was refused" in err
    assert "tokens" not in json.loads(kept(home).read_text())
    (vault.folder / "deny").unlink()
    be_logged_in(vault)
    (vault.folder / "revoked").touch()
    with pytest.raises(ConfigError, match="firmplan tools login"):
        look(vault)


def test_tokens_stand_where_one_says_and_can_be_forgotten(vault, home, firmplan_tools):
    file = vault.folder / "tokens.json"
    be_logged_in(vault, file=file)
    assert not list(home.glob("firmplan/mcp/*.json"))
    assert look(vault, file=file).output == "seen"
    assert firmplan_tools("logout", vault.url, "--file", file) == (0, {"removed": True, "tokens": str(file)})
    assert firmplan_tools("logout", vault.url, "--file", file)[1]["removed"] is False
    with pytest.raises(ConfigError, match="log in"):
        look(vault, file=file)


@pytest.fixture
def firmplan_tools():
    def run(*words):
        done = run_program(["-m", "firmplan", "tools", *words, "--json"])
        return done.returncode, json.loads(done.stdout)

    return run


def test_another_place_of_tokens_is_another_login(vault):
    """So its results are not those of the first; the tokens themselves count nothing, and a server without a login is as before."""
    file = vault.folder / "tokens.json"
    be_logged_in(vault, file=file)
    FileTokens(vault.folder / "copy.json").keep(file.read_text())
    one, same, other = (
        Toolset.from_mcp(vault.url, oauth={"file": path}).get("look").fingerprint
        for path in (file, file, vault.folder / "copy.json")
    )
    assert one == same != other


def test_the_page_takes_the_right_answer_alone(vault):
    """A wrong state, another path and a second visit do nothing to the login."""
    with Program(["-m", "firmplan", "tools", "login", vault.url, "--no-browser", "--json"]) as process:
        line = ""
        while "/authorize" not in line:
            line = process.stderr.readline()
        back = httpx2.URL(line.strip()).params["redirect_uri"]
        assert httpx2.get(back.replace("callback", "other")).status_code == 404
        assert httpx2.get(back).status_code == 400
        assert httpx2.post(back, params={"code": "x"}).status_code == 404
        assert httpx2.get(back, params={"code": "stolen", "state": "of nobody"}).status_code == 200
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "State parameter mismatch" in out


@pytest.mark.parametrize(
    ("address", "server", "is_safe"),
    [
        ("https://login.example/token", "https://mcp.example/mcp", True),
        ("http://login.example/token", "https://mcp.example/mcp", False),
        ("https://127.0.0.1/token", "https://mcp.example/mcp", False),
        ("https://169.254.169.254/latest", "https://mcp.example/mcp", False),
        ("https://localhost/token", "https://mcp.example/mcp", False),
        ("http://127.0.0.1:9/token", "http://localhost:8/mcp", True),
        ("http://login.example/token", "http://localhost:8/mcp", False),
    ],
)
def test_a_server_can_not_send_a_login_anywhere(address, server, is_safe):
    """Not to unencrypted addresses, and not to this machine if it is elsewhere."""
    if is_safe:
        _expect_safe(address, server)
    else:
        with pytest.raises(ConfigError, match="expected an https address"):
            _expect_safe(address, server)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("yes", "expected True"),
        ({"place": "x"}, "expected True"),
        ({"file": "a", "keyring": "b/c"}, "found both"),
        ({"keyring": "b"}, "SERVICE/USER"),
        ({"client_secret": "s"}, "name it too"),
        ({"port": "80"}, "a number as port"),
    ],
)
def test_settings_that_are_wrong_are_told(given, words):
    with pytest.raises(ConfigError, match=words):
        OAuth.of(given)
    with pytest.raises(ConfigError):
        Toolset.from_mcp("http://127.0.0.1:1/mcp", oauth=given)


def test_a_command_has_no_login_and_damaged_tokens_are_told(tmp_path):
    with pytest.raises(ConfigError, match="oauth is for a server at an address"):
        Toolset.from_mcp([sys.executable, "x.py"], oauth=True)
    (tmp_path / "t.json").write_text("{")
    with pytest.raises(ConfigError, match="log in again"):
        Toolset.from_mcp("http://127.0.0.1:1/mcp", oauth={"file": tmp_path / "t.json"})


def test_tokens_may_stand_in_the_keyring(vault, monkeypatch):
    """By the package `keyring`, whatever system it speaks to; here a file."""
    folder = vault.folder  # in which the command starts, and finds the module
    (folder / "ring.py").write_text(RING)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "ring.Ring")
    monkeypatch.setenv("RING", str(folder / "ring.json"))
    assert log_in(vault, "--keyring", "vault/ann")[0] == 0
    assert "access_token" in json.loads((folder / "ring.json").read_text())["vault/ann"]
    script = "from firmplan import Toolset; import sys; print(Toolset.from_mcp(sys.argv[1], oauth={'keyring': 'vault/ann'}).names)"
    (folder / "names.py").write_text(script)
    done = run_program([folder / "names.py", vault.url])
    assert "look" in done.stdout, done.stderr


RING = """
import json, os
from pathlib import Path
from keyring.backend import KeyringBackend

FILE = Path(os.environ["RING"])

class Ring(KeyringBackend):
    priority = 1
    def _all(self):
        return json.loads(FILE.read_text()) if FILE.exists() else {}
    def get_password(self, service, username):
        return self._all().get(f"{service}/{username}")
    def set_password(self, service, username, password):
        FILE.write_text(json.dumps(self._all() | {f"{service}/{username}": password}))
    def delete_password(self, service, username):
        left = self._all()
        left.pop(f"{service}/{username}")
        FILE.write_text(json.dumps(left))
"""
