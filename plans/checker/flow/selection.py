"""Arguments that untrusted data may choose, but cannot make up: the default rules of the information flow.

A value that untrusted data derives may stand at an argument of a write where it cannot choose a harm:

- `selected`: the argument is one element of a trusted list, or a field of one. Untrusted data picks it, by an index, a filter or a condition. A trusted
  list comes from a trusted tool or an input. An input of an inner plan is what its callers pass to it. A list that the plan writes down, and `range`, are none: a filter over all numbers picks any number.
- `option`: the schema of the argument lists its values (`enum`, `const`), so the tool's author did.
- `harmless`: the tool's author marked the argument, whose type is narrow.

The value has to be the whole argument. An operand of a larger expression could spell any value out of harmless parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeAlias

from ...expressions import nodes
from ...expressions.nodes import Node
from ...expressions.template import Leaf
from ...immutable import immutable
from ...plan import PlanStep, SetStep, ToolStep
from ...signature import Effect, Signature, has_options
from ..templates import Template

if TYPE_CHECKING:
    from ...signature import Signatures
    from .labels import Labels

SELECTED, OPTION, HARMLESS = "selected", "option", "harmless"

FlowRules: TypeAlias = "Callable[[str, str, str | None], str | None]"
"""Tool, argument, and the default rule that the argument fits -> the name of the rule that admits untrusted data there, or decides about it when the call is made; `None`: there is none."""

DEPTH_MAX = 20
"""Steps and sub-expressions through which a selection is followed; past that it is none."""


def default_rules(tool: str, argument: str, fits: str | None) -> str | None:
    """Return the default rule that admits untrusted data at an argument.

    Args:
        tool: The tool.
        argument: Its argument.
        fits: The default rule that the argument fits; `None`: none.
    """
    del tool, argument
    return fits


def fitting_rule(tool: Signature, argument: str) -> str | None:
    """Return the default rule that an argument fits by its declaration alone."""
    if argument in tool.harmless:
        return HARMLESS
    return OPTION if has_options(tool.parameters, argument) else None


class _Kind(Enum):
    """What an expression is made of.

    `TRUSTED` is a value as a trusted tool or an input gave it, or a part of it; `OPTIONS` a list of such values, which untrusted data may have
    shortened or ordered; `OPTION` one of them.
    """

    OTHER = auto()
    TRUSTED = auto()
    OPTIONS = auto()
    OPTION = auto()


Kinds: TypeAlias = Mapping[str, _Kind]
"""The kinds of the inputs of an inner plan."""

_LISTS = (_Kind.TRUSTED, _Kind.OPTIONS)
_VALUES = (_Kind.TRUSTED, _Kind.OPTION)


class Selection:
    """Finds the arguments of a body that are selected from trusted lists.

    Args:
        labels: The labels of the body.
        tools: The tools: whose results are trusted.
        untrusted: The label bits that stand for untrusted data.
        inputs: Of an inner plan: the kinds of its inputs (`inputs_of`); `None`: it is the plan itself.
    """

    def __init__(
        self, labels: Labels, tools: Signatures, untrusted: int, inputs: Kinds | None = None
    ) -> None:
        self._labels = labels
        self._tools = tools
        self._untrusted = untrusted
        self._inputs = inputs
        # A step that many others mention is looked at once: looking again for each mention would take exponential time.
        self._steps: dict[int, _Kind] = {}

    def is_selected(self, position: int, argument: str) -> bool:
        """Whether an argument of a `tool` step is one element of a trusted list."""
        step = self._labels.body.steps[position]
        if not isinstance(step, ToolStep) or argument not in step.args:
            return False
        return self.kind(step.templates["args"].part(argument), position) in _VALUES

    def kind(self, template: Template, position: int) -> _Kind:
        """Return the kind of one value of a step."""
        return self._template(template, position, 0)

    def _template(self, template: Template | None, position: int | None, depth: int) -> _Kind:
        tree = None if template is None else template.formula.tree
        whole = tree.whole if isinstance(tree, Leaf) else None
        node = None if whole is None else whole.parsed.node
        return _Kind.OTHER if node is None else self._node(node, position, {}, depth + 1)

    def _node(  # noqa: C901, PLR0911, PLR0912  # a table of the kinds of nodes
        self, node: Node, position: int | None, options: Mapping[int, _Kind], depth: int
    ) -> _Kind:
        """Return the kind of an expression.

        Args:
            node: The expression.
            position: Its step; `None`: the output.
            options: The kinds of the loop names around it, by slot.
            depth: How many steps and expressions lead to it.
        """
        if depth > DEPTH_MAX:
            return _Kind.OTHER

        def kind(inner: Node) -> _Kind:
            return self._node(inner, position, options, depth + 1)

        match node:
            case nodes.Local(slot=slot):
                return options.get(slot, _Kind.OTHER)
            case nodes.Name(name="item") if position is not None:
                return self._item(position, depth)
            case nodes.Name(name=name):
                other = self._labels.body.position.get(name)
                return _Kind.OTHER if other is None else self._step(other, depth)
            case nodes.Field(base=nodes.Name(name="inputs"), name=name):
                return self._input(name)
            case nodes.Index(base=nodes.Name(name="inputs"), key=nodes.Literal(value=str() as name)):
                return self._input(name)
            case nodes.Field(base=base):
                return _part(kind(base))
            case nodes.Index(base=base, key=key):
                return _element(kind(base), is_constant=isinstance(key, nodes.Literal))
            case nodes.Slice(base=base):
                return _Kind.OPTIONS if kind(base) in _LISTS else _Kind.OTHER
            case nodes.Condition(then=then, otherwise=otherwise):
                return _joined([kind(then), kind(otherwise)])
            case nodes.Logic(operands=operands):
                return _joined([kind(each) for each in operands])
            case nodes.Call():
                return self._call(node, [kind(each) for each in node.arguments])
            case nodes.Comprehension():
                return self._comprehension(node, position, options, depth)
            case _:
                return _Kind.OTHER

    def _call(self, node: nodes.Call, kinds: list[_Kind]) -> _Kind:
        match node.function:
            case "first":
                return _joined(kinds)
            case "min" | "max" if len(kinds) == 1 and kinds[0] in _LISTS:
                return _Kind.OPTION
            case "sorted" | "reversed" | "distinct" | "unique_by" | "flatten" | "values" | "keys" if (
                kinds[0] in _LISTS
            ):
                return _Kind.OPTIONS
            case _:
                return _Kind.OTHER

    def _comprehension(
        self, node: nodes.Comprehension, position: int | None, options: Mapping[int, _Kind], depth: int
    ) -> _Kind:
        """Return the kind of `[x for x in options if ..]`, whose elements may also be fields of the options."""
        if node.value is not None or len(node.clauses) != 1 or len(node.clauses[0].targets) != 1:
            return _Kind.OTHER
        clause = node.clauses[0]
        if self._node(clause.iterable, position, options, depth + 1) not in _LISTS:
            return _Kind.OTHER
        inner = {**options, clause.targets[0].slot: _Kind.OPTION}
        element = self._node(node.element, position, inner, depth + 1)
        return _Kind.OPTIONS if element in _VALUES else _Kind.OTHER

    def _item(self, position: int, depth: int) -> _Kind:
        templates = self._labels.body.steps[position].templates
        listed = self._template(templates.get("for_each"), position, depth)
        return _Kind.OPTION if listed in _LISTS else _Kind.OTHER

    def _input(self, name: str) -> _Kind:
        labels = self._labels
        if name not in labels.inputs:
            return _Kind.OTHER
        if self._inputs is not None:
            # What a caller passes on may be labelled and still be an option: an item that a filter let pass.
            is_declared, kind = (
                labels.inputs[name] & ~labels.bits.get(name, 0),
                self._inputs.get(name, _Kind.OTHER),
            )
            if is_declared & self._untrusted:
                return _Kind.OTHER
        else:
            kind = _Kind.OTHER if labels.inputs[name] & self._untrusted else _Kind.TRUSTED
        # A text is no list of options: its characters could spell anything.
        is_text = labels.body.inputs[name].get("type") == "string"
        return _as_text(kind) if is_text else kind

    def _step(self, position: int, depth: int) -> _Kind:
        if position not in self._steps:
            # Steps may wait for one another in a circle; such a plan is refused.
            self._steps[position] = _Kind.OTHER
            self._steps[position] = self._kind_of_step(position, depth)
        return self._steps[position]

    def _kind_of_step(self, position: int, depth: int) -> _Kind:
        labels, step = self._labels, self._labels.body.steps[position]
        if step.on_error != "fail" or step.repeat is not None:
            return _Kind.OTHER
        match step:
            case ToolStep(tool=name):
                tool = self._tools.find(name)
                # What a model answers is made up.
                label = labels.values[position] | labels.sent(step.templates["args"], position)
                if tool is None or tool.effect is Effect.MODEL or label & self._untrusted:
                    return _Kind.OTHER
                is_text = tool.returns is not None and tool.returns.get("type") == "string"
                return _Kind.OPTION if is_text else _Kind.TRUSTED
            case SetStep():
                value = self._template(step.templates["set"], position, depth)
                if "for_each" not in step.templates:
                    return value
                return _Kind.OPTIONS if value in _VALUES else _Kind.OTHER
            case _:
                return _Kind.OTHER


def _part(kind: _Kind) -> _Kind:
    """Return the kind of `value.field`."""
    return kind if kind in _VALUES else _Kind.OTHER


def _element(kind: _Kind, *, is_constant: bool) -> _Kind:
    """Return the kind of `value[key]`."""
    if kind in _LISTS:
        return _Kind.TRUSTED if kind is _Kind.TRUSTED and is_constant else _Kind.OPTION
    # An option may be a text, of which a computed index would pick a character.
    return kind if kind is _Kind.OPTION and is_constant else _Kind.OTHER


def _as_text(kind: _Kind) -> _Kind:
    """Return the kind of a text."""
    return _Kind.OPTION if kind in _VALUES else _Kind.OTHER


def _joined(kinds: list[_Kind]) -> _Kind:
    """Return the kind of a value that is one of several."""
    if all(kind in _VALUES for kind in kinds):
        return _Kind.OPTION
    return _Kind.OPTIONS if all(kind in _LISTS for kind in kinds) else _Kind.OTHER


@immutable
class Passed:
    """What the callers of an inner plan pass to it, all together.

    Attributes:
        untrusted: The label bits that stand for untrusted or private data for one of them.
        inputs: Input -> the weakest kind that one of them passes; `None`: it is the plan itself, or nobody calls it.
    """

    untrusted: int = ~0
    inputs: Kinds | None = None


def passed_to(every: Sequence[Labels], order: Sequence[int], tools: Signatures) -> list[Passed]:
    """Return, for each body, what its callers pass to it. O(their steps and references).

    Args:
        every: The labels of each body.
        order: The numbers of the bodies, each after those that it runs.
        tools: The tools: whose results are trusted.
    """
    found = [Passed()] * len(every)
    for number in reversed(order):  # callers before the bodies that they run
        labels, given = every[number], found[number]
        selection = Selection(labels, tools, given.untrusted, given.inputs)
        for position, called in labels.body.calls.items():
            step = labels.body.steps[position]
            if not isinstance(step, PlanStep):
                continue
            untrusted = 0
            for bit, label in labels.translation(position).items():
                untrusted |= bit if label & given.untrusted else 0
            # An input that is not given has its default, which the plan writes down.
            args = step.templates["args"]
            kinds = {name: selection.kind(args.part(name), position) for name in step.args}
            before = found[called]
            if before.inputs is not None:
                untrusted |= before.untrusted
                kinds = {
                    name: _weaker(kinds[name], kind) for name, kind in before.inputs.items() if name in kinds
                }
            found[called] = Passed(untrusted, kinds)
    return found


def _weaker(one: _Kind, other: _Kind) -> _Kind:
    return one if one is other else _joined([one, other])
