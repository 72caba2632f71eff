"""References by name: `p.steps.weather`, or `p.steps["weather"]` where a name is also a method's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from typing_extensions import override

from ..nearest import did_you_mean, listing
from .reference import Reference


class Handles(Mapping[str, Reference]):
    """The steps, or the inputs, of a plan that is being built; editors complete their names."""

    __slots__ = ("_names", "_of", "_what")

    def __init__(self, what: str, names: Iterable[str], of: Callable[[str], Reference]) -> None:
        """Take the names, in the plan's order, and what makes a reference of one."""
        self._what = what
        self._names = dict.fromkeys(names)
        self._of = of

    def __getattr__(self, name: str) -> Reference:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as missing:
            raise AttributeError(missing.args[0]) from None

    @override
    def __getitem__(self, name: str) -> Reference:
        if name not in self._names:
            hint = did_you_mean(name, self._names)
            raise KeyError(
                f"expected a {self._what} of the plan ({listing(self._names)}), found '{name}'"
                + (f": {hint}" if hint else "")
            )
        return self._of(name)

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    @override
    def __len__(self) -> int:
        return len(self._names)

    @override
    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._names]

    @override
    def __repr__(self) -> str:
        return f"<{self._what}s {listing(self._names)}>"
