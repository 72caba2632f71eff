"""The digest of a plan: golden vectors that are kept for ever, and a second implementation that has never seen the first."""

from __future__ import annotations

import json
from pathlib import Path

import naive_digest
import pytest
from firmplan import Plan
from firmplan.plans.digest import canonical_form
from firmplan.plans.format.source import parse_source
from firmplan.plans.values import canonical
from hypothesis import given
from seeds import examples
from typed_plans import typed_plans

VECTORS = sorted((Path(__file__).parent.parent / "vectors" / "digests").glob("*.json"))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_digest_never_changes(path):
    """Canonical bytes and digest of each vector are what they were, whichever way the plan is written."""
    vector = json.loads(path.read_text(encoding="utf-8"))
    for value in (vector["plan"], *(parse_source(text).value for text in vector["same"])):
        plan = Plan.model_validate(value)
        assert canonical(canonical_form(plan)).decode() == vector["canonical"]
        assert plan.digest == vector["digest"]
        assert naive_digest.canonical_text(value) == vector["canonical"]
        assert naive_digest.digest(value) == vector["digest"]


def test_there_are_vectors():
    assert len(VECTORS) >= 6


@examples(150)
@given(typed_plans())
def test_the_naive_implementation_agrees(plan):
    """On plans of every feature both give the same bytes."""
    made = Plan.model_validate(plan)
    assert canonical(canonical_form(made)).decode() == naive_digest.canonical_text(plan)
    assert made.digest == naive_digest.digest(plan)


@examples(50)
@given(typed_plans())
def test_the_canonical_form_is_a_plan_with_the_same_digest(plan):
    """What is canonical stays as it is."""
    made = Plan.model_validate(plan)
    again = Plan.model_validate(canonical_form(made))
    assert again.digest == made.digest
    assert canonical_form(again) == canonical_form(made)
