"""A secret's value is nowhere: every byte written is searched for it."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest
from firmplan import Engine, Model, ToolError
from firmplan.plans.values import canonical, parse
from firmplan.testing import FakeClock, ScriptedModel
from firmplan.tools import Context, Toolset, tool
from firmplan.tools.agents.agent import agent
from firmplan.tools.logbook import masked_text, masked_value

SECRET = 'k3y"with\\quotes-ünd-more-1234567890'
TOKEN = "t0ken-abcdefghijklmnop"
CHILD_TOOLS = list(Toolset.load(Path(__file__).parents[1] / "support" / "child_tools.py"))


@tool(effect="read", version=1, resource="one")
def raise_it(key: str, *, ctx: Context) -> str:
    """Say it in an error."""
    raise ValueError(f"refused for {key} and {ctx.secret('TOKEN')!r} in {json.dumps({'key': key})}")


@tool(effect="read", version=1, retries=1, resource="two")
def say_it(key: str, *, ctx: Context) -> dict[str, str | list[str]]:
    """Hand it back, log it, tell it in a repeated failure."""
    ctx.log.warning(
        "got", key=ctx.secret("KEY"), all=[key, ctx.secret("TOKEN")], nested={"a": ctx.secret("TOKEN")}
    )
    try:
        int(key)
    except ValueError:
        ctx.log.exception("failed with %s", ctx.secret("TOKEN"))
    if ctx.attempt == 1:
        raise ToolError(f"again: {key}", code=f"busy with {key}", temporary=True)
    return {"key": f"<{key}>", "list": [ctx.secret("TOKEN")], f"a {ctx.secret('TOKEN')}": "x"}


@tool(effect="write", version=1, resource="box")
def lose_it(key: str, *, ctx: Context) -> str:
    """Leave open what happened, after telling of it."""
    ctx.log.warning("sending", key=key)
    ctx.progress(0.5, f"with {key}")
    raise ConnectionError(f"cut while sending {key}")


@tool(effect="write", approval="always", version=1, resource="till")
def wait_with_it(key: str) -> int:
    """Wait for a person."""
    return len(key)


@tool(effect="write", version=1, resource="shelf")
def misfit_it(key: str) -> int:
    """Return what does not fit."""
    return key


def asked_about_it(key: str, args: dict[str, str]) -> str:
    """Fail to find out, and say everything."""
    raise ValueError(f"asked about {key} with {args}")


@tool(effect="write", version=1, resource="drawer", reconcile=asked_about_it)
def lose_it_too(key: str) -> str:
    """Leave open what happened, so that it is asked about."""
    raise ConnectionError(f"cut while sending {key}")


PLAN = {
    "firmplan": 1,
    "steps": [
        {"id": "a", "tool": "raise_it", "args": {"key": '${secret("KEY")}'}},
        {"id": "b", "tool": "say_it", "args": {"key": '${secret("KEY")}'}},
        {"id": "c", "tool": "lose_it", "args": {"key": '${secret("KEY")}'}},
        {"id": "d", "tool": "wait_with_it", "args": {"key": '${secret("KEY")}'}},
        {"id": "g", "tool": "misfit_it", "args": {"key": '${secret("KEY")}'}},
        {"id": "h", "tool": "lose_it_too", "args": {"key": '${secret("KEY")}'}},
        {"id": "e", "tool": "whisper"},
        {"id": "f", "tool": "shout", "args": {"key": '${secret("KEY")}'}},
    ],
}


def forms(secret):
    """The ways in which text may hold it."""
    return [
        secret.encode(),
        json.dumps(secret)[1:-1].encode(),
        json.dumps(secret, ensure_ascii=False)[1:-1].encode(),
    ]


def test_no_byte_written_holds_a_secret(tmp_path, monkeypatch, capfd):
    """Store, write-ahead log, journal, events, run, errors, log, decisions, bundle, key parts: all of them, raw."""
    monkeypatch.setenv("FIRMPLAN_LOG", "json debug")
    tools = [raise_it, say_it, lose_it, wait_with_it, misfit_it, lose_it_too, *CHILD_TOOLS]
    shown = []

    async def main():
        secrets = {"KEY": SECRET, "TOKEN": TOKEN}
        async with Engine(tools, store=tmp_path / "s.db", secrets=secrets, clock=FakeClock()) as engine:
            run = await engine.run(PLAN)
            shown.append(run.to_dict())
            assert run.steps["c"].status == "indeterminate"
            assert run.steps["d"].status == "waiting"
            assert run.steps["e"].output == len(TOKEN)
            assert run.steps["b"].output == {
                "key": '<${secret("KEY")}>',
                "list": ['${secret("TOKEN")}'],
                'a ${secret("TOKEN")}': "x",
            }
            assert run.steps["h"].status == "indeterminate"
            await engine.resolve(run.id, "c", fail="looked")
            await engine.resolve(run.id, "h", fail="looked")
            await engine.approve(run.id, "d", by="me")
            run = await engine.resume(run.id)
            assert run.steps["d"].output == len(SECRET)
            shown.append(run.to_dict())
            shown.extend([event.to_dict() async for event in engine.events(run.id)])
            await engine.export(run.id, tmp_path / "run.firmplan")
            shown.append((await engine.replay(run.id)).to_dict())
            shown.append((await engine.replay(tmp_path / "run.firmplan")).to_dict())
            for path in tmp_path.iterdir():
                shown.append(path.name)
                kept.append(path.read_bytes())

    kept: list[bytes] = []
    asyncio.run(main())
    kept += [path.read_bytes() for path in tmp_path.iterdir()]
    said = capfd.readouterr()
    assert '"got"' in said.err
    assert '"call failed"' in said.err
    kept += [said.out.encode(), said.err.encode(), json.dumps(shown).encode(), repr(shown).encode()]
    for data in kept:
        for secret in (SECRET, TOKEN):
            for form in forms(secret):
                assert form not in data


def test_a_prompt_with_a_secret_has_no_key(tmp_path):
    """What an `@agent` was given in confidence is not among the parts of a key either."""

    @agent
    def greet(key: str) -> str:
        """Greet with ${key}."""

    async def main():
        async with ScriptedModel(["hello", "hello"]) as model:
            models = {"default": Model("m", base_url=model.base_url)}
            async with Engine(
                [greet], store=tmp_path / "s.db", secrets={"KEY": SECRET}, models=models
            ) as engine:
                plan = {
                    "firmplan": 1,
                    "steps": [{"id": "a", "tool": "greet", "args": {"key": '${secret("KEY")}'}}],
                }
                assert (await engine.run(plan)).status == "succeeded"
                again = await engine.run(plan)
                assert not again.steps["a"].reused

    asyncio.run(main())
    for path in tmp_path.iterdir():
        for form in forms(SECRET):
            assert form not in path.read_bytes()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        (SECRET, '${secret("KEY")}'),
        ([1, {"a": f"x{SECRET}y{SECRET}"}], [1, {"a": 'x${secret("KEY")}y${secret("KEY")}'}]),
        ({SECRET: 1, "b": 2}, {'${secret("KEY")}': 1, "b": 2}),
    ],
)
def test_values_are_masked_by_their_texts(value, expected):
    """Wherever a text holds the secret; values without it keep their bytes."""
    data = canonical(value)
    masked = masked_value(data, {"KEY": SECRET})
    assert parse(masked) == expected
    assert (masked is data) == (value == expected)


def test_short_secrets_are_left_in_values():
    """They stand there by chance; in messages they are masked all the same."""
    assert masked_value(b'"abc"', {"K": "abc"}) == b'"abc"'
    assert masked_text("it is abc", {"K": "abc"}) == 'it is ${secret("K")}'


def test_of_two_secrets_the_longer_goes_first():
    """One may be part of the other."""
    secrets = {"A": "long", "B": "long-and-longer"}
    assert masked_text("long-and-longer long", secrets) == '${secret("B")} ${secret("A")}'


def test_what_is_encoded_is_not_found():
    """An honest limit: masking knows text, not what can be computed from it."""
    coded = base64.b64encode(SECRET.encode()).decode()
    assert masked_text(coded, {"KEY": SECRET}) == coded


def looker(captured, told):
    """A tool that has secrets of every kind: handed over, asked for, in its environment, and in its own code."""

    @tool(effect="read", reuse_for="forever", resource="box")
    def look(key: str, at: str, *, ctx: Context) -> dict[str, str]:
        """Use them all, and hand back what it was handed."""
        used = [ctx.secret("TOKEN"), ctx.env("LOOK_PASSWORD"), captured]
        return {"key": key, "at": at, "told": told, "used": str(len(used))}

    @tool(effect="read", reuse_for="forever", resource="box")
    def see(at: str, *, ctx: Context) -> str:
        """Use what stands in the environment and in the code."""
        return f"{at} {told} {len(ctx.env('LOOK_PASSWORD') or '') > 0} {len(captured) > 0}"

    return [look, see]


def test_nothing_that_looks_back_tells_a_secret(tmp_path, monkeypatch):
    """Explanations, comparisons in every form, bisection, forks and bundles of runs whose secrets, code and environment changed."""
    key, token, password, captured = (
        f"{name}-secret-0123456789" for name in ("key", "token", "env", "captured")
    )
    plan = {
        "firmplan": 1,
        "inputs": {"at": {"type": "string"}},
        "steps": [
            {"id": "a", "tool": "look", "args": {"key": '${secret("KEY")}', "at": "${inputs.at}"}},
            {"id": "b", "tool": "see", "args": {"at": "${a.at}"}},
        ],
        "output": "${[a, b]}",
    }

    async def main():
        said, runs = [], []
        for iteration, at in (("1", "Oslo"), ("2", "Oslo"), ("2", "Rome")):
            monkeypatch.setenv("LOOK_PASSWORD", password + iteration)
            secrets = {"KEY": key + iteration, "TOKEN": token + iteration}
            tools = looker(captured + iteration, f"told {iteration}")
            async with Engine(tools, store=tmp_path / "s.db", secrets=secrets) as engine:
                runs.append((await engine.run(plan, inputs={"at": at})).id)
                assert (await engine.get(runs[-1])).status == "succeeded"
                said += [f"{each} {each.to_dict()}" for each in await engine.explain_all(runs[-1])]
                fork = await engine.fork(runs[-1], at="b")
                said += [f"{each} {each.to_dict()}" for each in await engine.explain_all(fork.id)]
                said.append((await engine.export(fork.id, tmp_path / "fork.bundle")).read_text())
        async with Engine([], store=tmp_path / "s.db") as engine:
            for one, other in ((runs[0], runs[1]), (runs[1], runs[2])):
                found = await engine.diff(one, other)
                assert found
                said += [str(found), json.dumps(found.to_dict()), found.to_html()]
            said.append(str(await engine.bisect(runs)))
            said.append((await engine.export(runs[0], tmp_path / "run.bundle")).read_text())
        return said

    said = asyncio.run(main())
    assert any("captured value" in each or "its own code" in each for each in said)
    for secret in (key, token, captured):
        assert not [each for each in said if secret in each]
    bundles = [each for each in said if "firmplan_bundle" in each]
    assert not [each for each in said if password in each and each not in bundles], (
        "REUSE.md says what bundles hold"
    )
