"""Files go to a server and come back a piece at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from firmplan import Artifact, AsyncClient, Client, FirmplanError, InputRejected
from served import TOOLS, Server

BYTES = bytes(range(256)) * 33 * 1024 + b"the last part"  # two parts


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("served"), tools=TOOLS) as running:
        yield running


def test_a_file_is_uploaded_and_downloaded(server, tmp_path):
    """With both clients; a run has it as an input, and gives it back whole."""
    path = tmp_path / "in.txt"
    path.write_bytes(BYTES)
    plan = {
        "firmplan": 1,
        "inputs": {"f": {"type": "object"}},
        "steps": [{"id": "s", "set": "${inputs.f}"}],
        "output": "${s}",
    }
    with Client(server.url) as client:
        saved = client.save_artifact(path)
        assert saved == Artifact.of_file(path)
        run = client.run(plan, inputs={"f": saved.model_dump()})
        out = client.download_artifact(run.id, run.output, tmp_path / "out.txt")
        assert Path(out).read_bytes() == BYTES
        assert client.artifact(run.id, saved) == BYTES
        with pytest.raises(InputRejected, match="expected a file that can be read"):
            client.save_artifact(tmp_path / "none")
        with pytest.raises(FirmplanError):
            client.download_artifact(run.id, f"sha256:{'0' * 64}", tmp_path / "no.txt")
        assert not (tmp_path / "no.txt").exists()

    async def law():
        async with AsyncClient(server.url) as client:
            assert await client.save_artifact(path, name="x.csv") == saved.model_copy(
                update={"name": "x.csv", "media_type": "text/csv"}
            )
            await client.download_artifact(run.id, saved, tmp_path / "again.txt")

    asyncio.run(law())
    assert (tmp_path / "again.txt").read_bytes() == BYTES
