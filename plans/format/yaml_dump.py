"""A JSON value as YAML text that YAML 1.1 and YAML 1.2 readers take for the same value."""

from __future__ import annotations

import re

import yaml
from typing_extensions import override

from ..values import Json

WIDTH = 110
"""Characters of a line before text is folded."""

_NUMBER_1_2 = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z"
)
_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")
"""What PyYAML leaves as it is in quotes that keep no escapes, and reads back as a line break, or not at all."""


class _Dumper(yaml.SafeDumper):
    """Writes every value out (no aliases), and puts text that either version reads as something else in quotes."""

    @override
    def ignore_aliases(self, data: object) -> bool:
        return True


_Dumper.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType]  # PyYAML's stubs leave it out
    "tag:yaml.org,2002:float", _NUMBER_1_2, list("-+0123456789.")
)


def _text(_dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if _BREAKS.search(text) else None
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def dump_yaml(value: Json) -> str:
    """Return YAML text; keys keep their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)
