"""Laws of declarations: what may be said of a tool, what it defaults to, and how a mistake is told."""

import inspect
import math
from datetime import timedelta

import pytest
from firmplan import ConfigError, Tool, ToolError, Toolset, tool
from firmplan.executor.journal.toolset_lock import ToolLock, digest_of_toolset
from firmplan.plans.signature import Effect


def f(x: int) -> int:
    """Return x."""
    return x


def test_an_undeclared_effect_is_write():
    """Forgetting the label may cost speed, never a duplicate payment."""
    assert tool(f).effect is Effect.WRITE
    assert tool()(f).effect == "write"
    assert not tool(f).is_effect_declared
    assert tool(f, effect="write").is_effect_declared


def test_defaults_are_the_contracts():
    """A bare `@tool` is trusted, touches the world, is not retried, not reused, asks nobody, and runs in a thread."""
    found = tool(f)
    assert (found.name, found.description) == ("f", "Return x.")
    assert (found.idempotent, found.reuse_for_s, found.version, found.timeout_s) == (False, None, None, None)
    assert (found.retries, found.retry_on, found.max_concurrency, found.rate) == (0, None, None, None)
    assert (found.approval, found.asks_approval, found.trust, found.resource) == (
        None,
        False,
        "trusted",
        "world",
    )
    assert (found.allow_untrusted, found.isolation, found.can_reconcile) == ((), "thread", False)


def test_the_keywords_are_the_contracts():
    """`tool` takes exactly the keywords of the contract, with its defaults."""
    given = {name: each.default for name, each in inspect.signature(tool).parameters.items()}
    assert given == {
        "fn": None, "name": None, "description": None, "effect": "write", "idempotent": False, "reuse_for": None,
        "version": None, "timeout": None, "retries": 0, "retry_on": None, "max_concurrency": None, "rate": None,
        "approval": None, "trust": "trusted", "resource": "world", "allow_untrusted": (), "isolation": "thread",
        "private": False, "readers": (), "egress": (), "harmless": (), "approval_expires": None,
        "reconcile": None, "fingerprint_extra": None, "guard": (), "results": None, "example": None,
        "queue": None,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a", "_a", "send-mail.v2", "A" * 128])
def test_names_that_may_be_given(name):
    """A letter or underscore, then up to 127 letters, digits, underscores, dots and dashes."""
    assert tool(f, name=name).name == name


@pytest.mark.parametrize("name", ["2a", "a b", "-a", "A" * 129, "ä", "a\n", 3])
def test_names_that_may_not_be_given(name):
    """Every other name is a ConfigError that says what a name is."""
    with pytest.raises(ConfigError, match=r"name: expected a letter or `_`"):
        tool(f, name=name)


@pytest.mark.parametrize("effect", ["pure", "model", "write"])
def test_reuse_for_belongs_to_reads(effect):
    """`reuse_for` on a tool that is not a read is a ConfigError that names the effect."""
    with pytest.raises(
        ConfigError, match=f'reuse_for: expected a tool with effect="read", found effect="{effect}"'
    ):
        tool(f, effect=effect, reuse_for="1h")


@pytest.mark.parametrize("effect", ["pure", "read", "model"])
def test_reconcile_belongs_to_writes(effect):
    """Only a write can be in doubt."""
    with pytest.raises(ConfigError, match="reconcile"):
        tool(f, effect=effect, reconcile=lambda key, args: None)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("1h", 3600),
        ("90s", 90),
        ("1h30m", 5400),
        (10, 10),
        (0.5, 0.5),
        ("7d", 604800),
        (timedelta(minutes=2), 120),
        ("forever", math.inf),
    ],
)
def test_durations_may_be_written_in_many_ways(given, seconds):
    """Text, numbers of seconds and timedeltas are durations; `"forever"` has no end."""
    assert tool(f, effect="read", reuse_for=given).reuse_for_s == seconds


@pytest.mark.parametrize(("given", "per_second"), [("10/s", 10), ("120/min", 2), (5, 5), ("1/2s", 0.5)])
def test_rates_may_be_written_in_many_ways(given, per_second):
    """Rates are calls a second."""
    assert tool(f, rate=given).rate == per_second


WRONG = {
    "effect": ("reads", "did you mean 'read'"),
    "reuse_for": ("soon", "1h"),
    "timeout": (0, "more than zero"),
    "retries": (-1, "from 0"),
    "retry_on": ("ValueError", "exception classes"),
    "max_concurrency": (0, "at least 1"),
    "rate": ("fast", "10/s"),
    "approval": ("sometimes", '"always", "untrusted"'),
    "trust": ("maybe", '"trusted", "untrusted"'),
    "resource": ("", "not empty"),
    "allow_untrusted": (["y"], "found 'y'"),
    "isolation": ("fork", '"thread", "process", "inline"'),
    "idempotent": ("yes", "True or False"),
    "reconcile": ("ask", "function"),
    "fingerprint_extra": ({1, 2}, "JSON"),
    "version": ([1], "text or a number"),
    "description": ("half \ud800", "a text"),
    "queue": ("a queue", "the name of a queue"),
}


@pytest.mark.parametrize("key", WRONG)
def test_every_wrong_setting_is_one_clear_message(key):
    """A wrong value is a ConfigError with the tool, where it stands, the setting, what was expected and found."""
    value, hint = WRONG[key]
    options = {"effect": "read"} if key == "reuse_for" else {}
    with pytest.raises(ConfigError) as raised:
        tool(f, **{**options, key: value})
    message = str(raised.value)
    assert message.startswith("tool 'f' (")
    assert f"{key}: " in message
    assert hint in message
    assert "\n" not in message


@pytest.mark.parametrize("queue", ["gpu", "eu-west.1", "_", "9" * 128])
def test_a_queue_says_where_calls_run_and_nothing_else(queue):
    """It is no part of the fingerprint, nor of what runs rely on: a tool that moves to another queue repeats nothing."""
    here, there = (tool(f, effect="pure", queue=name) for name in (None, queue))
    assert there.queue == queue
    assert there.fingerprint == here.fingerprint
    assert ToolLock.of(there).to_dict() == ToolLock.of(here).to_dict()
    assert digest_of_toolset(Toolset([there])) == digest_of_toolset(Toolset([here]))


@pytest.mark.parametrize("queue", ["", "a/b", "-a", "a" * 129, "a\n", 3, ("gpu",)])
def test_queues_that_may_not_be_named(queue):
    """Every other name is a ConfigError; so is a queue for calls that are too short for a thread."""
    with pytest.raises(ConfigError, match="queue: expected the name of a queue, such as"):
        tool(f, queue=queue)
    with pytest.raises(ConfigError, match='queue: expected isolation="thread" or "process" beside it'):
        tool(f, queue="gpu", isolation="inline")


def test_an_empty_name_is_none():
    """It does not stand for the function's."""
    with pytest.raises(ConfigError, match="name: expected a letter"):
        tool(f, name="")


def test_an_unknown_setting_gets_the_nearest_known():
    """`Tool.from_callable` refuses settings that there are not."""
    with pytest.raises(ConfigError, match="unknown setting 'timeouts'; did you mean 'timeout'"):
        Tool.from_callable(lambda: 1, name="f", parameters={}, timeouts=3)


def test_what_is_retried():
    """By default temporary tool errors, timeouts and connection errors; else what `retry_on` says."""
    plain = tool(f, retries=1)
    assert plain.is_worth_retrying(ToolError("x", temporary=True))
    assert not plain.is_worth_retrying(ToolError("x"))
    assert plain.is_worth_retrying(TimeoutError())
    assert plain.is_worth_retrying(ConnectionResetError())
    assert not plain.is_worth_retrying(ValueError())
    assert tool(f, retry_on=ValueError).is_worth_retrying(ValueError())
    assert not tool(f, retry_on=[KeyError, ValueError]).is_worth_retrying(TimeoutError())
    assert tool(f, retry_on=lambda error: "again" in str(error)).is_worth_retrying(ValueError("again"))


def test_allow_untrusted_names_parameters():
    """Allowed parameters are those of the function; the context is none."""
    assert tool(f, allow_untrusted="x").allow_untrusted == ("x",)
    with pytest.raises(ConfigError, match=r"expected parameters of the tool \(x\), found 'z'"):
        tool(f, allow_untrusted=("z",))
