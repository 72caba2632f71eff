"""Keeping secrets out of what is written down: wherever their value stands, `${secret("NAME")}` stands instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..plans.values import Json, NotJson, canonical, parse

# Characters of a secret that is looked for in values: shorter ones stand in them by chance.
LENGTH_MIN: Final = 4


def masked_text(text: str, secrets: Mapping[str, str]) -> str:
    """Return a text without these secrets (name -> value), as they are and as they stand inside quotes."""
    for name, secret in _longest_first(secrets):
        for form in (secret, _inside_json(secret), repr(secret)[1:-1]):
            text = text.replace(form, _expression(name))
    return text


def masked_value(data: bytes, secrets: Mapping[str, str]) -> bytes:
    """Return a canonical value without these secrets; one that holds none is returned as it is."""
    sought = [(name, secret) for name, secret in _longest_first(secrets) if len(secret) >= LENGTH_MIN]
    if not any(_inside_json(secret).encode() in data for _, secret in sought):
        return data
    return canonical(_masked(parse(data), sought))


def _masked(value: Json, sought: list[tuple[str, str]]) -> Json:
    match value:
        case str():
            for name, secret in sought:
                value = value.replace(secret, _expression(name))
            return value
        case list():
            return [_masked(item, sought) for item in value]
        case dict():
            return {str(_masked(key, sought)): _masked(item, sought) for key, item in value.items()}
        case _:
            return value


def _longest_first(secrets: Mapping[str, str]) -> list[tuple[str, str]]:
    found = [(name, secret) for name, secret in secrets.items() if secret]
    return sorted(found, key=lambda pair: (-len(pair[1]), pair[0]))


def _expression(name: str) -> str:
    return f'${{secret("{name}")}}'


def _inside_json(text: str) -> str:
    try:
        return canonical(text)[1:-1].decode()
    except NotJson:  # a byte that is no text: it stands in no value
        return text
