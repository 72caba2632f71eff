"""`RunDiff`: the differences between two runs, by step path, as text, as JSON and as a page of HTML.

`compare.py` makes it; this module only presents it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from ...plans.edit.differences import Difference
from ...plans.values import Json
from ..runs.run import amount, counted, report_json, steps_in
from .report import PLACES_SHOWN, place_name, place_text, places_text

if TYPE_CHECKING:
    from ...plans.edit.diff import PlanDiff


StepChange: TypeAlias = Literal["same", "changed", "only_a", "only_b"]

_USAGE: Final = ("calls", "reused", "model_calls", "tokens", "usd", "seconds")
_MARKS: Final[dict[StepChange, str]] = {"same": " ", "changed": "~", "only_a": "-", "only_b": "+"}


@dataclass(frozen=True, slots=True)
class StepDiff:
    """The comparison of one step in two runs. Pairs are (in a, in b); `None` if the run does not have the step.

    Attributes:
        change: Whether status and output are the same, or only one run has the step.
        output: The differences between the outputs.
        args: The differences between the arguments of the call.
        why: Why the step differs, as a sentence; empty if it does not differ.
        cost: US dollars.
        seconds: The time from the first start to the end, if the step has ended.
        tokens: The tokens of all model calls of the step.
        renamed_from: Its path in run `a`, where its step only had another id; `None`: it has the same path in both.
    """

    step: str
    change: StepChange
    status: tuple[str | None, str | None]
    why: str = ""
    output: tuple[Difference, ...] = ()
    args: tuple[Difference, ...] = ()
    reused: tuple[bool | None, bool | None] = (None, None)
    cost: tuple[float | None, float | None] = (None, None)
    seconds: tuple[float | None, float | None] = (None, None)
    tokens: tuple[int | None, int | None] = (None, None)
    renamed_from: str | None = None

    def __str__(self) -> str:
        parts: list[str] = []
        if self.change == "changed" and self.status[0] != self.status[1]:
            parts.append(f"{self.status[0]} -> {self.status[1]}")
        if self.output:
            parts.append(places_text("output", self.output))
        if self.tokens[0] != self.tokens[1] and None not in self.tokens:
            parts.append(f"tokens {self.tokens[0]} -> {self.tokens[1]}")
        why = f"  [{self.why}]" if self.why else ""
        was = "" if self.renamed_from is None else f" (was {self.renamed_from})"
        return f"{_MARKS[self.change]} {self.step}{was}  {'; '.join(parts)}".rstrip() + why

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return report_json(self)


@dataclass(frozen=True, slots=True)
class RunDiff:
    """The differences between run `a` and run `b`; false if there is none. Cost, time and reuse are shown, but do not count as differences.

    Attributes:
        steps: All steps of both runs, in plan order.
        plan: The differences between the plans; false if there is none.
        inputs: The differences between the inputs.
        output: The differences between the outputs.
        first: The first differing step in plan order; if it has parts, its first differing part.
        usage: The usage of both runs.
    """

    a: str
    b: str
    status: tuple[str, str]
    steps: tuple[StepDiff, ...]
    plan: PlanDiff
    inputs: tuple[Difference, ...]
    output: tuple[Difference, ...]
    first: StepDiff | None
    usage: tuple[Mapping[str, Json], Mapping[str, Json]] = field(repr=False)

    def __bool__(self) -> bool:
        is_other_end = self.status[0] != self.status[1]
        return bool(self.plan or self.inputs or self.output or self.first or is_other_end)

    @property
    def changed(self) -> tuple[StepDiff, ...]:
        """The steps that differ."""
        return tuple(step for step in self.steps if step.change != "same")

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if not self:
            yield f"{self.a} and {self.b} are the same: {self.counted}, same plan, inputs and output"
        else:
            yield f"{self.a} -> {self.b}: {self.counted}"
        if self.status[0] != self.status[1]:
            yield f"status: {self.status[0]} -> {self.status[1]}"
        if self.plan:
            yield str(self.plan)
        yield from (place_text("inputs", each) for each in self.inputs)
        if self.first is not None:
            yield f"first divergence: step '{self.first.step}': {self.first.why}"
        yield from (str(step) for step in self.changed)
        yield from (place_text("the run's output", each) for each in self.output[:PLACES_SHOWN])
        yield "; ".join(f"{name} {amount(old)} -> {amount(new)}" for name, old, new in self.used)

    @property
    def counted(self) -> str:
        """The number of steps, and of differing steps, as text; a step counts once, whatever parts it has."""
        every = steps_in(step.step for step in self.steps)
        return (
            f"{steps_in(step.step for step in self.changed)} of {counted(every)} differ"
            if self
            else counted(every)
        )

    @property
    def used(self) -> tuple[tuple[str, float, float], ...]:
        """The usage by name, in `a` and in `b`, without the names of which neither run used anything."""
        pairs = [(name, *(cast("Any", usage.get(name, 0)) for usage in self.usage)) for name in _USAGE]
        return tuple((name, old, new) for name, old, new in pairs if old or new)

    def to_html(self) -> str:
        """Return the comparison as a self-contained page of HTML: no script, nothing loaded."""
        return page_of(self)

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        first = self.first.step if self.first is not None else None
        plan = [cast("Json", each.to_dict()) for each in self.plan.changes]
        return {**report_json(self), "same": not self, "first": first, "plan": plan}


# --- the comparison as a page of HTML
#
# The page is self-contained: it has no script and loads nothing, and its content security policy says so, because its texts come from tools and
# models. They are escaped, never trusted. Steps that are the same are folded away.

VALUE_LENGTH_MAX: Final = 2_000  # characters of a value: a page is read by people, the JSON has all
PLACES_MAX: Final = 50  # differing places of one step
_PAGE_MARKS: Final[dict[StepChange, str]] = {
    "same": "=",
    "changed": "~",
    "only_a": "\N{MINUS SIGN}",
    "only_b": "+",
}
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2126; --soft: #5b656f; --line: #d9dee3; --ground: #f6f8fa; --card: #fff;
  --gone: #b3261e; --gone-bg: #fdeceb; --new: #0a6b46; --new-bg: #e6f5ee; --turn: #8a5800; --turn-bg: #fff4dc; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #a0aab4; --line: #30373e; --ground: #14181b; --card: #1b2024;
  --gone: #ff9d94; --gone-bg: #3a201f; --new: #5fd3a2; --new-bg: #17332a; --turn: #f2bd62; --turn-bg: #362a14; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.25rem; margin: 0 0 .2rem; overflow-wrap: anywhere; } h2 { font-size: 1rem; margin: 1.6rem 0 .5rem; }
.soft { color: var(--soft); } .mono, code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .86em; }
.cards { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0 0; padding: 0; list-style: none; }
.cards li { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .45rem .8rem; }
.cards b { display: block; font-weight: 600; font-variant-numeric: tabular-nums; }
.first { background: var(--turn-bg); border-left: .25rem solid var(--turn); border-radius: .3rem; padding: .6rem .9rem; margin: 1rem 0 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; } th { font-weight: 600; color: var(--soft); font-size: .85rem; }
th, td { text-align: left; vertical-align: top; padding: .45rem .7rem; border-top: 1px solid var(--line); }
tr:first-child > th { border-top: 0; } td.number { white-space: nowrap; font-variant-numeric: tabular-nums; font-size: .88rem; }
td.mark { font-weight: 700; width: 1.5rem; } .changed > .mark { color: var(--turn); } .only_a > .mark { color: var(--gone); } .only_b > .mark { color: var(--new); }
.same > .mark { color: var(--soft); } .why { color: var(--soft); font-size: .9rem; }
ul.places { list-style: none; margin: .35rem 0 0; padding: 0; } ul.places li { margin: .25rem 0; overflow-wrap: anywhere; }
del, ins { text-decoration: none; border-radius: .2rem; padding: 0 .25rem; white-space: pre-wrap; overflow-wrap: anywhere; }
del { color: var(--gone); background: var(--gone-bg); } ins { color: var(--new); background: var(--new-bg); }
pre { margin: 0; padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere; } summary { cursor: pointer; color: var(--soft); margin: 1rem 0 .5rem; }
"""


def page_of(diff: RunDiff) -> str:
    """Return the page. O(size of the comparison)."""
    title = f"{diff.a} and {diff.b}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)} - firmplan diff</title><style>{_STYLE}</style></head><body>",
            *_head(diff),
            *_sections(diff),
            "</body></html>",
            "",
        ]
    )


def _head(diff: RunDiff) -> Iterator[str]:
    yield f"<h1>{_code(diff.a)} <span class=soft>\N{RIGHTWARDS ARROW}</span> {_code(diff.b)}</h1>"
    summary = diff.counted if diff else f"the same: {diff.counted}"
    yield f"<div class=soft>{summary}</div><ul class=cards>"
    yield f"<li><span class=soft>status</span><b>{_change_text(*diff.status)}</b></li>"
    for name, old, new in diff.used:
        yield f"<li><span class=soft>{escape(name.replace('_', ' '))}</span><b>{_change_text(_amount(old), _amount(new))}</b></li>"
    yield "</ul>"
    if diff.first is not None:
        yield f"<p class=first><b>First divergence: {_code(diff.first.step)}</b><br>{escape(diff.first.why)}</p>"


def _sections(diff: RunDiff) -> Iterator[str]:
    if diff.plan:
        yield f"<h2>Plan</h2><div class=scroll><pre class=mono>{escape(str(diff.plan))}</pre></div>"
    for name, found in (("Inputs", diff.inputs), ("Output", diff.output)):
        if found:
            yield f'<h2>{name}</h2><div class=scroll style="padding:.2rem .8rem">{_places("", found)}</div>'
    changed = diff.changed
    same = [step for step in diff.steps if step.change == "same"]
    if changed:
        yield f"<h2>Steps that differ</h2>{_table(changed)}"
    if same:
        yield f"<details><summary>Steps and parts of steps that are the same</summary>{_table(same)}</details>"


def _table(steps: Sequence[StepDiff]) -> str:
    heads = "".join(f"<th>{name}</th>" for name in ("", "step", "status", "tokens", "usd", "seconds"))
    return f"<div class=scroll><table><tr>{heads}</tr>{''.join(map(_row, steps))}</table></div>"


def _row(step: StepDiff) -> str:
    reused = ", ".join(
        name for name, is_reused in zip(("first", "second"), step.reused, strict=True) if is_reused
    )
    notes = [f"<div class=why>{escape(step.why)}</div>"] if step.why else []
    notes += [f"<div class=why>reused in the {reused} run</div>"] if reused else []
    notes += [_places("output", step.output), _places("args", step.args)]
    was = "" if step.renamed_from is None else f" <span class=soft>was {_code(step.renamed_from)}</span>"
    amounts = (
        *(tuple(each or None for each in pair) for pair in (step.tokens, step.cost)),  # most steps have none
        tuple(None if each is None else round(each, 3) for each in step.seconds),
    )
    return (
        f"<tr class={step.change}><td class=mark title={step.change}>{_PAGE_MARKS[step.change]}</td>"
        f"<td>{_code(step.step)}{was}{''.join(notes)}</td><td>{_change_text(*step.status)}</td>"
        + "".join(f"<td class=number>{_change_text(*map(_amount, pair))}</td>" for pair in amounts)
        + "</tr>"
    )


def _places(where: str, found: Sequence[Difference]) -> str:
    if not found:
        return ""
    items = "".join(_place(where, each) for each in found[:PLACES_MAX])
    more = len(found) - PLACES_MAX
    items += f"<li class=soft>and {more} more places</li>" if more > 0 else ""
    return f"<ul class=places>{items}</ul>"


def _place(where: str, each: Difference) -> str:
    parts: list[str] = []
    if each.kind != "added":
        parts.append(f"<del class=mono>{_value(each.before)}</del>")
    if each.kind != "removed":
        parts.append(f"<ins class=mono>{_value(each.after)}</ins>")
    name = _code(place_name(where, each)) if where or each.path else ""
    return f"<li>{name} {' '.join(parts)}</li>"


def _value(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    more = len(text) - VALUE_LENGTH_MAX
    return escape(text if more <= 0 else f"{text[:VALUE_LENGTH_MAX]} .. and {more} more characters")


def _change_text(old: str | None, new: str | None) -> str:
    """Return an old and a new text with an arrow between them; one text if they are equal."""
    if old == new:
        return escape(old or "")
    return " \N{RIGHTWARDS ARROW} ".join(_texts([old, new]))


def _texts(texts: Iterable[str | None]) -> Iterator[str]:
    return (escape(text) if text else "<span class=soft>none</span>" for text in texts)


def _amount(value: float | None) -> str | None:
    return None if value is None else amount(value)


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"
