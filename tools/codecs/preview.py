"""The first rows of a frame, an array or a text as text: what people see of bytes without fetching them.

A preview is small whatever the artifact is: rows, columns and the characters of a cell are bounded here. Cells are text of tools and of whom they
asked, so whoever shows them escapes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final, Literal

from ...errors import ConfigError, InputRejected
from ...plans.immutable import frozen
from ...plans.values import Json

ROWS_MAX: Final = 1_000
"""Rows of a preview."""
COLUMNS_MAX: Final = 50
"""Columns of a preview; more are counted."""
CELL_MAX: Final = 500
"""Characters of a cell; of a longer one the beginning is shown."""

_MODULES: Final[Mapping[str, str]] = {
    "application/vnd.apache.arrow.file": ".frames",
    "application/x-npy": ".arrays",
}
_TEXTS: Final = ("application/json", "application/x-ndjson", "application/yaml", "application/xml")


@frozen
class PreviewColumn:
    """A column of a preview.

    Attributes:
        name: Its name; of an array with two axes the index.
        type: The type of its values, as `dtypes` of a frame has it.
    """

    name: str
    type: str


@frozen
class ArtifactPreview:
    """The first rows of an artifact, as text for people.

    Attributes:
        kind: What the bytes are: `frame`, `array` or `text`.
        columns: The first columns, at most 50.
        rows: The cells of the first rows, each of at most 500 characters; `None`: the value is null.
        rows_total: Rows of the whole; `None`: only the beginning of a text was read.
        columns_total: Columns of the whole.
        shape: Of an array.
        dtype: Of an array.
    """

    kind: Literal["frame", "array", "text"]
    columns: tuple[PreviewColumn, ...]
    rows: tuple[tuple[str | None, ...], ...]
    rows_total: int | None
    columns_total: int
    shape: tuple[int, ...] | None = None
    dtype: str | None = None

    def to_dict(self) -> dict[str, Json]:
        """Return the preview as JSON."""
        return {
            "kind": self.kind,
            "columns": [{"name": each.name, "type": each.type} for each in self.columns],
            "rows": [list(each) for each in self.rows],
            "rows_total": self.rows_total,
            "columns_total": self.columns_total,
            "shape": None if self.shape is None else list(self.shape),
            "dtype": self.dtype,
        }


def cut(text: str) -> str:
    """Return the text of a cell, or its beginning."""
    return text if len(text) <= CELL_MAX else f"{text[: CELL_MAX - 1]}\N{HORIZONTAL ELLIPSIS}"


def has_preview(media_type: str) -> bool:
    """Whether bytes of a media type have a preview."""
    return media_type in _MODULES or media_type.startswith("text/") or media_type in _TEXTS


def is_table(media_type: str) -> bool:
    """Whether bytes of a media type are a frame or an array."""
    return media_type in _MODULES


def needs_all_bytes(media_type: str) -> bool:
    """Whether the beginning of the bytes is not enough: where the rows of a table are stands at the end of its file."""
    return _MODULES.get(media_type) == ".frames"


def preview_of(media_type: str, data: bytes, rows: int, *, is_whole: bool = True) -> ArtifactPreview:
    """Return the first rows of a frame, an array or a text.

    Args:
        media_type: Of the bytes.
        data: The bytes, or the beginning of them.
        rows: How many rows, 1 to 1,000.
        is_whole: Whether these are all bytes.

    Raises:
        InputRejected: The bytes have no preview, or are not what their media type says.
        ConfigError: A package that reads them is missing.
    """
    if not has_preview(media_type):
        raise InputRejected(
            f"expected a frame, an array or a text, found {media_type}; `firmplan artifacts get` writes it to a file"
        )
    if not 1 <= rows <= ROWS_MAX:
        raise InputRejected(f"rows: expected 1 to {ROWS_MAX:,}, found {rows:,}")
    if (module := _MODULES.get(media_type)) is None:
        return _text_preview(data, rows, is_whole=is_whole)
    try:
        read: Callable[..., ArtifactPreview] = import_module(module, __package__).preview
        return read(data, rows, is_whole=is_whole)
    except ImportError as fault:
        raise ConfigError(f"{media_type}: it is read with {fault.name}; install it") from fault
    except ConfigError:
        raise
    except Exception as fault:
        # The bytes may come from anybody, and libraries raise what they like.
        raise InputRejected(
            f"expected bytes that are {media_type}, found others: {cut(str(fault)) or type(fault).__name__}"
        ) from fault


def _text_preview(data: bytes, rows: int, *, is_whole: bool) -> ArtifactPreview:
    lines = data.decode(errors="replace").splitlines()
    return ArtifactPreview(
        kind="text",
        columns=(PreviewColumn("line", "string"),),
        rows=tuple((cut(line),) for line in lines[:rows]),
        rows_total=len(lines) if is_whole else None,
        columns_total=1,
    )
