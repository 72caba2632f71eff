"""`Context`: the inputs of a call beside its arguments: time, randomness, environment, secrets, its place in the run.

A tool that takes a parameter annotated `Context` gets one for each call. Whatever it takes from the context is
recorded in `ctx.used`: the engine stores it with the result, replays it, and decides by it whether the result may
be reused. Secrets are recorded by name only and never appear in a `repr`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, field
from datetime import UTC, datetime
from hashlib import sha256
from os import PathLike
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NoReturn, Protocol, TypeVar, cast
from uuid import UUID, uuid4

from ..errors import ConfigError, ToolError
from ..plans.immutable import record
from ..plans.signature import Effect
from ..plans.values import Json, digest
from .failures import recorded, text_of, writable
from .logbook import open_log
from .resources import key_of

T = TypeVar("T", float, str)

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from .artifact import Artifact, Blobs, FileBlobs
    from .resources import Resource
    from .tool import Tool


# Times and ids of one call that are recorded. A tool that asks more often, such as one that polls, gets unrecorded ones.
DRAWN_MAX: Final = 1_000


class ResourceOpener(Protocol):
    """Who opens resources: an engine, or a child process for calls."""

    def ask(self, tool: Tool, wanted: object, context: Context, /) -> Any:  # noqa: ANN401  # see `Context.resource`
        """Return what `Context.resource` returns, to the call that has this context."""
        ...

    def secrets_of(self, tool: Tool, /) -> Mapping[str, str]:
        """Return name -> value of the secrets that the open resources of a tool have read."""
        ...


@record
class Used:
    """The times, ids, environment variables and secrets that one call took from its context.

    Attributes:
        now: Every time read, in order, as seconds since the epoch, up to `DRAWN_MAX`.
        uuids: Every id made, in order, as text, up to `DRAWN_MAX`.
        random: Whether `ctx.random` was asked for.
        env: Environment variables read, with the value found (`None`: not set).
        secrets: Names of the secrets read.
    """

    now: list[float] = field(default_factory=list[float])
    uuids: list[str] = field(default_factory=list[str])
    random: bool = False
    env: dict[str, str | None] = field(default_factory=dict[str, str | None])
    secrets: list[str] = field(default_factory=list[str])

    @property
    def varies(self) -> bool:
        """Whether the result may depend on when or how often the call was made: then it is not reused later."""
        return bool(self.now or self.uuids or self.random)


class Context:
    """The world as one call of a tool may see it.

    Args:
        run_id: Id of the run.
        step: Path of the step, item and iteration included.
        attempt: Number of this call of the step, from 1.
        idempotency_key: The same over attempts and resumes; hand it to services that forget a repeated request.
        seed: Seed of the run.
        effect: Effect of the tool; a `pure` tool may not read time, randomness or ids.
        clock: Seconds since the epoch.
        env: Environment variables.
        secrets: The secrets that the tool may read, by name.
        log: A structlog logger; made on first use if not given.
        on_progress: Called by `progress` with a fraction and a note.
        recorded: What earlier attempts of the same call got; handed out again, in order.
        on_drawn: Called with each new time (seconds) and id, before the call gets it.
        new_uuid: Makes an id.
        blobs: Where the bytes of artifacts are kept.
        given: The secrets among its arguments, by name; the log masks them, like those that it reads.
        answers: What a person answered to questions of earlier attempts (`QuestionRaised`): `[resume, answer]` each.
        resources: What `resource` and parameters get, by type or `@resource`; or, of an engine, who opens them, and the tool for which.
        about: What the log says of whoever has this context; without: the run, the step and the attempt.

    Attributes:
        injected: The resources that the tool takes as parameters, by parameter.
    """

    def __init__(  # noqa: PLR0913  # one keyword for each thing that a call may depend on
        self,
        *,
        run_id: str = "",
        step: str = "",
        attempt: int = 1,
        idempotency_key: str = "",
        seed: str = "",
        effect: Effect = Effect.WRITE,
        clock: Callable[[], float] = time.time,
        env: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        log: FilteringBoundLogger | None = None,
        on_progress: Callable[[float, str], None] | None = None,
        recorded: Used | None = None,
        on_drawn: Callable[[float | str], None] | None = None,
        new_uuid: Callable[[], UUID] = uuid4,
        blobs: Blobs | None = None,
        given: Mapping[str, str] | None = None,
        answers: Sequence[Json] = (),
        resources: Mapping[Any, object] | tuple[ResourceOpener, Tool] | None = None,
        about: Mapping[str, object] | None = None,
    ) -> None:
        self.run_id = run_id
        self.step = step
        self.attempt = attempt
        self.idempotency_key = idempotency_key
        self.effect = effect
        self.used = Used()
        self.answers = answers
        self._seed = seed
        self._clock = clock
        self._env = env
        self._secrets = secrets
        self._log = log
        self._on_progress = on_progress
        self._recorded = recorded or Used()
        self._on_drawn = on_drawn
        self._new_uuid = new_uuid
        self._blobs = blobs
        self._given = dict(given or {})
        self._random: Random | None = None
        self._resources = resources
        self.injected: dict[str, object] = {}
        self._about = about

    @property
    def has_recorded_time(self) -> bool:
        """Whether the first time that the call asks for is one that an earlier attempt got."""
        return bool(self._recorded.now)

    def facts(self) -> dict[str, Any]:
        """Return what another process needs to make the same context, as JSON."""
        return {
            "run_id": self.run_id,
            "step": self.step,
            "attempt": self.attempt,
            "idempotency_key": self.idempotency_key,
            "seed": self._seed,
            "recorded": asdict(self._recorded),
            "given": self._given,
        }

    def now(self) -> datetime:
        """Return the time, in UTC; a repeated call of the same step gets the times that the first one got.

        Raises:
            ToolError: The tool is `pure` (code `impure`).
        """
        self._refuse_if_pure("now")
        seconds = self._drawn(self.used.now, self._recorded.now, self._clock)
        return datetime.fromtimestamp(seconds, UTC)

    @property
    def random(self) -> Random:
        """A generator seeded by run and step: the same numbers in every attempt and every run of the same seed.

        Raises:
            ToolError: The tool is `pure` (code `impure`).
        """
        self._refuse_if_pure("random")
        if self._random is None:
            # Seeded by the step's path and not by the call: every attempt draws the same numbers, whatever the
            # other steps do.
            self._random = Random(int.from_bytes(sha256(f"{self._seed}\0{self.step}".encode()).digest()))  # noqa: S311  # must repeat
        self.used.random = True
        return self._random

    def uuid(self) -> UUID:
        """Return a new unique id; a repeated call of the same step gets the ids that the first one got.

        Raises:
            ToolError: The tool is `pure` (code `impure`).
        """
        self._refuse_if_pure("uuid")
        return UUID(self._drawn(self.used.uuids, self._recorded.uuids, lambda: str(self._new_uuid())))

    def _drawn(self, used: list[T], recorded: Sequence[T], draw: Callable[[], T]) -> T:
        """Return the next value that an earlier attempt got, or a new one, which is recorded before the call gets it."""
        # By position: the n-th time of a repeated call is the n-th time of the first one.
        count = len(used)
        if count >= DRAWN_MAX:
            return draw()
        if count < len(recorded):
            found = recorded[count]
        else:
            found = draw()
            if self._on_drawn is not None:
                self._on_drawn(found)
        used.append(found)
        return found

    def env(self, name: str, default: str | None = None) -> str | None:
        """Return an environment variable; its value is stored with the result and must match for reuse."""
        # Only the environment that was handed in, never `os.environ`: a worker process has another one.
        found = self._env.get(name) if self._env is not None else None
        self.used.env[writable(name)] = recorded(found)
        return default if found is None else found

    def secret(self, name: str) -> str:
        """Return a secret; only its name is recorded.

        Raises:
            ToolError: There is no such secret, or it is not for this tool (code `no-secret`).
        """
        found = self._secrets.get(name) if self._secrets is not None else None
        if found is None:
            who = f"step '{self.step}'" if self.step else "a resource"
            raise ToolError(
                f"{who} asks for the secret '{name}', which is not set; "
                f'give it as Engine(secrets={{"{name}": ..}})',
                code="no-secret",
            )
        if name not in self.used.secrets:
            self.used.secrets.append(name)
        return found

    def save(self, data: bytes, *, media_type: str | None = None, name: str = "") -> Artifact:
        """Keep bytes in the store and return the artifact that stands for them.

        Args:
            data: The bytes.
            media_type: What they are; `None`: the name's ending says it.
            name: A name for people, such as `invoice.pdf`.

        Raises:
            ToolError: There is no store for bytes here (code `no-blobs`).
            TypeError: They are no bytes.
        """
        from .artifact import Artifact  # noqa: PLC0415  # pydantic: only for tools that use it

        if not isinstance(cast("object", data), bytes | bytearray | memoryview):
            raise TypeError(f"ctx.save: expected bytes, found {type(data).__name__}; encode text first")
        made = Artifact.of_bytes(bytes(data), media_type=media_type, name=name)
        self._kept("save").put(bytes(data))
        return made

    def open(self, artifact: Artifact) -> bytes:
        """Return the bytes of an artifact.

        Raises:
            ToolError: The bytes are not in the store (code `no-artifact`), or there is no store (code `no-blobs`).
        """
        blobs = self._kept("open")
        try:
            data = blobs.get(artifact.digest)
        except KeyError:
            data = None
        # The bytes may have been changed outside firmplan, and a tool must not work on other bytes than the run
        # recorded.
        if data is None or digest(data) != artifact.digest:
            what = "are not in the store" if data is None else "in the store are other bytes"
            raise self._no_artifact(artifact, what)
        return data

    def resource(self, wanted: object) -> Any:  # noqa: ANN401  # whatever the resource gives
        """Return a resource, which the first use opens: `await ctx.resource(Pool)` in an asynchronous tool, `ctx.resource(Pool)` in another.

        Args:
            wanted: Its `@resource`, or the type that it gives, if one resource of the tool's module gives it.

        Raises:
            ToolError: It could not be opened (code `resource-failed`).
            ConfigError: No resource, or more than one, gives the type.
        """
        match self._resources:
            case (opener, tool):
                return opener.ask(tool, wanted, self)
            case Mapping() as given if wanted in given:
                return given[wanted]
            case _:
                raise ConfigError(
                    f"ctx.resource: there is no {wanted!r} here; run the tool in an Engine, or give Context(resources={{..}}) in a test"
                )

    def take(self, resources: Mapping[str, Resource[Any]]) -> dict[str, object]:
        """Return the resources that a tool takes as parameters, by parameter. Raises: ConfigError: nobody has opened one."""
        found: dict[str, object] = {}
        for name, each in resources.items():
            if name in self.injected:
                found[name] = self.injected[name]
            elif isinstance(given := self._resources, Mapping):
                found[name] = self.resource(key_of(each, given) or each)
            else:
                raise ConfigError(
                    f"the tool needs the resource '{each.name}': run it in an Engine, or give Context(resources={{..}}) in a test"
                )
        return found

    def _no_artifact(self, artifact: Artifact, what: str) -> ToolError:
        return ToolError(
            f"step '{self.step}': the bytes of artifact '{artifact.name or artifact.digest}' {what}; "
            "run the step that makes it again, or import the store that holds it",
            code="no-artifact",
        )

    def save_file(
        self, path: str | PathLike[str], *, media_type: str | None = None, name: str | None = None
    ) -> Artifact:
        """Keep a file of any size in the store and return the artifact that stands for it. It is read a part at a time.

        The bytes are copied now: the tool may remove the file. They are in the store when the result is.

        Args:
            path: The file.
            media_type: What it holds; `None`: the name's ending says it.
            name: A name for people; `None`: the file's.

        Raises:
            ToolError: It cannot be read, or is too large (code `limit-exceeded`); or as `save`.
        """
        from .artifact import Artifact, media_type_of  # noqa: PLC0415  # pydantic: only for tools that use it

        said = Path(path).name if name is None else name
        try:
            digest, size = self._files("save_file").put_file(path)
        except OSError as fault:
            raise ToolError(
                f"step '{self.step}': ctx.save_file: expected a file that can be read, found {Path(path)}: {fault.strerror or fault}"
            ) from fault
        return Artifact(digest=digest, media_type=media_type or media_type_of(said), size=size, name=said)

    def open_file(self, artifact: Artifact) -> BinaryIO:
        """Return the bytes of an artifact of any size as a binary file that is open for reading; close it, or use `with`.

        Raises:
            ToolError: As `open`.
        """
        try:
            return self._files("open_file").open_file(artifact.digest)
        except KeyError:
            raise self._no_artifact(artifact, "are not in the store") from None

    @property
    def log(self) -> FilteringBoundLogger:
        """A structlog logger bound to run, step and attempt; secrets that the call has read do not stand in its lines."""
        if self._log is None:
            about = self._about or {"run": self.run_id, "step": self.step, "attempt": self.attempt}
            self._log = open_log(self.secrets_read, **about)
        return self._log

    def secrets_read(self) -> dict[str, str]:
        """Return name -> value of the secrets that must not stand in what the call writes: those among its arguments, that it has read, and of its resources."""
        shared: Mapping[str, str] = {}
        match self._resources:
            case (opener, tool):
                shared = opener.secrets_of(tool)
            case _:
                pass
        if self._secrets is None:
            return self._given | dict(shared)
        # A value that a resource has read may have been rotated since, so it goes before the one that is read now.
        names = [name for name in self.used.secrets if name not in shared]
        return self._given | dict(shared) | {name: self._secrets[name] for name in names}

    def of_resource(self, resource: Resource[Any]) -> Context:
        """Return the context of a resource that this call opens in a process of its own."""
        return resource_context(resource, env=self._env, secrets=self._secrets)

    def progress(self, fraction: float, note: str = "") -> None:
        """Report progress: `fraction`, clamped to 0 to 1, and a few words."""
        if self._on_progress is not None:
            from .logbook import masked_text  # noqa: PLC0415  # only for calls that tell their progress

            words = masked_text(text_of(note or ""), self.secrets_read())
            self._on_progress(min(max(0.0, float(fraction)), 1.0), words)

    def __repr__(self) -> str:
        return f"Context(run_id={self.run_id!r}, step={self.step!r}, attempt={self.attempt})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Context belongs to one call; hand on what was read from it, not the context")

    def _kept(self, what: str) -> Blobs:
        if self._blobs is None:
            raise ToolError(
                f"step '{self.step}' calls ctx.{what}, but there is no store for bytes here; run it in an Engine "
                "with a store, or give Context(blobs=..) in a test",
                code="no-blobs",
            )
        return self._blobs

    def _files(self, what: str) -> FileBlobs:
        blobs = self._kept(what)
        if not hasattr(blobs, "put_file"):
            raise ToolError(
                f"step '{self.step}' calls ctx.{what}, but the store for bytes here takes no files",
                code="no-blobs",
            )
        return cast("FileBlobs", blobs)

    def _refuse_if_pure(self, what: str) -> None:
        if self.effect is Effect.PURE:
            raise ToolError(
                f"step '{self.step}': a pure tool asked for ctx.{what}, so its result would not follow from its "
                'arguments; declare the tool with effect="read", or pass the value in as an argument',
                code="impure",
            )


def resource_context(
    resource: Resource[Any],
    *,
    env: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.time,
) -> Context:
    """Return the context with which a resource is opened: it belongs to no call, so its log names the resource."""
    return Context(clock=clock, env=env, secrets=secrets, about={"resource": resource.name})
