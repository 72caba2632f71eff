"""Arguments of the front door, each looked at by itself: names of runs and steps, words, counts, files, who decides.

What is none of these is told in one sentence, before anything is looked up or stored. What has to fit a plan is `request.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar, cast

from ...errors import ConfigError, InputRejected, RunNotFound
from ...plans.format.shape import describe
from ...plans.values import Json
from ..stores.store import REPLAY

Value = TypeVar("Value")

COUNT_MAX: Final = 2**63 - 1  # the largest integer of JSON and of stores
REPLANS_MAX: Final = 20  # patches of one plan: a plan that needs more is another plan
LEASE_S_MIN: Final = 1.0  # an owner renews it six times in that time, and timers strike a moment late
LEASE_S_MAX: Final = 3600.0  # for so long nobody takes over what a dead machine left
RUN_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def run_of(run_id: object) -> str:
    """Return the id of a run. Raises: RunNotFound: no run can have it."""
    if not isinstance(run_id, str):
        raise RunNotFound(f"expected the id of a run, found {describe(run_id)}; `firmplan runs` lists them")
    if "\0" in run_id or not _is_writable(run_id):  # stores cannot even look for it
        raise RunNotFound(f"there is no run of that name: {describe(run_id)}; `firmplan runs` lists them")
    return run_id


def runs_of(run_ids: object) -> Sequence[str]:
    """Return ids of runs. Raises: InputRejected: they are no list; RunNotFound: no run can have one of them."""
    if not isinstance(run_ids, list | tuple):
        raise InputRejected(f"expected a list of ids of runs, found {describe(run_ids)}")
    return [run_of(each) for each in cast("Sequence[object]", run_ids)]


def step_of(step: object) -> str:
    """Return the path of a step. Raises: InputRejected: it is no text."""
    if not isinstance(step, str):
        raise InputRejected(f"expected the path of a step, such as 'pay' or 'pay[0]', found {describe(step)}")
    return step


def words_of(given: object) -> str:
    """Return a task's words. Raises: InputRejected: there are none, or they are the name of a file."""
    if not isinstance(given, str) or not given.strip():
        found = "nothing" if isinstance(given, str) else describe(given)
        raise InputRejected(f"a task: expected words, found {found}; a plan is a Plan or a dict")
    if not _is_writable(given):
        raise InputRejected(f"a task: expected words, found text with a lone surrogate: {given!r:.80}")
    if given.strip().lower().endswith((".yaml", ".yml", ".json")) and len(given.split()) == 1:
        raise InputRejected(
            f"a task: expected words, found the name of a file; write: Plan.load({given.strip()!r})"
        )
    return given


def values_of(what: str, given: Mapping[str, Value] | None, kind: str = "values") -> Mapping[str, Value]:
    """Return values by name, none for `None`. Raises: InputRejected: they are none."""
    if given is None:
        return {}
    if not isinstance(cast("object", given), Mapping):
        raise InputRejected(f"{what}: expected an object of {kind} by name, found {describe(given)}")
    names = cast("Mapping[object, Value]", given)
    for name in names:
        if not isinstance(name, str):
            raise InputRejected(f"{what}: expected names that are text, found {describe(name)}")
    return given


def count_of(what: str, given: object, *, least: int = 0, most: int = COUNT_MAX) -> int:
    """Return a whole number. Raises: InputRejected: it is none, or is out of its range."""
    if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
        bounds = f"of at least {least}" if most == COUNT_MAX else f"from {least} to {most}"
        raise InputRejected(f"{what}: expected an integer {bounds}, found {describe(given)}")
    return given


def file_of(given: str | os.PathLike[str]) -> Path:
    """Return the path of a file. Raises: InputRejected: no file can have that name."""
    try:
        name = os.fspath(given)
    except TypeError:
        raise InputRejected(f"expected the path of a file, found {describe(given)}") from None
    if not isinstance(cast("object", name), str):
        raise InputRejected(f"expected the path of a file as text, found {describe(given)}")
    if not Path(name).name or "\0" in name or not _is_writable(name, os.fsencode):
        raise InputRejected(f"expected the path of a file, found {describe(name)}, which can be none")
    return Path(name)


def person_of(by: object) -> str:
    """Return who decides. Raises: InputRejected: nobody is named."""
    if not isinstance(by, str) or not by.strip() or not _is_writable(by):
        raise InputRejected(f"by: expected the name of who decides, found {describe(by)}")
    return by


def reason_of(what: str, given: object) -> str:
    """Return why somebody decided so, nothing for `None`. Raises: InputRejected: it is no text."""
    if given is None:
        return ""
    if not isinstance(given, str) or not _is_writable(given):
        wanted = "the name of who decides" if what == "by" else "words that say why"
        raise InputRejected(f"{what}: expected {wanted}, found {describe(given)}")
    return given


def attempt_of(attempt: object) -> int | None:
    """Return the attempt that the decision is about, `None` for the attempt that waits now. Raises: InputRejected: the value is no count."""
    return None if attempt is None else count_of("attempt", attempt, least=1)


def decisions_of(given: Mapping[str, Value]) -> Mapping[str, Value]:
    """Return decisions by path. Raises: InputRejected: the value is empty, or no object."""
    found = values_of("decisions", given, "decisions")
    if not found:
        raise InputRejected('decisions: expected at least one, such as {"pay[0]": "approve"}, found none')
    return found


def edit_of(edit: Mapping[str, Json] | None) -> Mapping[str, Json] | None:
    """Return edited arguments by name. Raises: InputRejected: they are none."""
    return None if edit is None else values_of("edit", edit, "arguments")


def new_id_of(what: str, given: object) -> str | None:
    """Return the id for a new run, `None` if the engine chooses it. Raises: InputRejected: the id is not valid."""
    if given is not None and not (isinstance(given, str) and RUN_ID.fullmatch(given)):
        raise InputRejected(f"{what}: expected text of 1 to 128 of A-Z a-z 0-9 . _ : -, found {given!r:.200}")
    return given


def child_id_of(given: object) -> str | None:
    """Return the id for a fork or retry, as `new_id_of` does. Raises: InputRejected: also for an id of a kept replay."""
    found = new_id_of("run_id_new", given)
    if found is not None and found.startswith(REPLAY):
        raise InputRejected(
            f"run_id_new: expected an id that does not begin with '{REPLAY}', as those of kept replays do, found {found!r}"
        )
    return found


def concurrency_of(given: object) -> int:
    """Return a limit on calls at a time. Raises: ConfigError."""
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= COUNT_MAX:
        raise ConfigError(f"max_concurrency: expected an integer of at least 1, found {given!r:.80}")
    return given


def lease_of(given: object) -> float:
    """Return the length of a lease in seconds. Raises: ConfigError."""
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not LEASE_S_MIN <= cast("float", given) <= LEASE_S_MAX:
        raise ConfigError(
            f"lease: expected a number of seconds from {LEASE_S_MIN:g} to {LEASE_S_MAX:g}, found {given!r:.80}"
        )
    return float(cast("float", given))


def take_over_of(given: object) -> bool:
    """Return whether a run is taken over by force. Raises: InputRejected."""
    if not isinstance(given, bool):
        raise InputRejected(f"take_over: expected true or false, found {describe(given)}")
    return given


def park_after_of(given: object) -> int:
    """Return after how many deaths of its process a run is parked. Raises: ConfigError."""
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= COUNT_MAX:
        raise ConfigError(f"park_after: expected an integer of at least 1, found {given!r:.80}")
    return given


def seed_of(given: object) -> str:
    """Return a seed as text, empty for `None`. Raises: ConfigError: it is neither text nor an integer."""
    if given is None:
        return ""
    is_text = isinstance(given, str) and _is_writable(given)
    if not is_text and (not isinstance(given, int) or isinstance(given, bool)):
        raise ConfigError(f"seed: expected text or an integer, found {describe(given)}")
    return str(given)


def secrets_of(given: Mapping[str, str]) -> Mapping[str, str]:
    """Return secrets by name, as they were given. Raises: ConfigError: they are none; the message shows no value."""
    if not hasattr(given, "get"):
        raise ConfigError(f"secrets: expected secrets by name, found {type(given).__name__}")
    if isinstance(cast("object", given), Mapping):
        for name, secret in cast("Mapping[object, object]", given).items():
            if not isinstance(name, str) or not _is_writable(name):
                raise ConfigError(f"secrets: expected names that are text, found {describe(name)}")
            if secret is not None and (not isinstance(secret, str) or not _is_writable(secret)):
                what = "half a character in it" if isinstance(secret, str) else type(secret).__name__
                raise ConfigError(f"secrets: '{name}': expected text, found {what}")
    return given


def times_of(replan: object) -> int:
    """Return how often a plan may be patched. Raises: ConfigError."""
    if not isinstance(replan, int) or isinstance(replan, bool) or not 0 <= replan <= REPLANS_MAX:
        raise ConfigError(f"replan: expected an integer from 0 to {REPLANS_MAX}, found {describe(replan)}")
    return replan


def _is_writable(text: str, encode: Callable[[str], bytes] = str.encode) -> bool:
    """Whether a text can be written down: one with lone surrogates cannot."""
    try:
        encode(text)
    except UnicodeEncodeError:
        return False
    return True
