"""What `deploy/` says is done here, as far as that goes without a container: commands of the build, the server, its health check, its schemas."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import httpx2
import jsonschema_rs
import pytest
import yaml
from firmplan.backends.temporal import TemporalAddress
from firmplan.cli.app import app
from firmplan.cli.config import read_settings
from firmplan.service.metrics import Metrics
from typer.main import get_command

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
FLEET = yaml.safe_load((DEPLOY / "compose.fleet.yaml").read_text(encoding="utf-8"))


def instructions():
    """Return the instructions of the Dockerfile in order, as (name, rest); lines that continue are joined."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(" ", 1)) for line in joined.splitlines()]


def stages():
    """Return the instructions of each stage, after its FROM."""
    found = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        elif found:
            found[-1].append((name, rest))
    return found


def context():
    """Return the files that the build gets: those of the checkout that `.dockerignore` lets through, by docker's rules as far as it uses them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout.splitlines()
    rules = [
        line
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    return [path for path in listed if not _is_ignored(path, rules) and (ROOT / path).exists()]


def _is_ignored(path, rules):
    ignored = False
    for rule in rules:
        pattern = rule.removeprefix("!")
        form = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{form}(?:/.*)?", path):
            ignored = not rule.startswith("!")
    return ignored


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The folders of an image, made by the commands of the build stage in a new environment. It installs packages, so it runs in CI, or where it is asked for."""
    if not (os.environ.get("CI") or os.environ.get("FIRMPLAN_TEST_DEPLOY")):
        pytest.skip("installs packages: set FIRMPLAN_TEST_DEPLOY=1")
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


def test_the_image_is_pinned_small_and_without_rights():
    """Packages come with hashes from the lock, the last stage has no tools of the build, and its process is nobody's."""
    first, last = stages()
    assert [rest for name, rest in instructions() if name == "FROM"] == [
        "${PYTHON_IMAGE} AS build",
        "${PYTHON_IMAGE}",
    ]
    installs = [rest for name, rest in first if name == "RUN" and "pip install" in rest]
    assert len(installs) == 2
    assert all("--require-hashes" in each or "--no-deps" in each for each in installs)
    assert not [rest for name, rest in last if name == "RUN" and "pip" in rest]
    assert [rest for name, rest in last if name == "COPY"] == ["--from=build /opt/firmplan /opt/firmplan"]
    final = dict(last)
    uid, gid = final["USER"].split(":")
    assert int(uid) >= 1000 <= int(gid)
    assert final["STOPSIGNAL"] == "SIGTERM"
    assert ":latest" not in (DEPLOY / "Dockerfile").read_text()
    for name in ("ENTRYPOINT", "CMD"):
        assert isinstance(json.loads(final[name]), list)  # a shell in between would not pass signals on


def test_the_build_gets_what_it_needs_and_no_more():
    """All files of the packages, and nothing of tests, stores or sources of the page."""
    files = context()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {
        settings["package-dir"].get(name, "/".join(name.split(".")[1:])).rstrip("/") or "."
        for name in settings["packages"]
    }
    for folder in folders:
        assert {str(path.relative_to(ROOT)) for path in (ROOT / folder).glob("*.py")} <= set(files), folder
    assert {"pyproject.toml", "requirements.lock", "README.md", "engine.py", "scripts/lock.py"} <= set(files)
    assert "service/request_log.py" in files
    assert "examples/licence_audit/plan.yaml" in files
    assert not [
        path for path in files if path.startswith(("tests/", "docs/", "benchmarks/", "service/web/src/", "."))
    ]


def test_the_compose_file_fits_the_specification():
    """By the schema that the specification publishes, as `check-jsonschema` ships it."""
    vendor = pytest.importorskip("check_jsonschema").__path__[0]
    schema = json.loads((Path(vendor) / "builtin_schemas" / "vendor" / "compose-spec.json").read_text())
    validator = jsonschema_rs.validator_for(schema)
    for file in (COMPOSE, FLEET):
        assert [f"{list(error.instance_path)} {error.message}" for error in validator.iter_errors(file)] == []
    broken = json.loads(json.dumps(COMPOSE))
    broken["services"]["firmplan"]["healthchek"] = {}
    assert not validator.is_valid(broken)


def test_the_services_are_what_the_page_says():
    """PostgreSQL is ready first and reachable by the server alone; the server has no rights; secrets have no default; names lead somewhere."""
    server, store = COMPOSE["services"]["firmplan"], COMPOSE["services"]["postgres"]
    assert server["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert "ports" not in store
    assert COMPOSE["networks"]["store"]["internal"] is True
    assert set(server["networks"]) | set(store["networks"]) == set(COMPOSE["networks"])
    assert server["cap_drop"] == ["ALL"]
    assert server["read_only"] is True
    assert "postgres" in COMPOSE["volumes"]
    assert (
        DEPLOY / server["build"]["context"] / server["build"]["dockerfile"]
    ).resolve() == DEPLOY / "Dockerfile"
    for name in ("PGPASSWORD", "FIRMPLAN_API_KEYS"):
        assert re.fullmatch(r"\$\{\w+:\?.+\}", server["environment"][name])
    assert server["environment"]["FIRMPLAN_STORE"] == "postgresql://firmplan@postgres/firmplan"
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])
    assert (DEPLOY / "tools" / "tools.py").exists()


def test_the_fleet_is_what_the_page_says(tmp_path):
    """Server and workers have one store and one backend, the workers' words are options of the command, and the image has what they need."""
    server, work, far, temporal = (
        FLEET["services"][name] for name in ("firmplan", "worker", "gpu", "temporal")
    )
    assert work["deploy"]["replicas"] == 2
    assert work["environment"]["FIRMPLAN_BACKEND"] == server["environment"]["FIRMPLAN_BACKEND"]
    for name in ("FIRMPLAN_STORE", "PGPASSWORD", "FIRMPLAN_MODEL"):
        assert work["environment"][name] == COMPOSE["services"]["firmplan"]["environment"][name]
    for name in (
        "read_only",
        "cap_drop",
        "security_opt",
        "tmpfs",
        "volumes",
        "networks",
        "stop_grace_period",
    ):
        assert work[name] == COMPOSE["services"]["firmplan"][name], name
    assert "ports" not in temporal
    assert temporal["networks"] == ["store"]
    assert {each.split(":")[0] for each in temporal["volumes"]} <= set(FLEET["volumes"])
    address = TemporalAddress.parse(work["environment"]["FIRMPLAN_BACKEND"])
    assert address == TemporalAddress("temporal:7233", "default", "firmplan")
    command, *words = work["command"]
    found = get_command(app).get_command(None, command)
    context = found.make_context(command, list(words))
    assert (context.params["tools"], context.params["slots"]) == (["tools.py"], 32)
    settings = read_settings({"slots": context.params["slots"]}, work["environment"], tmp_path)
    assert (settings.backend, settings.slots) == (str(address), 32)
    own = {"command", "deploy", "profiles"}
    assert {key: value for key, value in far.items() if key not in own} == {
        key: value for key, value in work.items() if key not in own
    }
    assert far["profiles"] == ["gpu"]
    command, *words = far["command"]
    context = get_command(app).get_command(None, command).make_context(command, list(words))
    assert (context.params["queue"], context.params["slots"]) == ("gpu", 2)
    installed = next(rest for name, rest in stages()[0] if "lock.py select" in rest)
    assert {"temporal", "postgres"} <= set(installed.split())


UNIT = DEPLOY / "firmplan.service"
EXPOSURE_MAX = 2.0


@pytest.fixture
def unit(tmp_path):
    """The unit with a program and a folder that are there."""
    text = UNIT.read_text(encoding="utf-8")
    text = text.replace("/opt/firmplan/bin/firmplan", sys.executable).replace(
        "=/etc/firmplan\n", f"={tmp_path}\n"
    )
    (tmp_path / "firmplan.service").write_text(text)
    return tmp_path / "firmplan.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_accepts_the_unit_and_calls_it_safe(unit):
    """Without a warning, and with an exposure of less than two of ten."""
    words = ["systemd-analyze", "verify", "--man=no", str(unit)]
    verified = subprocess.run(words, check=False, capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    words = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX * 10:g}", str(unit)]
    rated = subprocess.run(words, check=False, capture_output=True, text=True)
    assert rated.returncode == 0, rated.stdout
    told = re.search(r"Overall exposure level for \S+: ([\d.]+)", rated.stdout)[1]
    assert f"rates it {told} of 10" in (DEPLOY / "README.md").read_text(encoding="utf-8")


def test_every_way_leaves_time_to_stop():
    """Longer than `drain`, open requests and `write_grace` take with their defaults."""
    needed = 1 + 10 + 30
    assert int(re.search(r"TimeoutStopSec=(\d+)", UNIT.read_text())[1]) > needed
    assert COMPOSE["services"]["firmplan"]["stop_grace_period"] == "1m"


def test_dashboard_and_alerts_ask_for_metrics_that_exist():
    """Each name in an expression is one that the server has, with the labels that it has."""
    known = {}
    for each in Metrics().collect():
        name = f"{each.name}_total" if each.type == "counter" else each.name
        for end in ("_bucket", "_count", "_sum") if each.type == "histogram" else ("",):
            known[name + end] = {*each._labelnames, "le"}
    board = json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    (alerts,) = re.findall(
        r"```yaml\n(groups:.*?)```", (DEPLOY / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    asked += [rule["expr"] for group in yaml.safe_load(alerts)["groups"] for rule in group["rules"]]
    assert len(asked) > 10
    for expression in asked:
        names = re.findall(r"firmplan_\w+", expression)
        assert names or expression.startswith("up{")
        for name in names:
            labels = {
                label for by in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r", *", by)
            }
            assert labels <= known[name], expression
    assert (
        yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"][0]["metrics_path"]
        == "/metrics"
    )
