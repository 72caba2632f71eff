"""Secrets come from an explicit map: no plan reads the environment, a key of firmplan, or a secret of another tool."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import keyring
import pytest
from firmplan import ConfigError, Context, Engine, PlanRejected, Secret, check
from firmplan.cli.config import read_settings
from firmplan.service import create_app
from firmplan.tools import Toolset, tool
from keyring.backend import KeyringBackend
from keyring.errors import KeyringError

CHILD_TOOLS = {
    each.name: each for each in Toolset.load(Path(__file__).parents[1] / "support" / "child_tools.py")
}


@tool(effect="read", version=1)
def fetch(url: str, key: str) -> int:
    """Return the length of a key."""
    return len(key)


@tool(effect="read", version=1)
def look(name: str, *, ctx: Context) -> int:
    """Return the length of a secret that the tool asks for."""
    return len(ctx.secret(name))


@tool(effect="read", version=1)
def echo(key: str, how: str) -> object:
    """Give the secret away."""
    return {
        "number": int(key) if key.isdecimal() else key,
        "json": json.dumps({"a": key}),
        "repr": repr([key]),
    }[how]


def using(name, argument="key"):
    """A plan that hands a secret to `fetch`."""
    given = {"url": "u", "key": "k"} | {argument: f'${{secret("{name}")}}'}
    return {"firmplan": 1, "steps": [{"id": "a", "tool": "fetch", "args": given}], "output": "${a}"}


def asking(name, tool="look"):
    """A plan whose tool asks for a secret itself."""
    return {"firmplan": 1, "steps": [{"id": "a", "tool": tool, "args": {"name": name}}], "output": "${a}"}


def ran(plan, *tools, **settings):
    """Run a plan in a new engine."""

    async def main():
        async with Engine([*tools] or [fetch, look], store="memory:", **settings) as engine:
            return await engine.run(plan)

    return asyncio.run(main())


class Vault(KeyringBackend):
    """A keyring of the process."""

    priority = 1

    def __init__(self):
        super().__init__()
        self.entries = {}

    def get_password(self, service, username):
        if service == "locked":
            raise KeyringError("locked")
        return self.entries.get((service, username))

    def set_password(self, service, username, password):
        self.entries[service, username] = password

    def delete_password(self, service, username):
        del self.entries[service, username]


@pytest.fixture
def vault():
    """The process's keyring, which is put back afterwards."""
    before, made = keyring.get_keyring(), Vault()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


# --- sources


def test_a_secret_comes_from_its_source(tmp_path, monkeypatch, vault):
    monkeypatch.setenv("SOME_KEY", "from env")
    (tmp_path / "key").write_text("from a file\n")
    keyring.set_password("pay", "ada", "from the keyring")
    secrets = {
        "ENV": Secret(env="SOME_KEY"),
        "FILE": Secret(file=tmp_path / "key"),
        "RING": Secret(keyring="pay/ada"),
        "TEXT": "as it is",
    }
    for name, length in {"ENV": 8, "FILE": 11, "RING": 16, "TEXT": 8}.items():
        assert ran(using(name), secrets=secrets).output == length
        assert ran(asking(name), secrets=secrets).output == length


def test_a_rotated_secret_is_read_again_by_the_next_run(tmp_path):
    async def main():
        file = tmp_path / "key"
        file.write_text("one")
        async with Engine([fetch], store="memory:", secrets={"K": Secret(file=file)}) as engine:
            first = await engine.run(using("K"))
            file.write_text("longer")
            return first.output, (await engine.run(using("K"))).output

    assert asyncio.run(main()) == (3, 6)


MISSING = {
    "variable": ({"env": "NOT_THERE"}, "the environment variable NOT_THERE is not set"),
    "file": ({"file": "/nowhere/key"}, "its file /nowhere/key cannot be read: No such file or directory"),
    "entry": ({"keyring": "pay/bob"}, "the keyring has no entry pay/bob"),
    "locked keyring": ({"keyring": "locked/bob"}, "the keyring cannot be read: locked"),
}


@pytest.mark.parametrize("source", MISSING)
def test_a_secret_that_its_source_lacks_fails_the_step_and_names_the_source(source, vault):
    given, message = MISSING[source]
    for plan in (using("K"), asking("K")):
        run = ran(plan, secrets={"K": Secret(**given)})
        assert (run.status, run.errors[0].code) == ("failed", "no-secret")
        assert message in run.errors[0].message


BAD = {
    "no source": ({}, "expected one of env, file and keyring, found none"),
    "two sources": ({"env": "A", "file": "b"}, "found env and file"),
    "own key": ({"env": "FIRMPLAN_API_KEYS"}, "FIRMPLAN_API_KEYS holds a key of firmplan"),
    "key of the model": ({"env": "OPENAI_API_KEY"}, "OPENAI_API_KEY holds a key"),
    "key of the store": ({"env": "PGPASSWORD"}, "PGPASSWORD holds a key"),
    "keyring without a user": ({"keyring": "pay"}, "expected SERVICE/USER, found 'pay'"),
    "tools as text": (
        {"env": "A", "tools": "pay.key"},
        r"expected a list such as \['pay.key'\], found 'pay.key'",
    ),
    "empty name": ({"env": ""}, "env: expected text, found ''"),
    "number": ({"file": 3}, "file: expected text, found 3"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_secret_that_is_none_is_refused(what):
    given, message = BAD[what]
    with pytest.raises(ConfigError, match=message):
        Secret(**given)


@pytest.mark.parametrize("given", ["everything", 3, {"K": 3}, {3: "k"}, {"K": b"hush"}])
def test_settings_that_are_no_secrets_are_refused_without_their_value(given):
    with pytest.raises(ConfigError, match="secrets: ") as refused:
        Engine([], store="memory:", secrets=given)
    assert "hush" not in str(refused.value)


# --- what plans may use


def test_without_a_map_there_is_no_secret(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "x")
    with pytest.raises(PlanRejected) as rejected:
        ran(using("SOME_KEY"))
    (problem,) = rejected.value.problems
    assert (problem.code, problem.path) == ("unknown-secret", "$.steps[0].args.key")
    assert ran(asking("SOME_KEY")).errors[0].code == "no-secret"


def test_a_misspelt_secret_gets_the_nearest_name():
    with pytest.raises(PlanRejected, match="did you mean 'PAY_KEY'"):
        ran(using("PAY_KYE"), secrets={"PAY_KEY": "k"})


PLACES = {
    "argument": (["fetch.key"], {"key"}, False),
    "another argument": (["fetch.url"], {"url"}, False),
    "tool": (["fetch"], {"key", "url"}, False),
    "another tool": (["look"], set(), True),
    "anywhere": ([], {"key", "url"}, True),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_is_only_for_its_places(place):
    tools, arguments, is_read = PLACES[place]
    secrets = {"K": Secret(env="HOME", tools=tools)}
    for argument in ("key", "url"):
        report = check(using("K", argument), [fetch], secrets={"K": tools})
        assert report.ok == (argument in arguments)
    assert (ran(asking("K"), secrets=secrets).status == "succeeded") == is_read


def test_a_plan_that_was_accepted_elsewhere_meets_the_map_of_the_engine_that_runs_it(tmp_path):
    """The check of the first engine passed; the engine that makes the call decides."""

    @tool(effect="write", approval="always", version=1)
    def send(key: str) -> int:
        """Send."""
        return len(key)

    plan = {
        "firmplan": 1,
        "steps": [{"id": "a", "tool": "send", "args": {"key": '${secret("K")}'}}],
        "output": "${a}",
    }

    async def main():
        async with Engine([send], store=tmp_path / "s.db", secrets={"K": "k"}) as engine:
            run = await engine.run(plan)
            await engine.approve(run.id, "a", by="me")
        narrow = {"K": Secret(env="HOME", tools=["look"])}
        async with Engine([send], store=tmp_path / "s.db", secrets=narrow) as engine:
            return await engine.resume(run.id)

    run = asyncio.run(main())
    assert (run.status, run.errors[0].code) == ("failed", "no-secret")
    assert "it is only for look" in run.errors[0].message


OWN = {
    "FIRMPLAN_API_KEYS": "own-key-1,own-key-2",
    "OPENAI_API_KEY": "model-key",
    "PGPASSWORD": "store-key",
    "COPY_OF_OWN": "own-key-2",
    "COPY_OF_MODEL": "model-key",
}


@pytest.mark.parametrize("name", OWN)
def test_the_environment_never_holds_own_keys(monkeypatch, name):
    """Under their own names and under others."""
    for variable, value in OWN.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("OTHER", "fine")
    assert ran(using("OTHER"), secrets="environment").output == 4
    with pytest.raises(PlanRejected):
        ran(using(name), secrets="environment")
    assert ran(asking(name), secrets="environment").errors[0].code == "no-secret"


def test_the_open_environment_is_logged_and_never_served(capfd):
    async def main():
        async with Engine([fetch], store="memory:", secrets="environment") as engine:
            with pytest.raises(ConfigError, match="for a program that serves nobody else"):
                create_app(engine)

    asyncio.run(main())
    assert "every environment variable is open to plans" in capfd.readouterr().err


# --- processes


def test_a_child_process_inherits_no_keys(monkeypatch):
    """What a tool asks for is answered; libraries and programs that it starts find nothing else."""
    names = ["SOME_SETTING", "FIRMPLAN_API_KEYS", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"]
    for name in names:
        monkeypatch.setenv(name, f"value of {name}")
    monkeypatch.setenv("FIRMPLAN_PROCESS_ENV", "AWS_PROFILE, AWS_REGION")
    steps = [{"id": "a", "tool": "inherited", "args": {"names": [*names, "PATH"]}}]
    found = ran({"firmplan": 1, "steps": steps, "output": "${a}"}, CHILD_TOOLS["inherited"]).output
    assert found.pop("PATH")
    assert found.pop("asked") == "value of SOME_SETTING"
    assert {name for name, value in found.items() if value} == {"AWS_PROFILE"}


def test_a_child_process_gets_only_the_secrets_that_it_asks_for_and_may_have():
    secrets = {"MINE": "12345", "OTHER": Secret(env="HOME", tools=["pay"])}
    tool = CHILD_TOOLS["ask_secret"]
    assert ran(asking("MINE", "ask_secret"), tool, secrets=secrets).output == 5
    refused = ran(asking("OTHER", "ask_secret"), tool, secrets=secrets)
    assert refused.errors[0].code == "no-secret"
    assert "it is only for pay" in refused.errors[0].message


def test_a_child_process_cannot_hide_a_secret_that_it_was_given():
    """The engine masks what it has handed out, whatever the child says of it."""
    found = ran(asking("MINE", "hide_secret"), CHILD_TOOLS["hide_secret"], secrets={"MINE": "12345678"})
    assert found.status == "succeeded"
    assert "12345678" not in str(found.to_dict())


# --- masking


SPELLINGS = {"number": "4711471147", "json": 'k"ey\\with-ünd', "repr": "k'ey\"\\with\n"}


@pytest.mark.parametrize("how", SPELLINGS)
def test_each_spelling_of_a_secret_is_masked(tmp_path, how):
    secret = SPELLINGS[how]
    steps = [{"id": "a", "tool": "echo", "args": {"key": '${secret("K")}', "how": how}}]

    async def main():
        async with Engine([echo], store=tmp_path / "s.db", secrets={"K": secret}) as engine:
            return await engine.run({"firmplan": 1, "steps": steps, "output": "${a}"})

    run = asyncio.run(main())
    forms = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
    }
    assert '${secret("K")}' in str(run.output)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for form in forms:
        assert form not in str(run.output)
        assert form.encode() not in kept


# --- the file of settings


def settings_of(folder, text):
    (folder / "firmplan.toml").write_text(text)
    return read_settings({}, {}, folder)


def test_the_file_names_secrets_and_their_places(tmp_path):
    found = settings_of(
        tmp_path, '[secrets]\nPAY = {env = "PAY_KEY", tools = "pay.key"}\nCERT = {file = "cert.pem"}\n'
    )
    assert {name: each.model_dump(exclude_defaults=True) for name, each in found.secrets.items()} == {
        "PAY": {"env": "PAY_KEY", "tools": ("pay.key",)},
        "CERT": {"file": str(tmp_path / "cert.pem")},
    }
    assert settings_of(tmp_path, 'secrets = "environment"\n').secrets == "environment"
    assert settings_of(tmp_path, "").secrets == {}


@pytest.mark.parametrize(
    "text", ['[secrets]\nK = "in the clear"\n', 'secrets = "all"\n', "[secrets]\nK = {vault = 'x'}\n"]
)
def test_the_file_holds_no_values_of_secrets(tmp_path, text):
    with pytest.raises(ConfigError, match="secrets"):
        settings_of(tmp_path, text)
