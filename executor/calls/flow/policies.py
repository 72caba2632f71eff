"""Policies: rules about the arguments of calls, which decide where untrusted data may stand without a person.

A policy looks at one argument of one call, at its value and at its labels. It allows the value, has a person asked, denies the call, or has no opinion. Of
several opinions, deny beats ask, and ask beats allow. The default rules only allow: a value that untrusted data derives may stand where it can't choose a harm.

`flow_policy.py` decides when policies are asked, and what happens then. This module only has opinions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast, get_args

from ....errors import ConfigError
from ....plans.checker.flow.labels import is_untrusted
from ....plans.checker.flow.selection import HARMLESS, OPTION, SELECTED, fitting_rule
from ....plans.immutable import frozen, immutable
from ....plans.plan import ToolStep
from ....plans.program.program import CallTool, RunAgent, RunPlanned
from ....plans.signature import Effect, Signature
from ....plans.values import Json, canonical, parse_canonical
from ....tools.failures import described
from ....tools.logbook import open_log

if TYPE_CHECKING:
    from ....plans.program.program import StepCode
    from ...execution_tree import Iteration, Node
    from ...journal.header import Header
    from ...journal.toolset_lock import ToolsetLock

Verdict: TypeAlias = Literal["allow", "ask", "deny"]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
KNOWN: Final = "known"
WORD_CHARACTERS_MIN: Final = 3  # of a text that stands in the task: shorter ones stand in any task
KNOWN_BYTES_MAX: Final = (
    16 * 1024 * 1024
)  # of trusted results that are searched; values past that are not known


@frozen
class ValueLabels:
    """What a policy knows about the value of an argument.

    Attributes:
        sources: The untrusted tools and inputs (`inputs.name`) from which the value was derived; empty: it is trusted.
        known: Whether the value equals one in the task, in a trusted input, in the plan or in a trusted result.
        fits: The default rule that the argument fits: `selected` (one element of a trusted list), `option` (the tool's author listed the values),
            `harmless` (the tool's author said so), or `None`.
    """

    sources: tuple[str, ...] = ()
    known: bool = False
    fits: str | None = None

    @property
    def untrusted(self) -> bool:
        """Whether untrusted data derived the value."""
        return bool(self.sources)


@frozen
class Policy:
    """A rule about an argument of a tool.

    Attributes:
        name: Named where its verdict is recorded and explained.
        tool: Name of the tool; `*` stands for any characters.
        arg: Name of the argument; `*` stands for any characters.
        rule: Called with the value of the argument and its `ValueLabels`; returns `"allow"`, `"ask"`, `"deny"` or `None` (no opinion). It has to be
            fast and plain: it runs before each call that it is about. If it raises, a person is asked.
    """

    name: str
    tool: str
    arg: str
    rule: Callable[[Json, ValueLabels], Verdict | None]

    def __post_init__(self) -> None:
        for field in ("name", "tool", "arg"):
            value: object = getattr(self, field)
            if not isinstance(value, str) or not value:
                raise ConfigError(f"Policy: {field}: expected a text, found {value!r}")
        if not callable(self.rule):
            raise ConfigError(
                f"Policy '{self.name}': rule: expected a function of (value, labels), found {self.rule!r}"
            )

    def is_about(self, tool: str, arg: str) -> bool:
        """Whether it is about an argument of a tool."""
        return fnmatchcase(tool, self.tool) and fnmatchcase(arg, self.arg)

    def judge(self, value: Json, labels: ValueLabels) -> Verdict | None:
        """Return the verdict; if the rule fails, a person is asked."""
        try:
            verdict: object = self.rule(value, labels)
        except Exception as error:  # noqa: BLE001  # fail closed: a rule that raises allows nothing
            open_log().warning("policy failed", policy=self.name, error=described(error))
            return "ask"
        if verdict is None or verdict in VERDICTS:
            return verdict
        open_log().warning(
            "policy failed",
            policy=self.name,
            error=f"expected one of {', '.join(VERDICTS)} or None, found {verdict!r}",
        )
        return "ask"


def written_policy(  # noqa: PLR0913  # the keys of a table
    name: str,
    tool: str,
    arg: str,
    verdict: Verdict,
    *,
    matches: str | None = None,
    one_of: Sequence[Json] | None = None,
    above: float | None = None,
    at_most: float | None = None,
    known: bool | None = None,
    untrusted: bool | None = None,
) -> Policy:
    """Return a policy that is written as data, as in `firmplan.toml`. It has its verdict where all conditions hold, and else no opinion.

    Args:
        name: Its name.
        tool: As of `Policy`.
        arg: As of `Policy`.
        verdict: What it says.
        matches: A regular expression that the complete text matches.
        one_of: The values.
        above: The value is a number larger than this.
        at_most: The value is a number up to this.
        known: Whether the value equals a known one (`ValueLabels.known`).
        untrusted: Whether untrusted data derived the value.

    Raises:
        ConfigError: The expression is none.
    """
    try:
        pattern = None if matches is None else re.compile(matches)
    except re.error as fault:
        raise ConfigError(
            f"policy '{name}': matches: expected a regular expression, found {matches!r}: {fault}"
        ) from fault

    def rule(value: Json, labels: ValueLabels) -> Verdict | None:
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        holds = (
            pattern is None or (isinstance(value, str) and pattern.fullmatch(value) is not None),
            one_of is None or any(canonical(value) == canonical(each) for each in one_of),
            above is None or (number is not None and number > above),
            at_most is None or (number is not None and number <= at_most),
            known is None or labels.known == known,
            untrusted is None or labels.untrusted == untrusted,
        )
        return verdict if all(holds) else None

    return Policy(name, tool, arg, rule)


@immutable
class Opinion:
    """A verdict, and the rule that gave it."""

    verdict: Verdict
    rule: str


class Policies:
    """The policies of an engine.

    Args:
        given: Those that the user wrote.
        has_defaults: Whether the default rules count too.

    Attributes:
        is_empty: Whether the user wrote none.
    """

    def __init__(self, given: Iterable[Policy] = (), *, has_defaults: bool = True) -> None:
        self._given = tuple(given)
        self.is_empty = not self._given  # an attribute: every call of a tool asks
        self._has_defaults = has_defaults
        for policy in self._given:
            if not isinstance(cast("object", policy), Policy):
                raise ConfigError(f"policies: expected a list of Policy, found {policy!r}")

    def rule_for(self, tool: str, argument: str, fits: str | None) -> str | None:
        """Return the name of the rule that admits untrusted data at an argument, or decides about it; the `FlowRules` of a check.

        Args:
            tool: Name of the tool.
            argument: Name of the argument.
            fits: The default rule that the argument fits; `None`: none.
        """
        deciding = next((policy.name for policy in self._given if policy.is_about(tool, argument)), None)
        return deciding or (fits if self._has_defaults else None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that an `endorse` step may use: of the policies of the user, and of the default rule about known values."""
        names = [policy.name for policy in self._given]
        return tuple(dict.fromkeys([*names, KNOWN] if self._has_defaults else names))

    @property
    def places(self) -> Json:
        """What a check reads of the policies: their names, tools and arguments in their order, and whether the default rules count."""
        given: list[Json] = [[policy.name, policy.tool, policy.arg] for policy in self._given]
        return [self._has_defaults, *given]

    def find(self, name: str) -> Policy | None:
        """Return the policy that an `endorse` step names; of several with one name, what all of them say."""
        found = [policy for policy in self._given if policy.name == name]
        if len(found) > 1:
            return Policy(
                name, "*", "*", lambda value, labels: _strictest(each.judge(value, labels) for each in found)
            )
        if not found and name == KNOWN and self._has_defaults:
            return _KNOWN_ONLY
        return found[0] if found else None

    def is_about(self, tool: str) -> bool:
        """Whether a policy of the user is about a tool."""
        return any(fnmatchcase(tool, policy.tool) for policy in self._given)

    def judge(self, tool: str, argument: str, value: Json, labels: ValueLabels) -> Opinion | None:
        """Return the opinion about an argument; `None`: nobody has one.

        Args:
            tool: Name of the tool.
            argument: Name of the argument.
            value: Its value in this call.
            labels: What is known of the value.
        """
        # All policies are asked, also after the first opinion: a later one may be stricter, and the order in which a user writes them decides nothing.
        found: dict[Verdict, str] = {}
        for policy in self._given:
            if policy.is_about(tool, argument) and (verdict := policy.judge(value, labels)) is not None:
                found.setdefault(verdict, policy.name)
        if (strictest := _strictest(found)) is not None:
            return Opinion(strictest, found[strictest])
        if not self._has_defaults or not labels.untrusted:
            return None
        # A selected value is one element of a trusted list. The check cannot tell lists from texts everywhere, so the value has to be there as a whole.
        if labels.fits in (OPTION, HARMLESS) or (labels.fits == SELECTED and labels.known):
            return Opinion("allow", labels.fits)
        return Opinion("allow", KNOWN) if labels.known and _is_telling(value) else None


def _strictest(verdicts: Iterable[Verdict | None]) -> Verdict | None:
    """Return the verdict that wins: deny beats ask, and ask beats allow; `None`: nobody has an opinion."""
    found = set(verdicts)
    return next((verdict for verdict in ("deny", "ask", "allow") if verdict in found), None)


def _looks_like_a_name(text: str) -> bool:
    return any(character.isupper() or character.isdigit() or character == "@" for character in text)


def _is_telling(value: Json) -> bool:
    """Whether a value that equals a known one does so on purpose: truth values and small numbers stand everywhere."""
    return isinstance(value, str) and bool(value.strip())


_KNOWN_ONLY: Final = Policy(
    KNOWN,
    "*",
    "*",
    lambda value, labels: "allow" if not labels.untrusted or (labels.known and _is_telling(value)) else None,
)
"""The default rule about known values, as an `endorse` step may name it."""


def fits_of(signatures: Sequence[Signature], argument: str, *, is_selected: bool) -> str | None:
    """Return the default rule that an argument fits by every signature of its tool: as it was locked, and as it is now."""
    found = {fitting_rule(each, argument) for each in signatures}
    if len(found) == 1 and (rule := found.pop()) is not None:
        return rule
    return SELECTED if is_selected else None


# --- known values


class KnownValues:
    """The values of a run that untrusted data did not derive: of its task, inputs, plan and trusted results.

    Args:
        header: The header of the run, which has a plan.
        lock: Its tools, of which those count as untrusted that are so now.
        code_of: Finds the code of a call's step, with the labels by this lock.
    """

    def __init__(self, header: Header, lock: ToolsetLock, code_of: Callable[[Iteration], StepCode]) -> None:
        self._header = header
        self._lock = lock
        self._code_of = code_of
        self._task = _trusted_words(header)
        self._words: dict[str, bool] = {}
        # By canonical bytes, so that equal values are one entry whatever their Python types; made when the first labelled call asks.
        self._given: set[bytes] | None = None
        self._results: dict[str, frozenset[bytes]] = {}

    def has(self, value: Json, iteration: Iteration) -> bool:
        """Whether a value is known as a whole to the call of an iteration."""
        key = canonical(value)
        if self._given is None:
            self._given = set(self._find_given())
        if key in self._given or (isinstance(value, str) and self._is_in_task(value)):
            return True
        node = iteration.item.node
        if node.path not in self._results:
            self._results[node.path] = frozenset(self._find_results(node))
        return key in self._results[node.path]

    def _is_in_task(self, text: str) -> bool:
        """Whether a text stands in the task, not as a part of a longer word."""
        if len(text) < WORD_CHARACTERS_MIN:
            return False
        if text not in self._words:
            # An address must not be found inside another one: `ann@example.org` is no part of `joann@example.org.uk`.
            # A plain word of a sentence says nothing: it has to look like a name, a number or an address, or stand in quotes.
            word = re.escape(text)
            pattern = (
                rf"(?<![\w@.+-]){word}(?![\w@+-]|\.\w)" if _looks_like_a_name(text) else rf"([\"'`]){word}\1"
            )
            self._words[text] = re.search(pattern, self._task) is not None
        return self._words[text]

    def _find_given(self) -> Iterator[bytes]:
        """Yield the values of the trusted inputs, and the arguments that the plan writes down as a whole."""
        header = self._header
        if header.plan is None:
            return
        for name, value in header.inputs.items():
            if not is_untrusted(header.plan.inputs.get(name, {})):
                yield from _parts(value)
        for plan in (header.plan, *header.plans.values()):
            for steps in (plan.steps, *(inner.steps for inner in plan.plans.values())):
                for step in steps:
                    # A list or an object that the plan writes down is a list of options, of which untrusted data would choose.
                    for value in step.args.values() if isinstance(step, ToolStep) else ():
                        if not isinstance(value, list | dict) and "${" not in str(value):
                            yield canonical(value)

    def _find_results(self, node: Node) -> Iterator[bytes]:
        """Yield the parts of the trusted results that a step has waited for."""
        # Results of other steps may be there or not: the verdict would depend on which of two calls was faster.
        left, frames = KNOWN_BYTES_MAX, [at.frame for at in _around(node)]
        for iteration in _waited_for(node):
            # What decides whether a plan runs decides nothing about what one of its steps finds of another.
            is_beside = any(iteration.item.node.frame is frame for frame in frames)
            if iteration.output is not None and left > 0 and self._is_trusted(iteration, is_beside=is_beside):
                left -= len(iteration.output.data)
                yield from _parts(iteration.output.value)

    def _is_trusted(self, iteration: Iteration, *, is_beside: bool) -> bool:
        action, code = iteration.item.node.code.action, self._code_of(iteration)
        is_controlled = code.controlled_inside if is_beside else code.controlled
        if not isinstance(action, CallTool) or code.tainted or is_controlled or code.reads_untrusted:
            return False
        if isinstance(code.action, RunAgent | RunPlanned) and (
            code.action.is_tainted or code.action.is_controlled
        ):
            return False
        tool = self._lock.find(action.tool)
        return tool is not None and tool.trust == "trusted" and tool.effect is not Effect.MODEL


def _trusted_words(header: Header) -> str:
    """Return the words of the task without the values of untrusted inputs, which a saved plan reads out of these words."""
    words, plan = header.task or "", header.plan
    if plan is None:
        return words
    given = [value for name, value in header.inputs.items() if is_untrusted(plan.inputs.get(name, {}))]
    texts = {text for value in given for text in _texts(value)}
    # The longest first, since a text may be a part of another one. A space would make new words of what is left of an address.
    for text in sorted(texts, key=len, reverse=True):
        words = words.replace(text, "_")
    return words


def _texts(value: Json) -> Iterator[str]:
    """Yield the texts of a value, and its other parts as they are written in words."""
    for part in _parts(value):
        text = parse_canonical(part)
        if text != "":
            yield text if isinstance(text, str) else part.decode()


def _waited_for(node: Node) -> Iterator[Iteration]:
    """Yield the iterations of the steps that a step, or a step around it, has waited for, directly or through others."""
    for at in _around(node):
        frame = at.frame
        waiting, seen = [at.code.position], {at.code.position}
        while waiting:
            code = frame.program.steps[waiting.pop()]
            for position in {*code.needs, *code.needs_when, *code.after} - seen:
                seen.add(position)
                waiting.append(position)
                yield from _below(frame.nodes[position])


def _around(node: Node) -> Iterator[Node]:
    """Yield a step and the steps around it."""
    at: Node | None = node
    while at is not None:
        yield at
        at = None if at.frame.owner is None else at.frame.owner.item.node


def _below(node: Node) -> Iterator[Iteration]:
    """Yield the iterations of a step and of all steps inside it."""
    waiting = [node]
    while waiting:
        for item in (at := waiting.pop()).items or (at,):
            for iteration in item.iterations or (item,):
                yield iteration
                for frame in iteration.frames:
                    waiting += frame.nodes


def _parts(value: Json) -> Iterator[bytes]:
    """Yield the parts of a value that hold no others."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case dict() as fields:
                waiting += fields.values()
            case list() as items:
                waiting += items
            case leaf:
                yield canonical(leaf)
