"""The page on operating a server has every metric, with its type and labels."""

from __future__ import annotations

import re
from pathlib import Path

import firmplan
from firmplan.service import metrics
from firmplan.service.metrics import Metrics
from firmplan.telemetry import tracing

PAGE = (Path(firmplan.__file__).parent / "docs" / "OPERATING.md").read_text(encoding="utf-8")


def rows(head):
    lines = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_metric_is_told_with_its_type_and_labels():
    """The table and the registry have the same metrics, and none other."""
    registered = {}
    for each in (*Metrics().collect(), *Metrics(slots=1).collect()):
        name = f"{each.name}_total" if each.type == "counter" else each.name
        registered[name] = (each.type, list(each._labelnames))
    told = {
        name.strip("`"): (kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels, _ in rows("metric")
    }
    assert told == registered


def test_the_bound_of_labels_is_told():
    """The number of names is the constant's."""
    assert f"at most {metrics.NAMES_MAX} of them" in PAGE


def test_every_span_metric_and_bound_of_traces_is_told():
    """What the code names, the page names."""
    source = Path(tracing.__file__).read_text(encoding="utf-8")
    made = set(re.findall(r'create_(?:histogram|counter)\(\s*"([^"]+)"', source))
    assert made
    assert all(f"`{name}`" in PAGE for name in made)
    assert f"up to {tracing.CONTENT_MAX:,} characters" in PAGE
    spans = {" ".join(cell.strip("`").split(" ")[:1]) for cell, *_ in rows("span")}
    assert spans == {"submit", "invoke_workflow", "plan", "step", "execute_tool", "chat"}
