"""Guards and worked examples of an `ask` step: they are data, so their problems are known before a run.

A guard is an object of conditions on the answer, or on one field of it; whoever asks the model applies them. Conditions on a text may stand
together; each of the others (`_HEADS`) is a guard of its own, with its settings. A guard that needs packages which are not installed is refused. A worked example is
`{"input": .., "output": ..}` or a pair. Faults have paths inside the list, such as `[0].regex`: `bad-shape` for what is no guard or no example,
`bad-literal` for a condition that cannot hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, Final, cast

from ..expressions.infer import Inferred
from ..format.shape import describe
from ..reports.errors import LocalProblem
from ..reports.nearest import did_you_mean, listing
from ..types.types import UNKNOWN, ListType, ObjectType, Type, Unknown, members
from ..types.wellformed import is_pattern
from ..values import Json, NotJson, into, parse
from .arguments import part_problems

INPUT_KEYS: Final = ("input", "in", "prompt", "question", "args")
OUTPUT_KEYS: Final = ("output", "out", "answer", "result")


PERSONAL_DATA: Final = ("email", "phone", "iban", "credit_card", "national_id")
"""The kinds of personal data that a guard may name."""

TOXICITY: Final = ("insult", "hate", "harassment", "threat", "sexual", "self_harm")
"""The kinds of toxic text that a guard may name."""

_HEADS: Final[Mapping[str, tuple[str, ...]]] = {
    "judge": ("model",),
    "toxicity": ("model",),
    "personal_data": ("countries", "field"),
    "grounded": ("quote", "min_length", "source"),
}
"""The guards that stand alone, each with its settings."""

_EXTRAS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "personal_data": ("personal-data", ("phonenumbers", "stdnum")),
}
"""Guard -> the extra of firmplan that it needs, and the packages of the extra."""

COUNTRIES_MAX: Final = 8
"""Countries that a guard may name: each is another look at the text."""

_COUNTRY_CODES: Final = """
    AC AD AE AF AG AI AL AM AO AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BW BY BZ CA CC CD CF CG CH CI CK CL
    CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GT GU
    GW GY HK HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC
    MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PR PS PT
    PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TA TC TD TG TH TJ TK TL TM TN TO TR TT TV TW TZ
    UA UG US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW
"""
_COUNTRIES: Final = frozenset(_COUNTRY_CODES.split())
"""The countries (ISO 3166) with telephone numbers of their own."""


def guard_problems(
    guards: Sequence[object], answer: Type | None = None, sources: Sequence[str] | None = None
) -> Iterator[LocalProblem]:
    """Yield the faults of guards.

    Args:
        guards: As they are written.
        answer: The type of the guarded answer, if it is known: a `field` must be one of its fields.
        sources: The names that a `source` may have; empty for an `ask` step, whose source is its prompt; `None`: they are not known.
    """
    for index, guard in enumerate(guards):
        inner = f"[{index}]"
        found = describe(guard)
        if isinstance(guard, Mapping) and guard:
            yield from _problems_of_guard(cast("Mapping[str, Json]", guard), inner, answer, sources)
        else:
            message = f"expected an object with {listing(CONDITIONS, 20)}, found {found}"
            yield LocalProblem("bad-shape", message, "", inner)


def missing_extra(guard: str) -> str | None:
    """Return what has to be installed for a guard, as a sentence; `None`: nothing is missing."""
    extra, packages = _EXTRAS.get(guard, ("", ()))
    missing = [package for package in packages if not _is_installed(package)]
    if not missing:
        return None
    return f"expected the packages {listing(packages)}, found no {missing[0]}; install them with: pip install 'firmplan[{extra}]'"


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # it is half installed, or its import is blocked
        return False


def _problems_of_guard(
    guard: Mapping[str, Json], inner: str, answer: Type | None, sources: Sequence[str] | None
) -> Iterator[LocalProblem]:
    for key, wanted in guard.items():
        at = into(inner, str(key))
        if key not in CONDITIONS:
            hint = did_you_mean(str(key), CONDITIONS, "leave it out")
            yield LocalProblem("bad-shape", f"expected {listing(CONDITIONS, 20)}, found '{key}'", hint, at)
            continue
        is_condition, expected = CONDITIONS[key]
        if not is_condition(wanted):
            yield LocalProblem("bad-literal", f"{key}: expected {expected}, found {describe(wanted)}", "", at)
        elif (missing := missing_extra(key)) is not None:
            yield LocalProblem("bad-literal", f"{key}: {missing}", "", at)
    yield from _company_problems(guard, inner)
    if isinstance(field := guard.get("field"), str) and answer is not None:
        yield from _field_problems(field, answer, into(inner, "field"))
    if "grounded" in guard:
        yield from _grounded_problems(guard, inner, answer, sources)


def _company_problems(guard: Mapping[str, Json], inner: str) -> Iterator[LocalProblem]:
    """Yield the faults of keys that do not belong together."""
    heads = [head for head in _HEADS if head in guard]
    for head in heads[:1]:
        allowed = _HEADS[head]
        if others := [key for key in guard if key not in (head, *allowed)]:
            beside = " and ".join(f"'{key}'" for key in allowed) if len(allowed) < 3 else listing(allowed)
            message = f"{head}: expected nothing beside it but {beside}, found '{others[0]}'"
            yield LocalProblem("bad-shape", message, "make it a guard of its own", inner)
    for key in ("model", "countries", "quote", "source"):
        wanted = [head for head, settings in _HEADS.items() if key in settings]
        if key in guard and not heads:
            named = " or ".join(f"'{head}'" for head in wanted)
            message = f"{key}: expected {named} beside it, found none"
            hint = f"name a '{wanted[0]}', or leave it out"
            yield LocalProblem("bad-shape", message, hint, into(inner, key))


def _is_length(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Json) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_choice(known: Sequence[str] | frozenset[str], most: int = 20) -> Callable[[Json], bool]:
    """Return whether a value is a list of some known words."""

    def is_choice(value: Json) -> bool:
        return (
            isinstance(value, list | tuple)
            and 0 < len(value) <= most
            and all(isinstance(word, str) and word in known for word in value)
        )

    return is_choice


def _is_true_or(is_other: Callable[[Json], bool]) -> Callable[[Json], bool]:
    return lambda value: value is True or is_other(value)


CONDITIONS: Final[Mapping[str, tuple[Callable[[Json], bool], str]]] = {
    "max_length": (_is_length, "a number of characters, 0 or more"),
    "min_length": (_is_length, "a number of characters, 0 or more"),
    "regex": (is_pattern, "a regular expression (ECMA 262)"),
    "quotes": (lambda value: isinstance(value, bool), "true or false"),
    "field": (_is_text, "the name of a field"),
    "judge": (_is_text, "a condition in words"),
    "model": (_is_text, "the alias of a model that judges"),
    "personal_data": (
        _is_true_or(_is_choice(PERSONAL_DATA)),
        f"true, or a list of {listing(PERSONAL_DATA)}",
    ),
    "countries": (
        _is_choice(_COUNTRIES, COUNTRIES_MAX),
        f"a list of at most {COUNTRIES_MAX} countries by their two letters (ISO 3166), such as GB",
    ),
    "toxicity": (_is_true_or(_is_choice(TOXICITY)), f"true, or a list of {listing(TOXICITY)}"),
    "grounded": (
        _is_true_or(_is_text),
        "the field with the list of claims, or true where the answer is the list",
    ),
    "quote": (_is_text, "the field of a claim that holds its quote"),
    "source": (
        lambda value: (
            _is_text(value) or (isinstance(value, list) and bool(value) and all(map(_is_text, value)))
        ),
        "the name of a parameter, or a list of names",
    ),
}


def _grounded_problems(
    guard: Mapping[str, Json], inner: str, answer: Type | None, sources: Sequence[str] | None
) -> Iterator[LocalProblem]:
    claims, named = guard["grounded"], guard.get("source")
    if _is_length(least := guard.get("min_length")) and least == 0:
        message = (
            "min_length: expected at least 1 character, since an empty quote stands in every source, found 0"
        )
        yield LocalProblem("bad-literal", message, "", into(inner, "min_length"))
    if isinstance(claims, str) and answer is not None:
        yield from _field_problems(claims, answer, into(inner, "grounded"), "grounded")
    listed = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    for each in listed:
        if sources is not None and each not in sources:
            known = listing(sources) if sources else "none, since the source of an `ask` step is its prompt"
            hint = did_you_mean(str(each), sources, "leave it out")
            message = f"source: expected the name of a parameter ({known}), found '{each}'"
            yield LocalProblem("bad-literal", message, hint, into(inner, "source"))


def _field_problems(field: str, answer: Type, at: str, key: str = "field") -> Iterator[LocalProblem]:
    """Yield a fault if the answer has no such field: a guard on it would hold, or fail, whatever the model answers."""
    known: list[str] = []
    for member in _guarded(answer):
        match member:
            case Unknown():
                return
            case ObjectType() if member.extra is not None or field in member.fields:
                return
            case ObjectType():
                known += member.fields
            case _:
                pass  # it has no fields
    fields = (
        f"one of the answer's fields {listing(known)}" if known else "no field, since the answer has none"
    )
    message = f"{key}: expected {fields}, found '{field}'"
    yield LocalProblem("bad-literal", message, did_you_mean(field, known), at)


def _guarded(answer: Type) -> Iterator[Type]:
    """Yield the types to which a guard with a field applies: the answer's, or those of its items if it is a list."""
    for member in members(answer):
        if isinstance(member, ListType):
            yield from _guarded(member.item)
        else:
            yield member


def read_example(example: object) -> tuple[Json, Json, str] | None:
    """Return an example's input, its output, and the output's place in the example; `None`: it is no example."""
    if isinstance(example, Mapping) and len(fields := cast("Mapping[str, Any]", example)) == 2:
        inputs = [fields[key] for key in INPUT_KEYS if key in fields]
        outputs = [key for key in OUTPUT_KEYS if key in fields]
        return (inputs[0], fields[outputs[0]], into("", outputs[0])) if inputs and outputs else None
    if isinstance(example, list | tuple) and len(pair := cast("list[Any]", example)) == 2:
        return pair[0], pair[1], "[1]"
    return None


def example_problems(examples: list[Json], answer: Type, parts: Inferred) -> Iterator[LocalProblem]:
    """Yield the faults of worked examples: those that are none, and outputs that have not the answer's type.

    Args:
        examples: As they are written.
        answer: The type of the answer.
        parts: The computed parts of the examples.
    """
    for index, example in enumerate(examples):
        inner = f"[{index}]"
        if inner in parts.leaves:
            continue
        found = read_example(example)
        if found is None:
            message = f'expected {{"input": .., "output": ..}}, found {describe(example)}'
            yield LocalProblem("bad-shape", message, "", inner)
            continue
        _, output, place = found
        at = inner + place
        faults = list(part_problems(output, at, answer, parts))
        if faults and isinstance(output, str) and at not in parts.leaves:
            # A model answers in text, so an author may write the answer's JSON as text too.
            with suppress(NotJson):
                faults = list(part_problems(parse(output), at, answer, Inferred(UNKNOWN, [])))
        yield from faults
