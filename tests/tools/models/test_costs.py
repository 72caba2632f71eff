"""What model calls cost is known, and how many are made at a time is bounded."""

from __future__ import annotations

import asyncio
import json

import pytest
from firmplan import ConfigError, Planner, tool
from firmplan.testing import HttpError, ScriptedModel, Text
from firmplan.tools import Model, ModelError, Models, ask_request
from firmplan.tools.models.endpoint import Endpoint
from firmplan.tools.models.limits import EndpointLimits
from firmplan.tools.models.prices import Prices

AT_ONCE = {"retry-after-ms": "1"}
LOCAL = {"prices": 1, "models": [{"model": "m*", "at": "http://127.0.0.1", "input": 1.0, "output": 4.0}]}
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def openai(name):
    return Endpoint(name, "https://api.openai.com/v1", "key")


def ask(script, *, prices=None, times=1, request=None, **fields):
    """Return (replies or the error, the scripted model) of asking one endpoint."""

    async def main():
        async with ScriptedModel(script) as model:
            models = Models({"default": Model("m", model.base_url, **fields)}, prices=prices)
            asked = [models.ask(request or ask_request("?")) for _ in range(times)]
            try:
                return await asyncio.gather(*asked), model
            except ModelError as error:
                return error, model

    return asyncio.run(main())


def test_known_models_have_a_price_where_it_holds():
    """By name, with a date too; at their own endpoint, and nowhere else."""
    prices = Prices.of()
    price = prices.find(openai("gpt-5-mini"))
    assert price is not None
    assert prices.find(openai("gpt-5-mini-2025-08-07")) == price
    assert prices.find(openai("gpt-5-mini-turbo")) is None
    assert prices.find(Endpoint("gpt-5-mini", "http://127.0.0.1/v1", "key")) is None
    assert price.usd(1_000_000, 1_000_000) == pytest.approx(price.input + price.output)
    assert price.usd(1_000_000, 0, 1_000_000) == pytest.approx(price.cached_input)


def test_a_users_table_comes_before_ours(tmp_path, monkeypatch):
    """As a mapping, as a file, and as a file that the environment names."""
    own = {"prices": 1, "models": [{"model": "gpt-5-mini", "input": 7, "output": 9}]}
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(own))
    assert {Prices.of(each).find(openai("gpt-5-mini")).input for each in (own, file, str(file))} == {7.0}
    assert Prices.of(own).find(openai("gpt-5")).input == 1.25
    monkeypatch.setenv("FIRMPLAN_PRICES", str(file))
    assert Prices.of().find(openai("gpt-5-mini")).output == 9.0


@pytest.mark.parametrize(
    "table",
    [
        {"prices": 2, "models": []},
        {"prices": 1, "models": [{"model": "m"}]},
        {"prices": 1, "models": [{"model": "m", "input": -1, "output": 0}]},
        "no-such-file.json",
    ],
)
def test_what_is_no_table_is_refused(table):
    """Where it is written, with the place."""
    with pytest.raises(ConfigError, match="prices"):
        Models(prices=table)


def test_a_bad_table_of_the_environment_is_told_when_it_is_used(monkeypatch):
    """Importing and configuring read no file."""
    monkeypatch.setenv("FIRMPLAN_PRICES", "no-such-file.json")
    error, model = ask(["x"])
    assert (error.code, len(model.requests)) == ("no-model", 0)
    assert "no-such-file.json" in str(error)


def test_an_answer_says_what_it_cost():
    """All requests for it count; where no price is known, there is none, and not 0."""
    request = ask_request("?", returns=NUMBER)
    (reply,), _ = ask([{"m": 1}, {"n": 1}], prices=LOCAL, request=request)
    usage = reply.usage
    assert usage.requests == 2
    assert usage.usd == pytest.approx((usage.prompt_tokens + 4 * usage.completion_tokens) / 1e6)
    (reply,), _ = ask(["x"])
    assert reply.usage.usd is None


def test_a_failure_says_what_it_cost_too():
    """Answers that did not do were paid for."""
    error, _ = ask([Text("no")] * 9, prices=LOCAL, request=ask_request("?", returns=NUMBER), mode="tools")
    assert (error.code, error.usage.requests) == ("bad-output", 3)
    assert error.usage.usd > 0


def test_a_planning_is_priced_by_attempt(monkeypatch, tmp_path):
    """The planner reads the same table."""

    @tool(effect="pure")
    def one() -> int:
        """Return 1."""
        return 1

    file = tmp_path / "prices.json"
    file.write_text(json.dumps(LOCAL))
    monkeypatch.setenv("FIRMPLAN_PRICES", str(file))

    async def main():
        async with ScriptedModel([{"firmplan": 1, "steps": [{"id": "a", "tool": "one"}]}]) as model:
            return await Planner("m", base_url=model.base_url).plan("x", [one])

    planned = asyncio.run(main())
    assert planned.usage.usd == planned.attempts[0].usage.usd > 0


def test_another_endpoint_is_asked_where_one_cannot_answer():
    """In the order of the list; not where it answered badly; what came before is counted."""

    async def main(first, second):
        async with ScriptedModel(first) as a, ScriptedModel(second) as b:
            spec = [
                Model("a", a.base_url),
                {"name": "b", "base_url": b.base_url},
            ]
            try:
                reply = await Models({"default": spec}).ask(ask_request("?", returns=NUMBER))
            except ModelError as error:
                return error.code, len(a.requests), len(b.requests)
            return reply.model, len(a.requests), len(b.requests)

    good = [{"n": 1}]
    assert asyncio.run(main([HttpError(401)], good)) == ("b", 1, 1)
    assert asyncio.run(main([HttpError(503, "", AT_ONCE)] * 3, good)) == ("b", 3, 1)
    assert asyncio.run(main(good, good)) == ("a", 1, 0)
    assert asyncio.run(main([{"m": 1}] * 9, good)) == ("bad-output", 3, 0)
    assert asyncio.run(main([HttpError(401)], [HttpError(404)])) == ("model-unknown", 1, 1)


def test_fallbacks_share_one_bound():
    """Twelve requests are for all endpoints together."""

    async def main():
        async with ScriptedModel(lambda _: HttpError(503, "", AT_ONCE)) as model:
            models = Models({"default": [Model(str(each), model.base_url) for each in range(9)]})
            with pytest.raises(ModelError):
                await models.ask(ask_request("?"))
            return len(model.requests)

    assert asyncio.run(main()) == 12


@pytest.mark.parametrize(("most", "seen"), [(1, 1), (2, 2), (None, 6)])
def test_no_more_requests_at_a_time_than_a_model_may_have(most, seen):
    """Counted at the endpoint, where each request stays until as many as may be are there."""
    open_now, peak = 0, 0
    full = asyncio.Event()

    async def reply(_):
        nonlocal open_now, peak
        open_now += 1
        peak = max(peak, open_now)
        if open_now == seen:
            full.set()
        await full.wait()
        open_now -= 1
        return "x"

    replies, _ = ask(reply, times=6, max_concurrency=most)
    assert len(replies) == 6
    assert peak == seen


def test_limits_hold_on_every_event_loop():
    """Models outlive loops: slots of a loop that is gone are not those of the next one."""
    models = Models({"default": Model("m", "http://127.0.0.1:9/v1", max_concurrency=1)})
    endpoint = models.resolve()[0]
    limits = EndpointLimits()

    async def contended():
        async def one():
            async with limits.acquire(endpoint):
                await asyncio.sleep(0)

        await asyncio.gather(*(one() for _ in range(3)))

    for _ in range(3):
        asyncio.run(contended())


def test_limits_are_checked_where_they_are_written():
    """Each wrong one is a ConfigError."""
    for fields in ({"max_concurrency": 0}, {"max_concurrency": True}, {"rate": "often"}, {"rate": 0}):
        with pytest.raises(ConfigError, match=next(iter(fields))):
            Model("m", **fields)
        with pytest.raises(ConfigError, match=next(iter(fields))):
            Models({"default": {"name": "m", **fields}})
