"""A plan's text as a value: JSON or YAML, told apart by how it begins.

What begins as JSON does, is JSON: read as YAML, `NaN` would be text and a missing comma another value.
"""

from __future__ import annotations

from ...lazy_imports import late_pattern
from ..immutable import immutable
from ..limits import LIMITS, Limits
from ..reports.problems import CheckReport, problem
from ..values import Json, NotJson, parse

_JSON = late_pattern(r'\s*(?:\{\s*["}]|\[)')
_LINE = late_pattern(r"at line (\d+), column")


class SourceError(ValueError):  # a word of the domain: the text is at fault, not we
    """The text holds no JSON value.

    Attributes:
        code: The problem's code: `bad-shape` or `limit-exceeded`.
        path: Where in the value; `$` where the text breaks off before there is one.
        line: Line of the text, from 1, if known.
    """

    def __init__(
        self, message: str, *, code: str = "bad-shape", path: str = "$", line: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.path = path
        self.line = line


@immutable
class Source:
    """A plan's text and the value it holds."""

    text: str
    value: Json
    is_json: bool

    def located(self, report: CheckReport) -> CheckReport:
        """Return the report with the line of each problem."""
        if not report.problems:
            return report
        from .lines import lines_of  # noqa: PLC0415  # reads YAML, and only plans with problems need it

        paths = dict.fromkeys(problem.path for problem in report.problems)
        return report.with_lines(lines_of(self.text, paths, is_json=self.is_json))


def parse_source(given: str | bytes, limits: Limits = LIMITS) -> Source:
    """Return the value in a plan's text.

    Raises:
        SourceError: It is too long, or neither JSON nor YAML, or holds what is no JSON.
    """
    size = _size_of(given)
    if size > limits.text_bytes_max:
        raise SourceError(
            f"expected at most {limits.text_bytes_max} bytes of text, found {size}: "
            "split the plan, or raise Limits.text_bytes_max",
            code="limit-exceeded",
        )
    text = _decoded(given).removeprefix("\ufeff")
    if not _JSON.match(text):
        from .yaml_text import parse_yaml  # noqa: PLC0415  # most plans are JSON and need no YAML

        return Source(text, parse_yaml(text), is_json=False)
    try:
        return Source(text, parse(text), is_json=True)
    except NotJson as fault:
        code = "limit-exceeded" if fault.is_limit else "bad-shape"
        line = _LINE.search(str(fault))
        message = str(fault).removeprefix(f"{fault.path}: ")
        raise SourceError(message, code=code, path=fault.path, line=int(line[1]) if line else None) from fault


def source_report(fault: SourceError) -> CheckReport:
    """Return the report of a text that holds no value."""
    found = problem(fault.code, fault.path, str(fault))
    report = CheckReport((found,))
    return report if fault.line is None else report.with_lines({fault.path: fault.line})


def _size_of(given: str | bytes) -> int:
    """Return the bytes of a text in UTF-8; text of ASCII alone is not encoded for that."""
    if isinstance(given, bytes) or given.isascii():
        return len(given)
    return len(given.encode("utf-8", "surrogatepass"))


def _decoded(given: str | bytes) -> str:
    try:
        if isinstance(given, bytes):
            return given.decode()
        given.encode()
    except UnicodeDecodeError as fault:
        raise SourceError(f"the text is not UTF-8: {fault.reason} at byte {fault.start}") from fault
    except UnicodeEncodeError as fault:
        raise SourceError(f"the text holds a lone surrogate at character {fault.start}") from fault
    return given
