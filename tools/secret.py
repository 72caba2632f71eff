"""`Secret`: a value that a call may have and that nothing may show, with its source and the places that may have it.

A plan names a secret (`${secret("NAME")}`), and never holds its value. An engine has an explicit map of names; without one it has no
secrets. Values are read from their source when a run first needs them, so that a rotated secret needs no restart.

Keys of firmplan itself, of models and of stores are in no map: a plan, which a model may have written, could hand them to any tool.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast
from urllib.parse import quote, unquote, unquote_plus

from typing_extensions import override

from ..errors import ConfigError, ToolError
from ..lazy_imports import late_pattern
from ..plans.format.shape import describe
from ..plans.signature import SecretPlaces, is_place
from .failures import writable

ENVIRONMENT: Final = "environment"
OPEN_ENVIRONMENT: Final = (
    "secrets='environment' is for a program that serves nobody else: a client's plan could read every variable; "
    "list the secrets by name, under [secrets] in firmplan.toml or as Engine(secrets={..})"
)
_OWN_PREFIX: Final = "FIRMPLAN_"
_OWN: Final = frozenset(
    {"OPENAI_API_KEY", "PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE", "PGSSLPASSWORD"}
)
"""Environment variables with a key of a model or a store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """One secret of `Engine(secrets={"NAME": Secret(..)})`: one source, and the places that may have the value.

    Args:
        env: The environment variable that holds the value.
        file: The file that holds it; a line end at the end of the file does not count.
        keyring: `SERVICE/USER` in the keyring of the system, read with the package `keyring` (`pip install 'firmplan[keyring]'`).
        tools: Where a plan may use the secret: `"pay.key"`, the argument `key` of the tool `pay`; `"pay"`, any argument of `pay`, and
            `ctx.secret` in it, or in the `@resource` of that name. Empty: everywhere.

    Raises:
        ConfigError: There is no source, or more than one; or the variable holds a key of firmplan, of a model or of a store.
    """

    env: str | None = None
    file: str | os.PathLike[str] | None = None
    keyring: str | None = None
    tools: Sequence[str] = ()

    def __post_init__(self) -> None:
        sources = [name for name in ("env", "file", "keyring") if getattr(self, name) is not None]
        if len(sources) != 1:
            found = " and ".join(sources) or "none"
            raise ConfigError(f"a secret: expected one of env, file and keyring, found {found}")
        source = getattr(self, sources[0])
        if not isinstance(source, str | os.PathLike) or not os.fspath(cast("str", source)):
            raise ConfigError(f"a secret: {sources[0]}: expected text, found {source!r}")
        if self.env is not None and is_own(self.env):
            raise ConfigError(
                f"a secret: {self.env} holds a key of firmplan, of its model or of its store, which no plan may use"
            )
        if self.keyring is not None and not all(self.keyring.partition("/")):
            raise ConfigError(f"a secret: keyring: expected SERVICE/USER, found {self.keyring!r}")
        tools: Any = self.tools
        if (
            isinstance(tools, str)
            or not isinstance(tools, Sequence)
            or not all(map(_is_text, cast("Sequence[object]", tools)))
        ):
            raise ConfigError(f"a secret: tools: expected a list such as ['pay.key'], found {tools!r}")

    def read(self) -> str:
        """Return the value as it is now. Raises: LookupError: there is none; the message ends a sentence and shows no value."""
        if self.env is not None:
            found = os.environ.get(self.env)
            missing = f"the environment variable {self.env} is not set"
        elif self.file is not None:
            found, missing = _text_of(Path(self.file))
        else:
            found = _of_keyring(cast("str", self.keyring))
            missing = f"the keyring has no entry {self.keyring}"
        if not found:
            raise LookupError(missing)
        return found


Given: TypeAlias = "Mapping[str, str | Secret] | Literal['environment'] | None"


class Secrets:
    """The secrets of an engine.

    Args:
        given: Name -> secret, as text or as a `Secret`; `"environment"`: every environment variable but keys of firmplan, models and
            stores; `None`: none. An object that only has `get(name)` is asked for each name.
        keys: Further environment variables with keys of models.

    Raises:
        ConfigError: It is none of these, or names a variable with a key of a model; the message shows no value.
    """

    def __init__(self, given: Given = None, *, keys: Collection[str] = ()) -> None:
        self._keys = frozenset(keys)
        self.is_environment = given == ENVIRONMENT
        self._given: Mapping[str, str | Secret] = (
            {} if given is None or given == ENVIRONMENT else _read(given)
        )
        listed = self._given.values() if isinstance(cast("object", self._given), Mapping) else ()
        for secret in listed:
            if isinstance(secret, Secret) and secret.env in self._keys:
                raise ConfigError(f"a secret: {secret.env} holds the key of a model, which no plan may use")

    @property
    def places(self) -> SecretPlaces | None:
        """Name -> the places that may have the secret (none: all), for the check of plans. `None`: the names cannot be listed."""
        if self.is_environment:
            return dict.fromkeys(_open_variables(self._keys), ())
        if not isinstance(cast("object", self._given), Mapping):
            return None
        return {name: each.tools if isinstance(each, Secret) else () for name, each in self._given.items()}

    def values(self) -> dict[str, str]:
        """Return name -> value of all secrets.

        Raises:
            ConfigError: One cannot be read, or the names cannot be listed: then nobody can tell whether a text holds one.
        """
        if self.is_environment:
            found = _open_variables(self._keys).items()
            return {name: value for name, value in found if len(value) >= SECRET_CHARACTERS_MIN}
        if not isinstance(cast("object", self._given), Mapping):
            raise ConfigError(
                "expected secrets whose names can be listed, such as a dict, found an object with only `get`"
            )
        try:
            return {name: self.read(name) for name in self._given}
        except LookupError as fault:
            raise ConfigError(
                f"a secret cannot be read, so nobody can tell whether a text holds it: {fault.args[0]}"
            ) from None

    def reader(self) -> SecretReader:
        """Return what reads the secrets for one run."""
        return SecretReader(self)

    def read(self, name: str) -> str:
        """Return the value of a secret as it is now. Raises: LookupError: there is none; the message ends a sentence."""
        if self.is_environment:
            found: str | Secret | None = _open_variables(self._keys).get(name)
        else:
            found = self._given.get(name)
        if isinstance(found, Secret):
            return found.read()
        if found is None:
            raise LookupError(
                f'give it as Engine(secrets={{"{name}": ..}}), or under [secrets] in firmplan.toml'
            )
        return found

    def places_of(self, name: str) -> Sequence[str]:
        """Return the places that may have a secret; none: all."""
        found = None if self.is_environment else self._given.get(name)
        return found.tools if isinstance(found, Secret) else ()


class SecretReader:
    """Reads secrets for the calls of one run. Each value is read once, so that it is the value that is masked afterwards.

    Args:
        secrets: The secrets of the engine.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._values: dict[str, str] = {}

    def value(self, name: str, step: str, tool: str, argument: str | None = None) -> str:
        """Return a secret for a call.

        Args:
            name: The secret.
            step: The step whose call it is, for the message; empty: a resource is opened.
            tool: The tool that is called; or the resource.
            argument: The argument that is the secret; `None`: the tool asks for it with `ctx.secret`.

        Raises:
            ToolError: It is not set, or not for this place (code `no-secret`).
        """
        # Asked again at the call, although the check has asked: another engine, with another map, may have accepted the plan.
        places = self._secrets.places_of(name)
        who = f"step '{step}'" if step else f"the resource '{tool}'"
        if not is_place(places, tool, argument):
            place = f"{tool}.{argument}" if argument is not None else f"ctx.secret in {tool}"
            raise ToolError(
                f"{who} asks for the secret '{name}' at {place}; it is only for {', '.join(places)}",
                code="no-secret",
            )
        try:
            return self._value(name)
        except LookupError as fault:
            raise ToolError(
                f"{who} asks for the secret '{name}', which is not set; {fault.args[0]}",
                code="no-secret",
            ) from None

    def find(self, name: str) -> str | None:
        """Return the value of a secret that a call had, to be masked; `None`: it has none any more."""
        try:
            return self._value(name)
        except LookupError:
            return None

    def _value(self, name: str) -> str:
        # Not again at the end of the call: a secret that was rotated meanwhile would leave the old value unmasked.
        if name not in self._values:
            self._values[name] = self._secrets.read(name)
        return self._values[name]

    def of_tool(self, tool: str, step: str) -> Mapping[str, str]:
        """Return the secrets that a tool may read in a call of a step, or with an empty step a resource when it is opened. Asking for another one raises `ToolError`."""
        return _ToolSecrets(lambda name: self.value(name, step, tool))


class _ToolSecrets(Mapping[str, str]):
    """The secrets of one call. They are not listed: whoever can list them can read all."""

    def __init__(self, value: Callable[[str], str]) -> None:
        self._value = value

    @override
    def __getitem__(self, name: str) -> str:
        return self._value(name)

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(())

    @override
    def __len__(self) -> int:
        return 0


def is_own(variable: str) -> bool:
    """Whether an environment variable holds a key of firmplan, of a model or of a store."""
    return variable.upper().startswith(_OWN_PREFIX) or variable.upper() in _OWN


def _open_variables(keys: Collection[str]) -> Mapping[str, str]:
    """Return the environment variables that plans may use: none that holds a key of firmplan itself or of a model, under whatever name."""
    # By value too: deployments repeat a key under the name that another library reads.
    closed = {name for name in os.environ if is_own(name) or name in keys}
    own = {os.environ[name] for name in closed if os.environ[name]}
    own |= {key.strip() for key in os.environ.get("FIRMPLAN_API_KEYS", "").split(",")}
    return {name: value for name, value in os.environ.items() if name not in closed and value not in own}


def _read(given: Mapping[str, str | Secret]) -> Mapping[str, str | Secret]:
    if not hasattr(given, "get"):
        raise ConfigError(
            f"secrets: expected secrets by name, found {type(given).__name__}; or 'environment'"
        )
    if not isinstance(cast("object", given), Mapping):
        return given
    for name, secret in cast("Mapping[object, object]", given).items():
        if not _is_text(name):
            raise ConfigError(f"secrets: expected names that are text, found {describe(name)}")
        if secret is not None and not isinstance(secret, Secret) and not _is_text(secret):
            what = "half a character in it" if isinstance(secret, str) else type(secret).__name__
            raise ConfigError(f"secrets: '{name}': expected text, found {what}; or a Secret")
    return given


def _is_text(given: object) -> bool:
    return isinstance(given, str) and writable(given) == given


def _text_of(file: Path) -> tuple[str | None, str]:
    """Return the text of a file, and what to say if there is none."""
    try:
        found = file.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as fault:
        return (
            None,
            f"its file {file} cannot be read: {getattr(fault, 'strerror', None) or 'it is no UTF-8 text'}",
        )
    return found, f"its file {file} is empty"


def _of_keyring(entry: str) -> str | None:
    try:
        import keyring  # noqa: PLC0415  # an extra, and only for secrets that name it
        from keyring.errors import KeyringError  # noqa: PLC0415
    except ModuleNotFoundError:
        raise LookupError("the package keyring is not installed: pip install 'firmplan[keyring]'") from None
    service, _, user = entry.partition("/")
    try:
        return keyring.get_password(service, user)
    except KeyringError as fault:
        raise LookupError(f"the keyring cannot be read: {fault}") from None


# --- secrets in texts

SECRET_CHARACTERS_MIN: Final = 8
"""A shorter value of the environment may be a common word, whose mask would ruin every text."""

SECRET_NAME: Final = late_pattern(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
"""Environment variables whose values are taken for secrets."""

SECRET_TEXT: Final = late_pattern(
    r"""
    \bsk-[A-Za-z0-9_-]{16,}                               # OpenAI and others
    | \bBearer\s+[A-Za-z0-9._~+/=-]{16,}
    | \b(?:ghp|gho|ghu|ghs|ghr|github_pat)_[A-Za-z0-9_]{20,} | \bglpat-[A-Za-z0-9_-]{20,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b | \bAIza[A-Za-z0-9_-]{35}
    | \bxox[abeprs]-[A-Za-z0-9-]{10,}
    | \b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}
    | \beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*   # a JSON web token
    | -----BEGIN\ (?:[A-Z]+\ )*PRIVATE\ KEY-----
    """,
    re.VERBOSE,
)
"""Texts with the form of a key."""


def environment_secrets() -> dict[str, str]:
    """Return name -> value of the environment variables that are taken for secrets."""
    return {
        name: value
        for name, value in os.environ.items()
        if SECRET_NAME.search(name) and len(value) >= SECRET_CHARACTERS_MIN
    }


class SecretFinder:
    """Finds secrets in texts that are to leave the engine.

    A secret is found as it is, in JSON inside JSON, as URLs write it, and in base64. What a tool computes of it in another way is not found.

    Args:
        values: Name -> value of known secrets.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._spelled = [
            (name, spelling)
            for name, value in sorted(values.items())
            if value
            for spelling in dict.fromkeys(_spellings(value))
        ]

    def find(self, text: str) -> str | None:
        """Return the name of a secret in a text, `a key` for a text with the form of one; `None`: there is none."""
        for reading in _readings(text):
            for name, spelling in self._spelled:
                if spelling in reading:
                    return name
            if SECRET_TEXT.search(reading):
                return "a key"
        return None

    def masked(self, text: str) -> str:
        """Return a text in which `***` stands for every secret, as far as it is not spelled in another way."""
        for _, spelling in sorted(self._spelled, key=lambda each: -len(each[1])):
            text = text.replace(spelling, "***")
        return SECRET_TEXT.sub("***", text)


_READINGS_MAX: Final = 6
"""How deep JSON may stand inside JSON, and how often a text may be quoted for URLs: tools that nest deeper do so by mistake."""
_ESCAPE: Final = late_pattern(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_ESCAPED: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _readings(text: str) -> Iterator[str]:
    """Yield a text as it is, and without the escapes of JSON and URLs, one level after the other."""
    yield text
    for unescape in (_without_json, unquote, unquote_plus):
        reading = text
        for _ in range(_READINGS_MAX):
            before, reading = reading, unescape(reading)
            if reading == before:
                break
            yield reading


def _without_json(text: str) -> str:
    plain = _ESCAPE.sub(
        lambda found: chr(int(found[1], 16)) if found[1] else _ESCAPED.get(found[2], found[2]), text
    )
    # Two halves of one character come from two escapes.
    return plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _spellings(value: str) -> Iterator[str]:
    yield value
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield json.dumps(value)[1:-1]
    yield quote(value, safe="")
    if len(value) >= SECRET_CHARACTERS_MIN:
        data = value.encode("utf-8", "surrogatepass")
        # In a longer text, the letters of base64 depend on how many bytes stand before: three cases, without the edges that others share.
        for shift in range(3):
            coded = base64.b64encode(b"\0" * shift + data).decode().rstrip("=")
            inner = coded[(0, 2, 3)[shift] :][: -1 if (shift + len(data)) % 3 else None]
            yield inner
            yield inner.replace("+", "-").replace("/", "_")
