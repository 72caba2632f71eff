"""plans: what a plan IS: its format, its values and types, its check, its canonical form and digest, its program.

The folder is pure: it has no clock and no network, calls no tool, and only `format/load.py` touches files. It does not know how plans run or
where they come from. Begin with `plan.py`, `checker/checker.py` and `program/program.py`. Names are imported on first use, so that an importer of one small name
does not load the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy_imports import on_first_use

if TYPE_CHECKING:
    from .builder.builder import PlanBuilder
    from .checker.body import SavedPlans
    from .checker.checker import check
    from .edit.diff import PlanDiff
    from .edit.patch import Patch
    from .format.load import load_plan, plan_of_text, read_source, read_stream, read_text, save_plan, to_yaml
    from .inputs import fit_inputs
    from .limits import LIMITS, Limits
    from .plan import InnerPlan, Plan, Step
    from .program.compile import compile_plan
    from .program.program import Program
    from .reports.codes import CODES, Code
    from .reports.problems import Bounds, CheckReport, Problem
    from .signature import Effect, Signature, Signatures
    from .types.validate import value_problems
    from .values import Digest, Json, NotJson, canonical, normal, parse

__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "checker.body": ("SavedPlans",),
        "builder.builder": ("PlanBuilder",),
        "checker.checker": ("check",),
        "reports.codes": ("CODES", "Code"),
        "program.compile": ("compile_plan",),
        "edit.diff": ("PlanDiff",),
        "inputs": ("fit_inputs",),
        "limits": ("LIMITS", "Limits"),
        "format.load": (
            "load_plan",
            "plan_of_text",
            "read_source",
            "read_stream",
            "read_text",
            "save_plan",
            "to_yaml",
        ),
        "edit.patch": ("Patch",),
        "plan": ("InnerPlan", "Plan", "Step"),
        "reports.problems": ("Bounds", "CheckReport", "Problem"),
        "program.program": ("Program",),
        "types.validate": ("value_problems",),
        "signature": ("Effect", "Signature", "Signatures"),
        "values": ("Digest", "Json", "NotJson", "canonical", "normal", "parse"),
    },
)

__all__ = [
    "CODES",
    "LIMITS",
    "Bounds",
    "CheckReport",
    "Code",
    "Digest",
    "Effect",
    "InnerPlan",
    "Json",
    "Limits",
    "NotJson",
    "Patch",
    "Plan",
    "PlanBuilder",
    "PlanDiff",
    "Problem",
    "Program",
    "SavedPlans",
    "Signature",
    "Signatures",
    "Step",
    "canonical",
    "check",
    "compile_plan",
    "fit_inputs",
    "load_plan",
    "normal",
    "parse",
    "plan_of_text",
    "read_source",
    "read_stream",
    "read_text",
    "save_plan",
    "to_yaml",
    "value_problems",
]
