"""Where a value came from: an input, a constant, an earlier result, a selection from a list, an expression, or a text that a model made.

A `Case` is a place where a value is needed, with what was known there; an argument has one case for each trace and each item of a loop. Candidates are
expressions that give the value in the first case. A candidate stands only if it gives the right value in all cases, which is found out by evaluating it.
Of several, the most specific stands, by rank, and the others are reported. Equal traces give equal origins. Pure.

A value that says little (a boolean, a small number) equals others by chance: it refers to a result only where the names agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal, TypeAlias, cast

from ...plans.expressions.unparse import quoted
from ...plans.values import Json, canonical, with_texts
from .expressions import computed, text_templates
from .places import Case, field_code, gives, names_agree
from .secrecy import holds_secret, is_secret
from .selections import Known, codes_of, selected

Kind: TypeAlias = Literal[
    "input", "constant", "result", "selection", "expression", "template", "model", "secret", "unexplained"
]

KINDS: Final[Mapping[Kind, str]] = {
    "input": "input",
    "result": "result",
    "selection": "selection",
    "expression": "expression",
    "template": "template",
    "model": "made by a model",
    "constant": "constant",
    "secret": "secret",
    "unexplained": "constant, not explained",
}
"""The kinds of origins, as reports name them."""

PLACES_MAX: Final = 40
"""Places of one value that are looked at."""

ALTERNATIVES_MAX: Final = 4
"""Other explanations that are reported."""

PROSE_WORDS_MIN: Final = 4
PROSE_CHARACTERS_MIN: Final = 60
"""A text with so many words, or so long, that stands nowhere else was made by a model, and is no constant."""

GLUE_WORDS_MAX: Final = 3
"""Words around values in a text that one trace alone shows to be a template; with more of them a model wrote it."""

ANSWER: Final = "answer"
"""The name of what the agent said at the end, where an argument has its own."""

ANSWER_GLUE_WORDS_MAX: Final = 1

_NOWHERE: Final = "nothing in the trace says where it came from; it stays a constant"
_WEAK_NUMBER: Final = 20


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible origin.

    Attributes:
        rank: Lower is better.
        template: The template that the plan would have.
        kind: The kind of origin.
        why: What is odd about it, as the rest of a sentence; empty if nothing is.
    """

    rank: tuple[int, ...]
    template: Json
    kind: Kind
    why: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of one argument, or of a part of one.

    Attributes:
        place: The argument, or the part of one, such as `body` or `items[0].id`.
        kind: The kind of origin.
        template: The template in the plan.
        why: What is odd about it, as the rest of a sentence; empty if nothing is.
        alternatives: Other explanations, the best first.
    """

    place: str
    kind: Kind
    template: Json
    why: str = ""
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """A value that only a model can make.

    Attributes:
        place: The argument, or the part of one.
        name: The nearest name.
        schema: Its type.
        values: The values, one a case.
        marker: The text in its place in templates until there is a step that makes it.
    """

    place: str
    name: str
    schema: Mapping[str, Json]
    values: tuple[Json, ...]
    marker: str


@dataclass(slots=True)
class Explained:
    """The template of a value, and how it was found.

    Attributes:
        template: The template in the plan; markers stand for values that a model makes.
        origins: The origin of each part.
        wanted: The values that a model has to make.
        secrets: Argument -> value of the secrets.
    """

    template: Json
    origins: list[Origin] = field(default_factory=list[Origin])
    wanted: list[Wanted] = field(default_factory=list[Wanted])
    secrets: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, part: Explained) -> None:
        """Add how a part of the value was found."""
        self.origins += part.origins
        self.wanted += part.wanted
        self.secrets |= part.secrets


@dataclass(slots=True)
class Explainer:
    """Finds the origins of values.

    Attributes:
        known: What expressions may refer to.
        systems: The system message of each trace.
    """

    known: Known
    systems: Sequence[str]
    _marked: int = 0

    def explain(
        self, cases: Sequence[Case], name: str, schema: Mapping[str, Json], place: str = ""
    ) -> Explained:
        """Return the template of an argument.

        Args:
            cases: Where it is needed: one for each trace and each item.
            name: The name of the argument.
            schema: Its type.
            place: Where it stands; empty: `name`.
        """
        place = place or name
        found = self.candidates(cases, name, schema)
        if name == ANSWER:
            found = [each for each in found if self._may_answer(each, cases)]
        if found and not self._is_better_in_parts(found[0], cases):
            return self._chosen(found, place)
        if self._has_same_shape(cases):
            return self._in_parts(cases, name, schema, place)
        return self._not_found(cases, name, schema, place)

    def _may_answer(self, candidate: Candidate, cases: Sequence[Case]) -> bool:
        """Whether an origin is safe for what the agent says at the end: a sentence around values, or a choice, is a model's own in every run."""
        if candidate.kind == "selection" and candidate.why and len(str(cases[0].value)) < PROSE_WORDS_MIN:
            return False
        if candidate.kind == "template":
            return candidate.rank[1] <= ANSWER_GLUE_WORDS_MAX or self.known.traces > 1
        # `Done.` is no answer to anything; `Rome` is one, and another time it is another.
        is_phrase = len(str(cases[0].value).split()) <= PROSE_WORDS_MIN and not re.search(
            r"\d|(?<=\s)[^\W\d_a-z]", str(cases[0].value)
        )
        is_said = is_phrase and not _is_in_results(cases[0])
        return candidate.kind not in ("unexplained", "constant", "input") or (
            candidate.kind != "input" and (is_said or self.known.traces > 1)
        )

    def candidates(self, cases: Sequence[Case], name: str, schema: Mapping[str, Json]) -> list[Candidate]:
        """Return the origins that give the right value in all cases, the best first.

        Args:
            cases: Where the value is needed.
            name: The name of the argument.
            schema: Its type.
        """
        made: dict[bytes, Candidate] = {}
        for each in self._proposed(cases, name, schema):
            key = canonical(each.template)
            if key not in made or each.rank < made[key].rank:
                made[key] = each
        # Words around a value may have a secret in them.
        safe = [each for each in made.values() if not holds_secret(str(each.template), self.known.secrets)]
        holding = [each for each in safe if self.holds(each.template, cases)]
        return sorted(holding, key=lambda each: (each.rank, len(str(each.template)), str(each.template)))

    def holds(self, template: Json, cases: Sequence[Case]) -> bool:
        """Whether a template gives the value of every case."""
        return all(gives(template, case) for case in cases)

    # --- what may be

    def _is_secret(self, name: str, value: Json) -> bool:
        return is_secret(name, value) or (isinstance(value, str) and holds_secret(value, self.known.secrets))

    def _proposed(self, cases: Sequence[Case], name: str, schema: Mapping[str, Json]) -> Iterator[Candidate]:
        # The first part of a rank is the tier, the lower the better: 0 a field of the loop's item, 1 the words of the user, 2 an earlier result,
        # 3 a constant that says little, 4 a text around values, 5 to 7 what may be chance, 8 a constant that nothing explains.
        first = cases[0]
        value = first.value
        is_weak = self._is_weak(value, schema)
        if not isinstance(value, list | dict):
            yield from self._constant(cases, name, schema, is_weak=is_weak)
            # A secret that the words name is one all the same.
            if not self._is_secret(name, value):
                yield from self._input(cases, name, schema)
        places = list(islice(self.known.indexes.find(first.scope, value), PLACES_MAX))
        for order, place in enumerate(places):
            for code, cost, why in codes_of(self.known, place, cases):
                agrees = names_agree(name, place)
                tier = (0 if place.root == "item" else 2) if not is_weak or agrees else 6
                kind: Kind = "selection" if place.indexes and code != f"{place.root}" else "result"
                yield Candidate((tier, cost, int(not agrees), order), f"${{{code}}}", kind, why)
        if isinstance(value, list):
            for code, cost, why in selected(self.known, cases):
                yield Candidate((2, cost, 0, len(places)), f"${{{code}}}", "selection", why)
        elif not isinstance(value, dict) and not self._is_secret(name, value):
            for code, tier in computed(self.known, first, name, is_weak=is_weak):
                yield Candidate((tier, 0, 0, 0), f"${{{code}}}", "expression")
            if isinstance(value, str):
                yield from self._texts(cases, value)

    def _constant(
        self, cases: Sequence[Case], name: str, schema: Mapping[str, Json], *, is_weak: bool
    ) -> Iterator[Candidate]:
        value = cases[0].value
        if any(canonical(case.value) != canonical(value) for case in cases[1:]) or self._is_secret(
            name, value
        ):
            return
        template = literal(value)
        if is_weak:
            doubt = "" if self.known.traces > 1 else _doubt_of(value, schema)
            yield Candidate((3, 0), template, "unexplained" if doubt else "constant", doubt)
        elif self.known.traces > 1:
            # What the users of several traces all name, and never change, is part of the task; so is what no trace changes.
            yield Candidate(
                (1 if self._all_name(cases) else 8, 0), template, "constant", "it is the same in all traces"
            )
        elif isinstance(value, str) and is_prose(value):
            return
        elif isinstance(value, str) and value and value in self.systems[cases[0].trace]:
            yield Candidate((7, 0), template, "constant", "the system message names it")
        else:
            yield Candidate((8, 0), template, "unexplained", _NOWHERE)

    def _all_name(self, cases: Sequence[Case]) -> bool:
        return self._values_by_trace(cases) is not None and all(
            str(case.value).casefold() in self.known.inputs.tasks[case.trace].casefold() for case in cases
        )

    def _input(self, cases: Sequence[Case], name: str, schema: Mapping[str, Json]) -> Iterator[Candidate]:
        values = self._values_by_trace(cases)
        if values is None:
            return
        if (code := self.known.inputs.code_of(values, name, schema)) is not None:
            yield Candidate((1, 1), f"${{{code}}}", "input")

    def _values_by_trace(self, cases: Sequence[Case]) -> list[Json] | None:
        """Return the one value of each trace; `None`: one has several."""
        found: dict[int, Json] = {}
        for case in cases:
            if canonical(found.setdefault(case.trace, case.value)) != canonical(case.value):
                return None
        return (
            [found[trace] for trace in range(self.known.traces)] if len(found) == self.known.traces else None
        )

    def _texts(self, cases: Sequence[Case], value: str) -> Iterator[Candidate]:
        for template, glue in text_templates(self.known, cases, value):
            if (
                glue <= GLUE_WORDS_MAX
                or self.known.traces > 1
                or len({canonical(case.value) for case in cases}) > 1
            ):
                yield Candidate((4, glue), template, "template")

    # --- what becomes of it

    def _is_better_in_parts(self, best: Candidate, cases: Sequence[Case]) -> bool:
        """Whether the parts of a list or an object say more than the whole: the whole is a part of a result by chance."""
        return isinstance(cases[0].value, list | dict) and best.rank[1] >= 4 and self._has_same_shape(cases)

    @staticmethod
    def _has_same_shape(cases: Sequence[Case]) -> bool:
        first = cases[0].value
        if isinstance(first, dict):
            return all(isinstance(case.value, dict) and set(case.value) == set(first) for case in cases)
        return isinstance(first, list) and all(
            isinstance(case.value, list) and len(case.value) == len(first) for case in cases
        )

    def _chosen(self, found: Sequence[Candidate], place: str) -> Explained:
        best = found[0]
        return Explained(
            best.template, [Origin(place, best.kind, best.template, best.why, _alternatives(found))]
        )

    def _in_parts(
        self, cases: Sequence[Case], name: str, schema: Mapping[str, Json], place: str
    ) -> Explained:
        value = cases[0].value
        made = Explained({} if isinstance(value, dict) else [])
        keys: Sequence[str | int] = (
            list(value) if isinstance(value, dict) else range(len(cast("list[Json]", value)))
        )
        for key in keys:
            inner = schema.get("properties" if isinstance(key, str) else "items")
            inner = inner.get(key) if isinstance(key, str) and isinstance(inner, dict) else inner
            where = f"{place}{field_code(key) if isinstance(key, str) else f'[{key}]'}"
            part = self.explain(
                [case.part(key) for case in cases],
                key if isinstance(key, str) else name,
                inner if isinstance(inner, dict) else {},
                where,
            )
            if isinstance(made.template, dict):
                made.template[cast("str", key)] = part.template
            else:
                cast("list[Json]", made.template).append(part.template)
            made.add(part)
        if not keys:
            made.origins.append(Origin(place, "constant", made.template))
        return made

    def _not_found(
        self, cases: Sequence[Case], name: str, schema: Mapping[str, Json], place: str
    ) -> Explained:
        value = cases[0].value
        values = self._values_by_trace(cases)
        if self._is_secret(name, value) and values is not None:
            why = "it looks like a secret; the plan names it, and does not have it"
            if len({canonical(each) for each in values}) > 1:
                template = f"${{{self.known.inputs.secret(values, name)}}}"
                return Explained(template, [Origin(place, "secret", template, why)])
            marker = f"\x00secret:{place}\x00"
            return Explained(marker, [Origin(place, "secret", marker, why)], secrets={place: str(value)})
        self._marked += 1
        marker = f"\x00model:{self._marked}\x00"
        others: tuple[str, ...] = ()
        if isinstance(value, str):
            known = [
                shown(template)
                for template, _ in text_templates(self.known, cases, value)
                if self.holds(template, cases)
            ]
            others = tuple(known[:1])
        wanted = Wanted(place, name, schema, tuple(case.value for case in cases), marker)
        return Explained(marker, [Origin(place, "model", marker, "", others)], [wanted])

    @staticmethod
    def _is_weak(value: Json, schema: Mapping[str, Json]) -> bool:
        """Whether a value says so little that an equal one elsewhere may be chance."""
        match value:
            case None | bool():
                return True
            case int():
                is_small = abs(value) <= _WEAK_NUMBER
            case float():
                is_small = value.is_integer() and abs(value) <= _WEAK_NUMBER
            case str():
                is_small = len(value) < 2
            case _:
                is_small = False
        return (
            is_small
            or "enum" in schema
            or "const" in schema
            or ("default" in schema and schema["default"] == value)
        )


def is_prose(text: str) -> bool:
    """Whether a text reads as if a model had written it: several words, or lines."""
    return (
        len(text.split()) >= PROSE_WORDS_MIN
        or "\n" in text.strip()
        or (len(text) > PROSE_CHARACTERS_MIN and " " in text)
    )


def _alternatives(found: Sequence[Candidate]) -> tuple[str, ...]:
    """Return the other explanations that a person should know of."""
    best = found[0]
    if best.rank[0] == 0:  # an element's own field; that another list has it too says no more
        return ()
    # A constant explains whatever is alike in all cases, and a function around the best one explains no more.
    others = (
        shown(each.template)
        for each in found[1:]
        if each.kind not in ("constant", "unexplained")
        and each.rank[0] <= best.rank[0] + 2
        and shown(best.template)[2:-1] not in shown(each.template)
    )
    return tuple(islice(others, ALTERNATIVES_MAX))


def _doubt_of(value: Json, schema: Mapping[str, Json]) -> str:
    """Return what is odd about a constant that says little; empty if it is a flag or the default."""
    if isinstance(value, bool) or value is None or ("default" in schema and schema["default"] == value):
        return ""
    if "enum" in schema:
        return "it is one of the options of the argument, and a model may have chosen it; it stays a constant"
    return _NOWHERE if value != "" else ""


def _is_in_results(case: Case) -> bool:
    """Whether a word of a text stands in what was known."""
    known = str([*case.scope.values()]).casefold()
    return any(len(word) > 3 and word in known for word in re.findall(r"\w+", str(case.value).casefold()))


def literal(value: Json) -> Json:
    """Return a value as it stands in a plan: `${` in a text is escaped."""
    return with_texts(value, lambda text: text.replace("${", "$${"))


def shown(template: Json) -> str:
    """Return a template as a report shows it."""
    if not isinstance(template, str):
        return canonical(template).decode()
    return template if "${" in template else quoted(template)
