"""A tool that takes or returns something else since a person was asked about its call: the run stops with a message, and is not failed for ever."""

from __future__ import annotations

import pytest
from firmplan import ConfigError, Engine, OutcomeUnknown, tool
from public import call, plan, statuses, within

PAID = []


def before(**options):
    """Return the tool that the run was submitted with."""
    is_cut_off = not options

    @tool(effect="write", version=1, **options)
    def pay(amount: int) -> int:
        """Pay."""
        PAID.append(amount)
        if is_cut_off:
            raise OutcomeUnknown("cut off")
        return amount

    return pay


def renamed(**options):
    """Return one whose parameter has another name."""

    @tool(name="pay", effect="write", version=1, **options)
    def paid(cents: int) -> int:
        """Pay."""
        PAID.append(cents)
        return cents

    return paid


def wider(**options):
    """Return one with another default, of which nobody was told."""

    @tool(name="pay", effect="write", version=1, **options)
    def paid(amount: int, times: int = 2) -> int:
        """Pay."""
        PAID.append(amount * times)
        return amount

    return paid


def returning(**options):
    """Return one with another result."""

    @tool(name="pay", effect="write", version=1, **options)
    def paid(amount: int) -> str:
        """Pay."""
        PAID.append(amount)
        return "paid"

    return paid


def told_otherwise(**options):
    """Return one that only its description tells otherwise."""
    return before(description="Pay an amount, at once.", **options)


STEPS = plan(call("p", "pay", args={"amount": 3}), output="${p}")
ASKS = {"approval": "always"}


@pytest.fixture(autouse=True)
def _paid():
    PAID.clear()


@pytest.mark.parametrize("is_decided", [False, True])
@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (renamed, "its parameters changed: .*cents"),
        (wider, "its parameters changed: .*times"),
        (returning, "its result changed"),
    ],
)
def test_a_changed_signature_stops_the_resume(tmp_path, changed, told, is_decided):
    """The message names the tool, what changed and what to do; the run waits on, and goes on with the tool as it was."""
    store = tmp_path / "s.db"

    async def main():
        async with Engine([before(**ASKS)], store=store) as engine:
            assert (await engine.run(STEPS, run_id="r")).status == "waiting"
        async with Engine([changed(**ASKS)], store=store) as engine:
            if is_decided:
                await engine.approve("r", "p", by="ann")
            with pytest.raises(ConfigError, match=rf"'p', and the tool 'pay'.*{told}.*as it was and resume"):
                await engine.resume("r")
            assert statuses(await engine.get("r"))["p"] != "failed"
        async with Engine([before(**ASKS)], store=store) as engine:
            if not is_decided:
                await engine.approve("r", "p", by="ann")
            return await engine.resume("r")

    assert within(main()).output == 3
    assert PAID == [3]


def test_a_description_may_change(tmp_path):
    """What people and models read of a tool is no part of its signature."""
    store = tmp_path / "s.db"

    async def main():
        async with Engine([before(**ASKS)], store=store) as engine:
            await engine.run(STEPS, run_id="r")
        async with Engine([told_otherwise(**ASKS)], store=store) as engine:
            await engine.approve("r", "p", by="ann")
            return await engine.resume("r")

    assert within(main()).output == 3


def test_so_does_a_call_of_unknown_outcome(tmp_path):
    """A person who says that it is to be called again means the call that they saw."""
    store = tmp_path / "s.db"

    async def main():
        async with Engine([before()], store=store) as engine:
            assert (await engine.run(STEPS, run_id="r")).status == "indeterminate"
            await engine.resolve("r", "p", retry=True)
        async with Engine([renamed()], store=store) as engine:
            with pytest.raises(ConfigError, match="the tool 'pay'"):
                await engine.resume("r")

    within(main())
    assert PAID == [3]


def test_denied_it_goes_on_with_the_new_tool(tmp_path):
    """The way out that the message names: the denied run ends, and its retry asks again, with the new tool."""
    store = tmp_path / "s.db"

    async def main():
        async with Engine([before(**ASKS)], store=store) as engine:
            await engine.run(STEPS, run_id="r")
        async with Engine([wider(**ASKS)], store=store) as engine:
            await engine.deny("r", "p", by="ann")
            assert (await engine.resume("r")).status == "failed"
            again = await engine.retry("r")
            await engine.approve(again.id, "p", by="ann")
            return await engine.resume(again.id)

    assert within(main()).output == 3
    assert PAID == [6]
