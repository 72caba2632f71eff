"""Calls that have vanished: a tool has cancelled the task that it ran in, and so left neither a result nor an error.

A cancel looks the same whoever asked for it. So this is seen only once nothing of the run is under way any more: a call that is
still running as far as the machine knows has vanished.
"""

from __future__ import annotations

from ...errors import ConfigError
from ..machine import Machine


def expect_outcomes(machine: Machine) -> None:
    """Raise where a call has vanished from a run that is not being driven any more. Raises: ConfigError."""
    if machine.status is not None or machine.is_stuck():
        return
    step = next((step for step in machine.turns if machine.is_running(step)), "")
    raise ConfigError(
        f"the call of step '{step}' left no outcome: its tool '{machine.tool_of(step)}' has cancelled the task that called "
        "it; let it cancel tasks of its own only, or give it a timeout, which gives its calls a task of their own"
    )
