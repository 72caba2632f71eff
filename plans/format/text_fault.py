"""What is wrong with a plan's text, before there is a plan."""

from __future__ import annotations


class TextFault(ValueError):  # noqa: N818  # a word of the domain: the text is at fault, not we
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
