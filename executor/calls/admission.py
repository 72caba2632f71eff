"""From what the machine asks for to a call that is ready to be made, or to the event that comes in its place.

Of a fork, the parent may answer; untrusted data, or a tool that has become stricter, may stand against the call; its arguments
may not fit. What is left is prepared. Whether an earlier result stands for it is `results.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from ...errors import ToolError
from ..commands import RuleApproval
from ..events import ApprovalRuled, CallFailed, CallReused
from .prepared import PreparedCall, StartCall

if TYPE_CHECKING:
    from ..machine import Machine
    from .clearance import Clearance
    from .prepared import Preparation
    from .results import Results

Instead: TypeAlias = ApprovalRuled | CallReused | CallFailed
"""An event that comes in the place of a call."""


class Admission:
    """Admits the calls of one run.

    Args:
        machine: The run's.
        results: What stands for its calls.
        clearance: What stands against them.
        preparation: Binds and names them.
    """

    def __init__(
        self, machine: Machine, results: Results, clearance: Clearance, preparation: Preparation
    ) -> None:
        self._machine = machine
        self._results = results
        self._clearance = clearance
        self._preparation = preparation

    def admit(self, command: StartCall) -> PreparedCall | Instead | RuleApproval | None:
        """Return the call, ready to be made, or what comes in its place; `None`: it is not wanted any more."""
        if self._results.has_parent and (inherited := self._results.of_parent(command)) is not None:
            return inherited
        if (objection := self._clearance.find_objection(command, self._machine)) is not None:
            return objection
        try:
            return self._preparation.prepare(command)
        except ToolError as fault:
            if not self._machine.is_callable(command.step):
                return None
            message = self._preparation.without_secrets(command, str(fault))
            return CallFailed(command.step, fault.code, message, fault.temporary)
