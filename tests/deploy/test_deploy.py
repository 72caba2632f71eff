"""What `deploy/` says fits together: the image and its build, the services, the unit, the dashboard. `build_image.py` carries the build out."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from dockerfile import DEPLOY, ROOT, context, instructions, stages
from firmplan.backends.temporal import TemporalAddress
from firmplan.cli.app import app
from firmplan.cli.config import read_settings
from firmplan.service.metrics import Metrics
from typer.main import get_command

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
FLEET = yaml.safe_load((DEPLOY / "compose.fleet.yaml").read_text(encoding="utf-8"))


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
