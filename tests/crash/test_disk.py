"""A disk that is full or whose bytes rot: a StoreError, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio

import pytest
from firmplan.errors import FirmplanError, StoreError
from firmplan.testing import ScriptedTool
from rig import Rig, plan_of

LARGE = "x" * 30_000
PLAN = plan_of(
    {"id": "seen", "tool": "look", "for_each": "${range(30)}", "args": {"x": "${item}"}},
    {"id": "sent", "tool": "send", "for_each": "${range(10)}", "args": {"x": "${item}"}},
    {"id": "end", "tool": "send", "args": {"x": "${len(seen) + len(sent)}"}},
    output="${end}",
)


class Sent:
    """A write that notes what it did."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def tools(self) -> list[ScriptedTool]:
        """Return a read with large results, and the write."""

        def send(x: int) -> str:
            self.seen.append(x)
            return f"{x} {LARGE}"

        look = ScriptedTool("look", lambda x: f"{x} {LARGE}", effect="read", resource="box")
        return [look, ScriptedTool("send", send, effect="write", resource="mail")]


async def limit_pages(rig, pages):
    """Let the store's file have that many pages more than it has, and no others."""

    def work():
        (count,) = rig.store._sql("PRAGMA page_count").fetchone()
        rig.store._sql(f"PRAGMA max_page_count={count + pages}").fetchone()

    await rig.store._call(work)


@pytest.mark.parametrize("pages", [0, 1, 3, 10, 40, 100, 160, 250, 300])
def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(tmp_path, pages):
    """Wherever the disk ran full: no write runs twice, and those of unknown outcome are told."""
    path, sent = str(tmp_path / "s.db"), Sent()

    async def main():
        async with Rig(sent.tools(), path) as rig:
            await rig.submit(PLAN, "r")
            await limit_pages(rig, pages)
            try:
                await rig.resume("r")
            except StoreError as fault:
                assert "full" in str(fault)  # noqa: PT017  # it may also go well
        assert len(set(sent.seen)) == len(sent.seen)
        async with Rig(sent.tools(), path) as rig:
            run = await rig.resume("r")
            while run.status == "indeterminate":
                (step,) = [
                    path
                    for path, view in run.steps.items()
                    if view.status == "indeterminate" and path != "sent"
                ]
                number = 40 if step == "end" else int(step[5:-1])
                if number in sent.seen:
                    await rig.decisions.resolve_done("r", step, f"{number} {LARGE}")
                else:
                    await rig.decisions.resolve_retry("r", step)
                run = await rig.resume("r")
            assert (run.status, run.output) == ("succeeded", f"40 {LARGE}")
            assert sent.seen == [*range(10), 40]
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest

    asyncio.run(main())


@pytest.mark.parametrize("place", range(6))
def test_rotten_bytes_are_a_store_error(tmp_path, place):
    """Whatever page they are in: one error of ours, or all is as it was."""
    path, sent = tmp_path / "s.db", Sent()

    async def before():
        async with Rig(sent.tools(), str(path)) as rig:
            return await rig.run(PLAN, "r")

    run = asyncio.run(before())
    data = bytearray(path.read_bytes())
    start = len(data) * place // 6 // 4096 * 4096 + (100 if place == 0 else 0)
    data[start : start + 4096] = b"\xa5" * 4096
    path.write_bytes(data)

    async def after():
        async with Rig(sent.tools(), str(path)) as rig:
            return await rig.execution.replays.replay("r", keep=False)

    try:
        again = asyncio.run(after())
    except FirmplanError as fault:
        assert isinstance(fault, StoreError), repr(fault)  # noqa: PT017  # it may also go well
    else:
        assert again == run
    assert len(sent.seen) == 11
