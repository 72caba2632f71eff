"""Prices of tokens: a table of models, the table beside this module or a table of the user.

    {"prices": 1, "models": [
      {"model": "gpt-5-mini", "at": "https://api.openai.com/", "input": 0.25, "cached_input": 0.025, "output": 2.0},
      {"model": "qwen*", "at": "http://127.0.0.1", "input": 0, "output": 0}]}

Prices are US dollars a million tokens. `model` may end in `*` and also stands for its dated versions (`-2025-08-07`); `at`
is the beginning of the endpoint's address, and without it a line holds for any endpoint. The first line that fits counts; lines of
the user's table (`FIRMPLAN_PRICES`, or `Models(prices=..)`) come before lines of our table. A model that is in neither has no
price, which is not the price 0.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import BaseModel, Field, ValidationError

from ...errors import UNPRICED, ConfigError, InputRejected
from ...lazy_imports import late_pattern
from ...plans.immutable import immutable
from .endpoint import Endpoint

FORMAT = 1
TOKENS_A_PRICE = 1_000_000

_DATED = late_pattern(r"-\d{4}-\d{2}-\d{2}$|-\d{8}$|-\d{4}$")
_Amount: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]

PricesSource: TypeAlias = "Prices | Mapping[str, object] | str | os.PathLike[str] | None"


class Price(BaseModel, frozen=True, strict=True, defer_build=True):
    """The price of one model's tokens at one endpoint, in US dollars a million.

    Attributes:
        model: The model's name; it may end in `*`.
        at: The beginning of the endpoint's address; empty: any endpoint.
        cached_input: The price of cached tokens of a prompt; `None`: the price of other tokens of the prompt.
    """

    model: str
    at: str = ""
    input: _Amount
    output: _Amount
    cached_input: _Amount | None = None

    def fits(self, endpoint: Endpoint) -> bool:
        """Whether this is the price of an endpoint's model."""
        names = (endpoint.name, _DATED.sub("", endpoint.name))
        return endpoint.base_url.startswith(self.at.rstrip("/")) and any(
            fnmatchcase(name, self.model) for name in names
        )

    def usd(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        """Return the price of one request in US dollars.

        Args:
            prompt_tokens: Tokens of the prompt, cached ones included.
            completion_tokens: Tokens of the answer.
            cached_tokens: Tokens of the prompt that the endpoint had cached.
        """
        cached = min(cached_tokens, prompt_tokens)
        parts = (
            (prompt_tokens - cached) * self.input,
            cached * (self.input if self.cached_input is None else self.cached_input),
            completion_tokens * self.output,
        )
        return sum(parts) / TOKENS_A_PRICE


class _Table(BaseModel, strict=True, defer_build=True):
    """The document of a table."""

    prices: Literal[1]
    models: list[Price]


@immutable
class Prices:
    """A table of prices, the first that fits counts."""

    lines: tuple[Price, ...] = ()

    @classmethod
    def of(cls, source: PricesSource = None) -> Prices:
        """Return a user's table before ours; `None`: the one that `FIRMPLAN_PRICES` names, if any.

        Raises:
            ConfigError: It is no table of prices; the message says where.
        """
        if isinstance(source, Prices):
            return source
        named = os.environ.get("FIRMPLAN_PRICES") if source is None else source
        if not named:
            return _ours()
        own = _read("prices", dict(named)) if isinstance(named, Mapping) else _load(named)
        return cls((*own, *_ours().lines))

    def find(self, endpoint: Endpoint) -> Price | None:
        """Return the price of an endpoint's model; `None` if it is not known."""
        return next((line for line in self.lines if line.fits(endpoint)), None)

    def expect_all(self, endpoints: Iterable[Endpoint], whose: str) -> None:
        """Raise `InputRejected` if the price of a model is not known: a limit in dollars would not hold.

        Args:
            endpoints: The models, fallbacks included.
            whose: Who asks them, for the message.
        """
        for endpoint in endpoints:
            if self.find(endpoint) is None:
                line = {"model": endpoint.name, "at": endpoint.base_url, "input": 0, "output": 0}
                raise InputRejected(
                    f"budget: 'usd': expected a known price of every model that may be asked, found none of '{endpoint.name}' at {endpoint.base_url} "
                    f"({whose}): a model without a price would never reach the limit. Give its price in Models(prices=..) or in the file that "
                    f"FIRMPLAN_PRICES names, as {json.dumps(line)} in dollars a million tokens (0 where it is free), or limit tokens or model_calls",
                    code=UNPRICED,
                )


@cache
def _ours() -> Prices:
    text = resources.files(__package__ or "").joinpath("prices.json").read_text(encoding="utf-8")
    return Prices(tuple(_read("prices.json", json.loads(text))))


def _load(path: object) -> Iterable[Price]:
    where = f"prices: {path}"
    try:
        document = json.loads(Path(cast("str", path)).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: expected a table of prices in JSON, found none: {error}") from error
    return _read(where, document)


def _read(where: str, document: object) -> list[Price]:
    try:
        return _Table.model_validate(document).models
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise ConfigError(
            f'{where}: expected {{"prices": {FORMAT}, "models": [{{"model": .., "input": .., "output": ..}}]}}; '
            f"at {place}: {first['msg']}"
        ) from error
