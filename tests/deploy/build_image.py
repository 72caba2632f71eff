"""The commands of `deploy/Dockerfile` make a server. They install packages from the index, which no test of the test run may do: `make check-image` calls this file, and so does CI."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from dockerfile import DEPLOY, ROOT, context, stages


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The folders of an image, made by the commands of the build stage in a new environment."""
    place = tmp_path_factory.mktemp("image")
    places = {"/src": str(place / "src"), "/opt/firmplan": str(place / "opt")}
    (place / "src").mkdir()
    files = context()
    for name, rest in stages()[0]:
        if name == "COPY":
            *sources, target = rest.split()
            for path in files:
                if source := next(
                    (each for each in sources if each in (".", path) or path.startswith(f"{each}/")), None
                ):
                    to = place / "src" / (path if source == "." else Path(target) / Path(path).name)
                    to.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / path, to)
        elif name == "RUN":
            command = rest
            for here, there in places.items():
                command = command.replace(here, there)
            command = re.sub(r"^python -m venv", f"{sys.executable} -m venv", command)
            done = subprocess.run(
                ["sh", "-ec", command],
                check=False,
                capture_output=True,
                text=True,
                cwd=place / "src",
                env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", str(place))},
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return place


@pytest.mark.timeout(900)
def test_the_commands_of_the_build_make_a_server(image, tmp_path):
    """The environment has firmplan with its page; the server starts as the image starts it, passes its health check, and ends within the time that it gets."""
    last = dict(stages()[1])
    (words,) = (json.loads(last[name]) for name in ("CMD",))
    words = [{"0.0.0.0": "127.0.0.1", "8000": "0"}.get(word, word) for word in words]
    shutil.copytree(DEPLOY / "tools", tmp_path / "srv")
    env = dict(re.findall(r"(\w+)=(\S+)", last["ENV"]))
    env["PATH"] = (
        env["PATH"].replace("/opt/firmplan", str(image / "opt")).replace("$PATH", os.environ["PATH"])
    )
    env["FIRMPLAN_STORE"] = env["FIRMPLAN_STORE"].replace("/var/lib/firmplan", str(tmp_path))
    (entry,) = json.loads(last["ENTRYPOINT"])
    with subprocess.Popen(
        [str(image / "opt" / "bin" / entry), *words],
        cwd=tmp_path / "srv",
        env={**env, "FIRMPLAN_API_KEYS": "k1", "HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        lines = []
        for line in server.stderr:
            lines.append(json.loads(line))
            if "Ctrl-C" in lines[-1]["event"]:
                break
        try:
            (url,) = re.findall(r"(http://\S+)$", next(e["event"] for e in lines if " serves " in e["event"]))
            _, check = last["HEALTHCHECK"].split("CMD ")
            program, *rest = [word.replace("http://127.0.0.1:8000", url) for word in json.loads(check)]
            checking = [str(image / "opt" / "bin" / program), *rest]
            assert subprocess.run(checking, check=False, env=env, timeout=60).returncode == 0
            with httpx2.Client(base_url=url, headers={"Authorization": "Bearer k1"}, timeout=30) as client:
                assert "<html" in client.get("/").text.lower()
                plan = {
                    "firmplan": 1,
                    "steps": [{"id": "t", "tool": "add", "args": {"a": 1, "b": 2}}],
                    "output": "${t}",
                }
                run = client.post("/v1/runs", json={"plan": plan}).json()["id"]
                end = time.monotonic() + 30
                while (found := client.get(f"/v1/runs/{run}").json())["status"] != "succeeded":
                    assert time.monotonic() < end, found
                    time.sleep(0.05)
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
            assert (
                subprocess.run(checking, check=False, env=env, timeout=60, capture_output=True).returncode
                != 0
            )
        finally:
            server.kill()
    for extra in ("opentelemetry.sdk", "psycopg", "mcp", "prometheus_client"):
        found = [str(image / "opt" / "bin" / "python"), "-c", f"import {extra}"]
        assert subprocess.run(found, check=False).returncode == 0, extra
