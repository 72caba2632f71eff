"""Tools of an MCP server: a real one, made with the official package, in a process of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stdio_servers
from firmplan import ConfigError, Context, Engine, Toolset, check, tool
from firmplan.plans.signature import Effect
from firmplan.tools import lint

SERVER = Path(__file__).parents[2] / "support" / "mcp_server.py"
PATIENCE_S = 20.0
ENV = {"SERVER_WORD": "given"}


def command(folder):
    return stdio_servers.command(SERVER, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def tools(folder):
    """One server for all tests that do not end it: an engine that stays open holds it."""
    found = Toolset.from_mcp(command(folder), env=ENV)
    with Engine(tools=found, store="memory:"):
        yield found


def step(name, args=None, **more):
    return {
        "firmplan": 1,
        "steps": [{"id": "a", "tool": name, "args": args or {}, **more}],
        "output": "${a}",
    }


async def run(engine, name, args=None, **more):
    return await engine.run(step(name, args, **more))


def value(tools, name, args=None):
    with Engine(tools=tools, store="memory:") as engine:
        return engine.run_sync(step(name, args)).raise_for_status().output


async def until(is_so):
    """Wait for what a server does after its answer, or instead of one."""
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_tool_has_the_servers_schemas_and_its_words_as_its_words(tools):
    """Prose is on one line and marked; schemas keep what they demand; the name is one that plans can say."""
    weather, say = tools.get("weather"), tools.get("say")
    assert weather.description == "(in the words of the MCP server 'weather station') The weather of a city."
    assert weather.parameters["required"] == ["city"]
    assert weather.returns["required"] == ["celsius"]
    assert say.parameters["properties"]["text"] == {"type": "string", "description": "What to say."}
    assert "_9_lives_" in tools.names
    assert value(tools, "_9_lives_", {"text": "meow"}) == "meow"


def test_what_is_not_said_to_be_read_only_is_a_write(tools):
    """Every tool is untrusted; a read is not reused until someone says how long it may be."""
    assert {each.trust for each in tools} == {"untrusted"}
    weather, pay, put = (tools.get(name) for name in ("weather", "pay", "put"))
    assert (weather.effect, weather.reuse_for_s) == (Effect.READ, None)
    assert (pay.effect, pay.is_effect_declared, pay.idempotent) == (Effect.WRITE, False, False)
    assert (put.effect, put.is_effect_declared, put.idempotent) == (Effect.WRITE, False, True)


def test_untrusted_outputs_reach_no_write(tools):
    """A plan that hands a server's words to a write is refused; an untyped result is warned of."""

    @tool(effect="write")
    def send(body: str) -> str:
        """Send it."""
        return body

    plan = step("say", {"text": "x"})
    plan["steps"].append({"id": "b", "tool": "send", "args": {"body": "${a}"}})
    codes = {each.code for each in check(plan, [*tools, send]).problems}
    assert {"unsafe-flow", "unchecked-type"} <= codes
    assert "missing-arg" in {each.code for each in check(step("weather"), tools).problems}


def test_results(tools):
    """A structured result is the value; else what was said, by its parts."""
    assert value(tools, "weather", {"city": "Rome"}) == {"celsius": 4.0}
    assert value(tools, "structured") == {"a": [1]}
    assert value(tools, "say", {"text": "hello"}) == "hello"
    assert value(tools, "nothing") is None


def test_bytes_are_artifacts(tools):
    """Pictures and files lie in the store; texts and links are objects; text that looks like JSON stays text."""
    with Engine(tools=tools, store="memory:") as engine:
        words, picture, file, text, link = engine.run_sync(step("parts")).raise_for_status().output
        assert engine.read_artifact_sync(picture) == b"PNG"
        assert engine.read_artifact_sync(file) == b"bin"
    assert words == '{"not": "read"}'
    assert (picture["media_type"], picture["size"]) == ("image/png", 3)
    assert (file["media_type"], file["name"]) == ("x/y", "b.bin")
    assert text == {"uri": "file:///c.txt", "text": "inside", "media_type": "text/plain"}
    assert link == {"uri": "https://example.org/d", "name": "d"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fail", "no[31m such city"),
        ("refuse", "refuses the call: not like this"),
        ("ask", "asks for more before it answers"),
    ],
)
def test_what_the_server_refuses_has_failed(tools, name, said):
    """A result that is an error, a refused call, a question back: the step failed, and no control character is told."""
    with Engine(tools=tools, store="memory:") as engine:
        done = engine.run_sync(step(name))
    (error,) = done.errors
    assert (done.status, error.code, error.temporary) == ("failed", "tool-error", False)
    assert said in error.message


def test_an_unfit_result_stands_with_a_warning(tools):
    """The schema is the server's word, and a wrong one fails no run, least of all after a write."""
    with Engine(tools=tools, store="memory:") as engine:
        done = engine.run_sync(step("misfit"))
    (warning,) = done.warnings
    assert (done.status, done.output) == ("succeeded", {"celsius": "warm"})
    assert (warning.step, warning.code) == ("a", "result-mismatch")


def test_an_unfit_result_of_a_write_says_that_it_took_effect(tools):
    """Where the server's promise is enforced, a write that broke it is not made again."""
    with Engine(tools=tools, store="memory:", results="enforce") as engine:
        done = engine.run_sync(step("misfit"))
    (error,) = done.errors
    assert error.code == "bad-result"
    assert "the call took effect" in error.message
    assert done.steps["a"].attempts == 1


def test_a_write_carries_its_idempotency_key(tools):
    """In the request's `_meta`."""
    key = value(tools, "pay", {"text": "x"})
    assert len(key) == 64
    assert value(tools, "put", {"text": "x"}) not in (key, "None")


def test_the_server_sees_a_small_environment_and_what_was_given(tools, monkeypatch):
    """Secrets of this process are not the server's."""
    names = value(tools, "environment").split()
    assert "SERVER_WORD" in names
    assert "PATH" in names
    assert "PYTEST_CURRENT_TEST" not in names


def test_the_fingerprint_holds_server_version_schemas_and_target(folder, tools):
    """Equal servers give equal fingerprints; another version, tool or environment gives another."""
    again = Toolset.from_mcp(command(folder), env=ENV)
    assert again.get("say").fingerprint == tools.get("say").fingerprint
    other = Toolset.from_mcp(command(folder), env={"SERVER_WORD": "given", "SERVER_VERSION": "1.3"})
    assert other.get("say").fingerprint != tools.get("say").fingerprint
    assert tools.get("say").version == "weather station 1.2"
    assert tools.get("say").fingerprint != tools.get("_9_lives_").fingerprint
    assert tools.get("say").unseen is None


def test_settings_for_all_and_for_one(served):
    """Keywords of `@tool` hold for all tools, overrides for one; names can be chosen."""
    chosen = Toolset.from_mcp(
        served.url,
        only=["weather", "say"],
        prefix="w_",
        trust="trusted",
        resource="weather",
        overrides={"say": {"name": "speak", "effect": "pure"}, "weather": {"reuse_for": "1h"}},
    )
    assert chosen.names == ("speak", "w_weather")
    weather, speak = chosen.get("w_weather"), chosen.get("speak")
    assert (weather.trust, weather.resource, weather.reuse_for_s) == ("trusted", "weather", 3600.0)
    assert (speak.effect, speak.timeout_s) == (Effect.PURE, 300.0)
    assert weather.description == "The weather of a city."


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"only": ["wether"]}, "only: .* has no tool 'wether'.*did you mean 'weather'"),
        ({"overrides": {"sey": {}}}, "overrides: .* has no tool 'sey'"),
        ({"only": "weather"}, r"write \['weather'\]"),
        ({"overrides": {"say": {"name": "pid"}}}, "two tools that would be called 'pid'"),
        ({"overrides": {"say": {"efect": "read"}}}, "unknown setting 'efect'; did you mean 'effect'"),
        ({"connect_timeout": 0}, "connect_timeout: expected more than zero"),
        ({"isolation": "process"}, "isolation"),
        ({"queue": "gpu"}, "queue: its server"),
    ],
)
def test_settings_that_are_wrong(served, settings, said):
    """Each is told where it stands, with what was expected."""
    with pytest.raises(ConfigError, match=said):
        Toolset.from_mcp(served.url, **settings)


def test_headers_are_for_an_address(folder):
    """A command has an environment instead."""
    with pytest.raises(ConfigError, match="headers are for a server at an address"):
        Toolset.from_mcp(command(folder), headers={"A": "b"})


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ([], "expected a command"),
        ("", "expected a command"),
        ("python 'x", "No closing quotation"),
        ("https:///x", "expected an address"),
        (["no-such-program-here"], "cannot be reached: FileNotFoundError"),
        ([sys.executable, "-c", "pass"], "cannot be reached"),
    ],
)
def test_a_server_that_is_not_there(server, said):
    """Neither hangs nor hides why."""
    with pytest.raises(ConfigError, match=said):
        Toolset.from_mcp(server)


def test_a_server_that_says_nothing_is_given_up():
    """After `connect_timeout`, and its process is stopped."""
    with pytest.raises(ConfigError, match=r"cannot be reached: nothing within 0\.5 s"):
        Toolset.from_mcp([sys.executable, "-c", "input(); input()"], connect_timeout=0.5)


def test_no_option_of_a_command_is_told():
    """It may hold a secret."""
    with pytest.raises(ConfigError, match="cannot be reached") as raised:
        Toolset.from_mcp("no-such-program --token=secret --key secret")
    assert "'no-such-program ..'" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_tool_may_be_called_by_hand_and_looked_over(tools):
    """Outside of any run; lint says what a plan's author may want to declare."""
    assert asyncio.run(tools.get("weather")(city="Oslo")) == {"celsius": 4.0}
    assert {remark.code for remark in lint([tools.get("weather"), tools.get("pay")])} >= {
        "no-reuse",
        "undeclared-effect",
    }


def test_progress_is_passed_on(tools):
    """How far the server says it is, as the call's own progress."""
    told = []
    context = Context(on_progress=lambda fraction, note: told.append((fraction, note)))
    assert asyncio.run(tools.get("work")(firmplan_context=context)) == "worked"
    asyncio.run(until(lambda: told))
    assert told == [(0.25, "a quarter")]


def test_an_idempotent_write_is_made_again_when_its_server_died(tmp_path):
    """Nobody is asked, since it carries its key."""
    tools = Toolset.from_mcp(command(tmp_path), overrides={"die": {"idempotent": True}})
    with Engine(tools=tools, store="memory:") as engine:
        done = engine.run_sync(step("die"))
    assert (done.status, done.output, done.steps["a"].attempts) == ("succeeded", "alive", 2)


def test_a_result_is_reused_while_the_server_is_the_same(tmp_path):
    """Only where `reuse_for` says so, and not of another version of the server."""

    def ask(**env):
        overrides = {"say": {"reuse_for": "1h", "resource": "words"}}
        found = Toolset.from_mcp(command(tmp_path), only=["say"], overrides=overrides, env=env)
        with Engine(tools=found, store=tmp_path / "runs.db") as engine:
            return engine.run_sync(step("say", {"text": "x"})).steps["a"].reused

    assert [ask(), ask(), ask(SERVER_VERSION="1.3")] == [False, True, False]


def test_one_session_for_all_runs_and_none_after_the_last_engine(tmp_path, monkeypatch):
    """Two engines share the server's process; it ends with the second, by itself, and a third starts another."""
    # On a busy machine a process takes longer to end than the SDK waits before it kills it.
    monkeypatch.setattr("mcp.client.stdio.PROCESS_TERMINATION_TIMEOUT", PATIENCE_S)
    tools = Toolset.from_mcp(command(tmp_path))

    async def main():
        async with Engine(tools=tools, store="memory:") as one:
            async with Engine(tools=tools, store="memory:") as two:
                runs = await asyncio.gather(*(run(engine, "pid") for engine in (one, two, one)))
            again = await run(one, "pid")
        pids = {int(each.output) for each in (*runs, again)}
        async with Engine(tools=tools, store="memory:") as three:
            other = int((await run(three, "pid")).output)
        return pids, other

    (pid,), other = asyncio.run(main())
    assert other != pid
    assert [is_running(each) for each in (pid, other)] == [False, False]
    assert (tmp_path / "ended").exists()


def test_a_toolset_that_is_dropped_ends_its_server(tmp_path):
    """Also without any engine."""
    tools = Toolset.from_mcp(command(tmp_path))
    assert not (tmp_path / "ended").exists()
    del tools
    asyncio.run(until((tmp_path / "ended").exists))


def test_a_write_that_was_under_way_when_the_server_died_is_in_doubt(tmp_path):
    """It may have been carried out, so a person decides; the next call finds a new process."""
    tools = Toolset.from_mcp(command(tmp_path))
    with Engine(tools=tools, store="memory:") as engine:
        done = engine.run_sync(step("die"))
        assert done.status == "indeterminate"
        assert engine.run_sync(step("say", {"text": "hello"})).output == "hello"


def test_a_read_that_was_under_way_is_a_temporary_failure(tmp_path):
    """And is worth another call, which finds a new process."""
    tools = Toolset.from_mcp(command(tmp_path), retries=1)
    with Engine(tools=tools, store="memory:") as engine:
        done = engine.run_sync(step("die-reading"))
    assert (done.output, done.steps["a"].attempts) == ("alive", 2)


def test_a_timeout_is_told_to_the_server(tmp_path):
    """The call ends there too, and of a write nobody knows what became."""
    tools = Toolset.from_mcp(command(tmp_path))

    async def main():
        async with Engine(tools=tools, store="memory:") as engine:
            done = await run(engine, "sleep", timeout=2)
            await until((tmp_path / "cancelled").exists)
            return done

    assert asyncio.run(main()).status == "indeterminate"


def test_a_tool_that_changed_while_its_server_was_away_is_not_called(tmp_path):
    """Its plan was checked against another; the other tools go on."""
    version = tmp_path / "version"
    version.write_text("1")
    script = tmp_path / "server.py"
    script.write_text(
        f"import os, runpy\nos.environ['SERVER_VERSION'] = open({str(version)!r}).read()\n"
        f"runpy.run_path({str(SERVER)!r}, run_name='__main__')\n"
    )
    tools = Toolset.from_mcp(stdio_servers.command(script, tmp_path))
    with Engine(tools=tools, store="memory:") as engine:
        assert engine.run_sync(step("weather", {"city": "Rome"})).status == "succeeded"
        version.write_text("2")
        engine.run_sync(step("die"))
        (error,) = engine.run_sync(step("weather", {"city": "Rome"})).errors
        assert "has changed its tool 'weather' since it was loaded" in error.message
        assert engine.run_sync(step("say", {"text": "hello"})).output == "hello"


def test_tools_of_two_servers_that_clash(folder, tools):
    """The message says how to name them apart; a prefix does."""
    with pytest.raises(ConfigError, match=r"two tools are called 'say'.*with from_mcp\(\.\., prefix="):
        _ = tools + Toolset.from_mcp(command(folder), only=["say"])
    both = tools + Toolset.from_mcp(command(folder), only=["say"], prefix="other.")
    assert {"say", "other.say"} <= set(both.names)


def test_a_module_of_tools_may_hold_a_server(tmp_path):
    """`--tools tools.py` finds the tools of toolsets too."""
    source = tmp_path / "tools.py"
    source.write_text(
        "import sys\nfrom firmplan import Toolset\n"
        f"station = Toolset.from_mcp([sys.executable, {str(SERVER)!r}, {str(tmp_path)!r}], only=['say'])\n"
    )
    assert Toolset.load(source).names == ("say",)


def test_importing_firmplan_loads_no_mcp():
    """Nor does making an engine."""
    code = "import sys, firmplan\nfirmplan.Engine([])\nprint([m for m in sys.modules if m.split('.')[0] in ('mcp', 'mcp_types')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    """Before anything is started."""
    monkeypatch.setattr("firmplan.tools.mcp.tools.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'firmplan\[mcp\]'"):
        Toolset.from_mcp("server")


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)"], ids=["ended", "killed"])
def test_no_server_outlives_the_process(tmp_path, end):
    """Neither one that ends in order, without any engine, nor one that is killed outright."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\nfrom firmplan import Toolset\n"
        f"tools = Toolset.from_mcp([sys.executable, {str(SERVER)!r}, {str(tmp_path)!r}])\n"
        f"assert tools.names\n{end}\n"
    )
    subprocess.run([sys.executable, program], check=not end)
    if not end:
        assert (tmp_path / "ended").exists()
    asyncio.run(until((tmp_path / "ended").exists))
