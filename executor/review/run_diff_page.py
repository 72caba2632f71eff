"""A comparison of two runs as one page of HTML, for a browser or a review.

It stands alone: no script, nothing loaded from elsewhere, and a policy that says so, for its texts come from tools and models and
are escaped, never trusted. Light and dark. Steps that are the same are folded away.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from .amounts import amount

if TYPE_CHECKING:
    from ...plans.edit.differences import Difference
    from ...plans.values import Json
    from .run_diff import RunDiff, StepChange, StepDiff

VALUE_LENGTH_MAX: Final = 2_000  # characters of a value: a page is read by people, the JSON has all
PLACES_MAX: Final = 50  # differing places of one step
_MARKS: Final[dict[StepChange, str]] = {
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
    told = diff.counted if diff else f"the same: {diff.counted}"
    yield f"<div class=soft>{told}</div><ul class=cards>"
    yield f"<li><span class=soft>status</span><b>{_turned(*diff.status)}</b></li>"
    for name, old, new in diff.used:
        yield f"<li><span class=soft>{escape(name.replace('_', ' '))}</span><b>{_turned(_amount(old), _amount(new))}</b></li>"
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
    told = [f"<div class=why>{escape(step.why)}</div>"] if step.why else []
    told += [f"<div class=why>reused in the {reused} run</div>"] if reused else []
    told += [_places("output", step.output), _places("args", step.args)]
    amounts = (
        *(tuple(each or None for each in pair) for pair in (step.tokens, step.cost)),  # most steps have none
        tuple(None if each is None else round(each, 3) for each in step.seconds),
    )
    return (
        f"<tr class={step.change}><td class=mark title={step.change}>{_MARKS[step.change]}</td>"
        f"<td>{_code(step.step)}{''.join(told)}</td><td>{_turned(*step.status)}</td>"
        + "".join(f"<td class=number>{_turned(*map(_amount, pair))}</td>" for pair in amounts)
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
    dot = "" if not where or not each.path or each.path.startswith("[") else "."
    parts: list[str] = []
    if each.kind != "added":
        parts.append(f"<del class=mono>{_value(each.before)}</del>")
    if each.kind != "removed":
        parts.append(f"<ins class=mono>{_value(each.after)}</ins>")
    name = _code(f"{where}{dot}{each.path}") if where or each.path else ""
    return f"<li>{name} {' '.join(parts)}</li>"


def _value(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    more = len(text) - VALUE_LENGTH_MAX
    return escape(text if more <= 0 else f"{text[:VALUE_LENGTH_MAX]} .. and {more} more characters")


def _turned(old: str | None, new: str | None) -> str:
    """Return what something was and is; once, if that is the same."""
    if old == new:
        return escape(old or "")
    return " \N{RIGHTWARDS ARROW} ".join(_shown([old, new]))


def _shown(texts: Iterable[str | None]) -> Iterator[str]:
    return (escape(text) if text else "<span class=soft>none</span>" for text in texts)


def _amount(value: float | None) -> str | None:
    return None if value is None else amount(value)


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"
