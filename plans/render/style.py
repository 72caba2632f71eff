"""How the SVG looks: its colours by effect, for light and for dark screens.

Every class is written out for both, without CSS variables, which several SVG readers lack. The picture brings its own ground, so
that it can be read on any page.
"""

from __future__ import annotations

SANS = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

_LIGHT = {
    "ground": "#f8fafc",
    "panel": "#ffffff",
    "edge": "#e2e8f0",
    "card": "#ffffff",
    "ink": "#0f172a",
    "soft": "#475569",
    "line": "#94a3b8",
    "faint": "#cbd5e1",
    "bold": "#334155",
}
_DARK = {
    "ground": "#0d1117",
    "panel": "#11161f",
    "edge": "#2b3340",
    "card": "#161c27",
    "ink": "#e6edf3",
    "soft": "#a3b1c2",
    "line": "#6b7a90",
    "faint": "#3a4556",
    "bold": "#c3d0e0",
}
_EFFECTS_LIGHT = {
    "pure": ("#64748b", "#f1f5f9", "#334155"),
    "read": ("#0284c7", "#e0f2fe", "#075985"),
    "model": ("#7c3aed", "#ede9fe", "#5b21b6"),
    "write": ("#ea580c", "#ffedd5", "#9a3412"),
    "unknown": ("#94a3b8", "#f1f5f9", "#475569"),
}
"""Effect -> line, ground and text."""
_EFFECTS_DARK = {
    "pure": ("#8494aa", "#232c3a", "#cbd5e1"),
    "read": ("#38bdf8", "#0b2f45", "#bae6fd"),
    "model": ("#a78bfa", "#2a1f4d", "#ddd6fe"),
    "write": ("#fb923c", "#43220d", "#fed7aa"),
    "unknown": ("#64748b", "#1f2733", "#a3b1c2"),
}


def stylesheet() -> str:
    """Return the CSS of a picture."""
    dark = "\n".join(f"  {line}" for line in _rules(_DARK, _EFFECTS_DARK))
    fonts = [
        f"text {{ font-family: {SANS}; }}",
        f".mono {{ font-family: {MONO}; white-space: pre; }}",
        ".title { font-size: 17px; font-weight: 650; }",
        ".heading { font-size: 13px; font-weight: 650; }",
        ".id { font-size: 13px; font-weight: 700; }",
        ".does { font-size: 11.5px; }",
        ".label { font-size: 10.5px; font-weight: 650; letter-spacing: .02em; }",
        ".line { fill: none; stroke-width: 1.4; }",
        ".line.implied { stroke-width: 1; }",
        ".line.critical { stroke-width: 2.4; }",
        ".line.after { stroke-dasharray: 5 4; }",
        ".line.ordered { stroke-dasharray: 0.1 4.5; stroke-linecap: round; stroke-width: 2; }",
        ".conditional { stroke-dasharray: 6 4; }",
    ]
    return "\n".join(
        [*fonts, *_rules(_LIGHT, _EFFECTS_LIGHT), "@media (prefers-color-scheme: dark) {", dark, "}"]
    )


def _rules(colours: dict[str, str], effects: dict[str, tuple[str, str, str]]) -> list[str]:
    plain = [
        f".ground {{ fill: {colours['ground']}; stroke: {colours['edge']}; }}",
        f".panel {{ fill: {colours['panel']}; stroke: {colours['edge']}; }}",
        f".card {{ fill: {colours['card']}; }}",
        f".title, .heading, .id {{ fill: {colours['ink']}; }}",
        f".does, .label {{ fill: {colours['soft']}; }}",
        f".line {{ stroke: {colours['line']}; }}",
        f".line.implied {{ stroke: {colours['faint']}; }}",
        f".line.ordered {{ stroke: {effects['write'][0]}; }}",
        f".line.critical {{ stroke: {colours['bold']}; }}",
        f".head {{ fill: {colours['line']}; }}",
        f".head.implied {{ fill: {colours['faint']}; }}",
        f".head.ordered {{ fill: {effects['write'][0]}; }}",
        f".head.critical {{ fill: {colours['bold']}; }}",
        f".chip {{ fill: {colours['card']}; stroke: {colours['faint']}; }}",
        f".outcome {{ fill: {colours['card']}; stroke: {colours['bold']}; }}",
    ]
    for name, (line, ground, text) in effects.items():
        plain += [
            f".card.{name} {{ stroke: {line}; }}",
            f".bar.{name} {{ fill: {line}; }}",
            f".pill.{name} {{ fill: {ground}; }}",
            f".word.{name} {{ fill: {text}; }}",
        ]
    return plain
