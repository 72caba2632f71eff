"""What `Engine(backend=..)` takes, and what it says of anything else."""

from __future__ import annotations

import pytest
from firmplan import ConfigError, Engine
from firmplan.backends import EmbeddedBackend, backend_of, location
from public import within


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "expected a URL that begins with temporal://"),
        ("temporal", "expected a URL that begins with temporal://"),
        ("redis://localhost", "such as 'temporal://localhost:7233/default"),
        ("postgresql://me:s3cret@localhost/db", "expected a URL that begins with temporal://"),
        (7, "expected None, a URL such as"),
        (True, "expected None, a URL such as"),
        (object(), "expected None, a URL such as"),
        (EmbeddedBackend, "expected None, a URL such as"),
    ],
)
def test_what_is_no_backend_is_refused(given, said):
    with pytest.raises(ConfigError) as refused:
        Engine([], store="memory:", backend=given)
    assert said in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(location, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'firmplan\[temporal\]'"):
        backend_of("temporal://localhost:7233/default")


def test_an_embedded_backend_drives_what_is_enqueued():
    """A run that was stored before is driven in this process, once."""

    async def main():
        mine = EmbeddedBackend()
        async with Engine([], store="memory:", backend=mine) as engine:
            run_id = await engine.accept({"firmplan": 1, "steps": [{"id": "a", "set": 1}], "output": "${a}"})
            (accepted,) = (await engine.list_runs()).runs
            await mine.enqueue(accepted)
            await mine.enqueue(accepted)
            assert (await engine.wait(run_id)).output == 1

    within(main())


def test_an_embedded_engine_hands_out_nothing(tmp_path):
    """`work` needs a backend with workers; and an embedded backend belongs to one engine."""
    mine = EmbeddedBackend()
    with Engine([], store="memory:", backend=mine) as engine:
        with pytest.raises(ConfigError, match="has no backend that hands out runs"):
            engine.work_sync()
        with (
            pytest.raises(ConfigError, match="belongs to one engine"),
            Engine([], store="memory:", backend=mine),
        ):
            pass
