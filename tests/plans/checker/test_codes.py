"""Every code of the check, provoked by the example that the catalogue shows for it."""

from __future__ import annotations

import pytest
import yaml
from firmplan import check
from firmplan.plans.reports.codes import CODES


@pytest.mark.parametrize("name", CODES)
def test_the_example_of_a_code_gives_that_code_and_no_other(name, tools):
    """The catalogue cannot drift: each example has its code, with its severity, at its path, and nothing else."""
    code = CODES[name]
    report = check(
        {"firmplan": 1, **yaml.safe_load(code.example)}, tools, secrets={}, policies=(), models=("default",)
    )
    assert [(found.code, found.path, found.severity) for found in report.problems] == [
        (name, code.path, code.severity)
    ]
    assert report.ok == (code.severity == "warning")


@pytest.mark.parametrize("name", CODES)
def test_the_example_of_a_code_gives_it_as_text_too(name, tools):
    """As YAML the same problem has the line where it stands."""
    report = check(f"firmplan: 1\n{CODES[name].example}", tools, secrets={}, policies=(), models=("default",))
    assert [found.code for found in report.problems] == [name]
    assert all(found.line is not None for found in report.problems)
