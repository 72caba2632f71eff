"""Laws of declared codecs: a type that JSON cannot carry travels as bytes with a description."""

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from firmplan import Columns, ConfigError, Engine, Shape, check, codec, tool


class Molecule:
    """A type that pydantic does not know."""

    def __init__(self, atoms: str) -> None:
        self.atoms = atoms


@codec(Molecule, media_type="chemical/x-test")
class Molfile:
    """The bytes of a molecule."""

    schema: ClassVar = {"atoms": {"type": "integer"}}

    def encode(self, value: Molecule) -> bytes:
        if not value.atoms:
            raise ValueError("a molecule has atoms")
        return value.atoms.encode()

    def decode(self, data: bytes) -> Molecule:
        return Molecule(data.decode())

    def describe(self, value: Molecule) -> dict[str, int]:
        return {"atoms": len(value.atoms)}


@dataclass
class Pair:
    """Two molecules, and a word."""

    left: Molecule
    right: Molecule | None
    word: str


@tool(effect="pure")
def build(atoms: str) -> Molecule:
    """Build a molecule."""
    return Molecule(atoms)


@tool(effect="pure")
async def join(left: Molecule, right: Molecule | None = None) -> Pair:
    """Put two molecules side by side."""
    return Pair(left, right, left.atoms)


@tool(effect="pure")
def flat(pair: Pair) -> list[Molecule]:
    """List the molecules of a pair."""
    return [each for each in (pair.left, pair.right) if each is not None]


@tool(effect="write")
def publish(molecule: Molecule) -> Molecule:
    """Publish a molecule; the answer cannot be encoded."""
    return Molecule("")


def _run(plan, tools, store="memory:"):
    async def run():
        async with Engine(tools, store=store) as engine:
            first = await engine.run(plan)
            again = await engine.run(plan)
            await engine.replay(first.id)
            return first, again

    return asyncio.run(run())


def test_values_travel_as_bytes_and_descriptions_between_all_kinds_of_tools():
    """Tools on threads and on the event loop hand each other values; plans read what the codec describes."""
    plan = {
        "firmplan": 1,
        "steps": [
            {"id": "b", "tool": "build", "args": {"atoms": "CHO"}},
            {"id": "p", "tool": "join", "args": {"left": "${b}", "right": "${b}"}},
            {"id": "f", "tool": "flat", "args": {"pair": "${p}"}},
        ],
        "output": ["${b.atoms}", "${p.word}", "${f[1].atoms}", "${p.right == f[0]}"],
    }
    tools = [build, join, flat]
    assert check(plan, tools).ok
    first, again = _run(plan, tools)
    first.raise_for_status()
    assert first.output == [3, "CHO", 3, True]
    assert first.steps["b"].output["media_type"] == "chemical/x-test"
    assert first.steps["b"].output["size"] == 3
    assert again.digest == first.digest
    assert [again.steps[each].reused for each in ("b", "p")] == [True, True]


def test_the_code_of_a_codec_counts_as_code_of_its_tools():
    """The fingerprint names the codec's class, so that a change of it calls the tool again."""
    assert any("Molfile" in name for name in build.fingerprint_parts), list(build.fingerprint_parts)
    assert build.unseen is None


def test_a_write_whose_result_has_no_bytes_took_effect():
    """The failure says so, as for every refused result of a write; a later step does not repeat it."""
    plan = {
        "firmplan": 1,
        "steps": [
            {"id": "b", "tool": "build", "args": {"atoms": "C"}},
            {"id": "w", "tool": "publish", "args": {"molecule": "${b}"}},
        ],
    }
    first, _ = _run(plan, [build, publish])
    (error,) = first.errors
    assert error.code == "bad-result"
    assert "the call took effect" in error.message
    assert "a molecule has atoms" in error.message


def test_the_check_compares_types_by_their_codec():
    """Another codec's value is a type mismatch before anything runs; so is an unknown fact an unknown field."""

    @tool(effect="pure")
    def other() -> dict[str, Any]:
        """Return something else."""
        return {}

    plan = {
        "firmplan": 1,
        "steps": [
            {"id": "o", "tool": "build", "args": {"atoms": "C"}},
            {"id": "j", "tool": "join", "args": {"left": "text"}},
        ],
        "output": "${o.bonds}",
    }
    found = {(each.code, each.path) for each in check(plan, [build, join, other]).problems}
    assert ("unknown-field", "$.output") in found
    assert any(path.startswith("$.steps[1].args.left") for _, path in found)


class Unknown:
    """A type without a codec."""


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: codec("text"), "expected a class"),
        (lambda: codec(Unknown, media_type="png"), "media_type: expected one such as"),
        (lambda: codec(Unknown)(type("Empty", (), {})), "expected a method `encode`"),
        (lambda: codec(Molecule)(type("Second", (), {})), "expected a type without a codec"),
        (
            lambda: codec(Unknown)(type("Half", (), {"encode": None, "decode": print})),
            "expected a method `encode`",
        ),
        (
            lambda: codec(Unknown)(type("Told", (), {"encode": print, "decode": print, "describe": print})),
            "expected both `describe` and `schema`",
        ),
        (
            lambda: codec(Unknown)(
                type(
                    "Taken", (), {"encode": print, "decode": print, "describe": print, "schema": {"size": {}}}
                )
            ),
            "found 'size'",
        ),
        (
            lambda: codec(Unknown)(
                type(
                    "Bad",
                    (),
                    {"encode": print, "decode": print, "describe": print, "schema": {"a": {"type": 1}}},
                )
            ),
            "expected the JSON Schema of 'a'",
        ),
        (lambda: Columns(a=list), "expected a type of columns"),
        (lambda: Columns(a="No Type"), "expected a type of columns"),
        (lambda: Shape(-1), "expected the length of an axis"),
    ],
)
def test_a_wrong_declaration_is_refused_in_words(declare, message):
    """A `ConfigError` says what was expected."""
    with pytest.raises(ConfigError, match=message):
        declare()


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Unknown, "Unknown: declare a codec for it"),
        (list[Unknown], "Unknown: declare a codec for it"),
        (set[Molecule], "found it in a set or as a key"),
        (dict[Molecule, int], "found it in a set or as a key"),
    ],
)
def test_a_type_without_a_codec_is_refused_where_the_tool_is_declared(annotation, message):
    """The message names the parameter, the type and what to do."""

    def takes(value) -> int:
        """Take a value."""
        return 0

    takes.__annotations__["value"] = annotation
    with pytest.raises(ConfigError, match=message) as found:
        tool(effect="pure")(takes)
    assert "'takes'" in str(found.value)
