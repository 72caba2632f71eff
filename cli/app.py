"""The group of all commands, and the one place where errors become exit codes.

No command prints a traceback: an error is one message on stderr, or one document on stdout with `--json`. `--debug`, anywhere on the
line, shows the traceback. `command.py` says how a command is declared.
"""

from __future__ import annotations

import atexit
import errno
import gc
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import nullcontext, suppress
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_group

from ..errors import ConfigError
from .failure import exit_code, failure_document, failure_text
from .screen import (
    OutputError,
    answer,
    document,
    drop_unwritten,
    escape_log_lines,
    flush_streams,
    log_notes,
    note,
    open_closed_streams,
    stdout_for_the_document,
)

USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
"""The error of every misspelt command line; typer exports only a subclass of it."""

TYPER_WORDS = (
    ("Input should be a valid integer, unable to parse string as an integer", "expected an integer"),
    ("Input should be a valid number, unable to parse string as a number", "expected a number"),
    ("Input should be ", "expected a number "),
    ("Value error, ", ""),
)
"""Typer's messages about an option's value, and their replacements; typer has no setting for them."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a write to a full disk. typer and rich print without `screen`, so their errors arrive unchanged."""

TEMPORAL: Final = "temporalio.bridge"
"""The part of Temporal's SDK that has threads of its own."""

COMMANDS: Final[Mapping[str, Sequence[str]]] = {
    "run": ("run", "resume", "watch", "retry", "fork", "replay", "export", "artifacts"),
    "decide": ("approve", "answer", "deny", "decide", "resolve", "cancel"),
    "review": ("verify", "explain", "diff", "record", "bisect", "shadow"),
    "plans": ("plan", "learn", "check", "show", "plans", "tools"),
    "schedules": ("schedules",),
    "webhooks": ("webhooks",),
    "models": ("traffic", "export-training"),
    "evaluate": ("eval",),
    "host": ("serve", "worker", "demo", "mcp", "completion", "doctor"),
    "keys": ("keys",),
    "store": ("runs", "store", "cache"),
}
"""Module -> its commands, in the order of the help. A command line needs one of them, so only that module is imported; help needs all."""
HOMES: Final = {command: module for module, commands in COMMANDS.items() for command in commands}

EPILOG = "Exit codes: 0 succeeded, 1 failed, 2 wrong plan or command, 3 replay diverged, 4 waiting for a person or budget."


class Commands(TyperGroup):
    """The group, with firmplan's own way out for errors. A module of commands is imported when one of its commands is asked for."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401  # typer's own
        self._made: dict[str, Any] = {}
        super().__init__(**given)

    @property
    def commands(self) -> MutableMapping[str, Any]:
        """All commands, in the order of the help."""
        return {word: self._command(word) for word in HOMES}

    @commands.setter
    def commands(self, given: Mapping[str, Any]) -> None:
        assert not given, "each module of commands has its own"

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002  # typer's context and command
        """Return a command, or `None`."""
        return self._command(cmd_name) if cmd_name in HOMES else None

    def _command(self, word: str) -> Any:  # noqa: ANN401  # typer's command
        """Return a command. typer makes it on first use, and alone: a process asks for one, and a module has many."""
        if (found := self._made.get(word)) is None:
            declared = import_module(f".commands.{HOMES[word]}", __package__).commands.app
            alone = _typer()
            alone.registered_commands = [each for each in declared.registered_commands if each.name == word]
            alone.registered_groups = [each for each in declared.registered_groups if each.name == word]
            found = self._made[word] = get_group(alone).commands[word]
        return found

    def main(  # type: ignore[override]  # typer's own options, passed on as they come
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        **extra: Any,  # noqa: ANN401  # click's own signature
    ) -> Any:  # noqa: ANN401  # click's own signature
        """Run one command line; exit with its code, or return it where `standalone_mode` is false."""
        words = list(sys.argv[1:] if args is None else args)
        if "serve" in words and _is_log_json():
            log_notes()
        standalone = extra.pop("standalone_mode", True)
        try:
            code = _answer(
                lambda: super(Commands, self).main(
                    words, prog_name or "firmplan", standalone_mode=False, **extra
                ),
                words,
            )
        finally:
            if standalone:
                drop_unwritten()
        if standalone:
            sys.exit(code)
        return code

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401  # typer's context
        """Return the parameters without typer's options about completion, which guess the shell: `firmplan completion` is told it."""
        own = super().get_params(ctx)
        return [each for each in own if each.name not in ("install_completion", "show_completion")]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  # typer's context
        """Parse the line with `--debug` moved to the front, so that it may stand anywhere."""
        # typer takes an option of the group only before the command's name; a person adds `--debug` at the end of the line that failed.
        end = args.index("--") if "--" in args else len(args)
        debug = ["--debug"] if "--debug" in args[:end] else []
        return super().parse_args(ctx, debug + [w for w in args[:end] if w != "--debug"] + args[end:])


def _typer(**settings: Any) -> typer.Typer:  # noqa: ANN401  # typer's own
    """Return an application of typer without colours and without tracebacks of its own."""
    return typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, **settings)


app = _typer(
    name="firmplan",
    cls=Commands,
    help="Run agents by deterministic plans: written by a model, checked, run, reused, replayed.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=True,  # its answers to the scripts of shells; `firmplan completion` prints these
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> NoReturn:
    """Run the command line of this process."""
    codes: list[int] = []
    # First, so that it runs after the handlers of everything that the command imports.
    atexit.register(_end_here, codes)
    gc.disable()  # what imports make stays; `Invocation.perform` turns the collector on for the command's own work
    open_closed_streams()
    escape_log_lines()
    if "--debug" in sys.argv:  # the log has the tracebacks of a tool's errors
        from ..tools.logbook import SETTING

        os.environ.setdefault(SETTING, "debug")
    try:
        app()
    except SystemExit as end:
        if isinstance(end.code, int):
            codes.append(end.code)
        raise
    except Exception:  # noqa: BLE001  # only `--debug` lets an error through; Python would print its message as it is
        note(traceback.format_exc().rstrip("\n"), is_error=True)
        codes.append(1)
        sys.exit(1)
    finally:
        gc.freeze()  # Python scans all objects as a process ends, and nothing would come of it
    sys.exit(0)


def _end_here(codes: Sequence[int]) -> None:
    """End the process without the end of the interpreter if Temporal's SDK is in use. A handler of `atexit`, after which no other is called.

    The SDK's threads run as long as the process does, and no call ends them. A thread that hands over a result after the interpreter has ended
    aborts the process, which then ends by SIGABRT although all its work is done. Handlers from before `main` are left out: Python would call them
    after this one, and it offers no call for them.

    Args:
        codes: The exit code; empty: there is none, and Python ends the process as usual.
    """
    if codes and TEMPORAL in sys.modules:
        logging.shutdown()
        drop_unwritten()
        os._exit(codes[0])


def _is_log_json() -> bool:
    """Whether the log is asked for as JSON; a wrong setting is an error of the command, which comes later."""
    from ..tools.logbook import is_json

    with suppress(ConfigError):
        return is_json()
    return False


def _print_version(wanted: bool) -> None:
    if wanted:
        answer(f"firmplan {version('firmplan')}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error, also of a tool's.")
    ] = False,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that belong to no command; `Commands` and the callbacks have acted on them already."""


def _answer(command: Callable[[], Any], words: Sequence[str]) -> int:
    """Run the command and return its exit code; an answer that could not be written completely is a failure.

    Errors are printed on the same streams as answers, so printing one can fail too. A reader that closed its pipe has read enough and
    gets no message.
    """
    try:
        code = _outcome(command, words)
        flush_streams()
    except OutputError as error:
        if not error.is_unread and sys.__stderr__ is not None:
            with suppress(OSError):
                sys.__stderr__.write(f"error: {error}\n")
        return 1
    return code


def _outcome(command: Callable[[], Any], words: Sequence[str]) -> int:
    """Run the command and return its exit code; print its error as text or, with `--json`, as a document."""
    try:
        # The word is looked for before typer reads the line, because the error may be that typer cannot read it.
        with stdout_for_the_document() if "--json" in words else nullcontext():
            return int(command() or 0)
    except USAGE_ERROR as error:
        return _usage(error, as_json="--json" in words)
    except typer.Abort:
        return 130
    except OutputError:
        raise
    except Exception as error:
        # Without a file's name the disk that is full is the one that stdout goes to.
        if isinstance(error, OSError) and error.errno in NO_ROOM and error.filename is None:
            raise OutputError(error) from error
        if "--debug" in words:
            raise
        return _failure(error, as_json="--json" in words)


def _usage(error: Any, *, as_json: bool) -> int:  # noqa: ANN401  # typer's class is private
    """Print the error of a misspelt command line. A call without any words gets the help, which is its message."""
    message = error.format_message()
    for theirs, ours in TYPER_WORDS:
        message = message.replace(theirs, ours)
    command = error.ctx.command_path if error.ctx else "firmplan"
    # A group that does nothing by itself is no command.
    is_command = error.ctx is not None and getattr(error.ctx.command, "invoke_without_command", True)
    if is_command and getattr(error, "option_name", None) == "--server":
        message = f"'{command}' works on this machine only: it takes no --server"
    if as_json:
        document({"error": {"code": "usage", "message": message}})
        return 2
    advice = f"try '{command} --help'"
    if command == "firmplan" and (option := getattr(error, "option_name", None)):
        advice = f"the options of a command come after it: firmplan COMMAND {option} ..; {advice}"
    note(message if "Usage:" in message else f"error: {message}\n{advice}", is_error=True)
    return 2


def _failure(error: Exception, *, as_json: bool) -> int:
    if as_json:
        document(failure_document(error))
    else:
        note(failure_text(error), is_error=True)
    return exit_code(error)
