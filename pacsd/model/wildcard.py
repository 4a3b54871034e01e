"""Wild card patterns: `*` any run of characters, `?` exactly one (PS3.4 §C.2.2.2.4).

A pattern is cut at its stars, and the pieces are found from left to right: there is no backtracking, whatever the
peer sends. Pure functions, any thread.
"""

from __future__ import annotations

import re

MAX_PATTERN_CHARS = 1024
MAX_TEXT_CHARS = 64 * 1024


class PatternRefused(ValueError):
    """A matching key longer than any value that it could match."""


def has_wildcard(text: str) -> bool:
    """Whether the text is a pattern."""
    return "*" in text or "?" in text


def literal_prefix(pattern: str) -> str:
    """What every matching text begins with."""
    return re.split(r"[*?]", pattern, maxsplit=1)[0]


class Wildcard:
    """A compiled pattern; case matters. Raises PatternRefused for one over `MAX_PATTERN_CHARS`."""

    __slots__ = ("_exact", "_first", "_last", "_middle")

    def __init__(self, pattern: str) -> None:
        if len(pattern) > MAX_PATTERN_CHARS:
            raise PatternRefused(f"matching key longer than {MAX_PATTERN_CHARS} characters")
        pieces = pattern.split("*")
        self._exact = _piece(pieces[0]) if len(pieces) == 1 else None
        self._first = _piece(pieces[0])
        self._last = _piece(pieces[-1])
        self._middle = tuple(_piece(piece) for piece in pieces[1:-1] if piece)

    def matches(self, text: str) -> bool:
        """Whether the whole text matches; of a longer one the first `MAX_TEXT_CHARS` are looked at."""
        text = text[:MAX_TEXT_CHARS]
        if self._exact is not None:
            return self._exact.width == len(text) and self._exact.is_at(text, 0)
        end = len(text) - self._last.width
        if self._first.width > end or not (self._first.is_at(text, 0) and self._last.is_at(text, end)):
            return False
        pos = self._first.width
        for piece in self._middle:
            pos = piece.find(text, pos, end)
            if pos < 0:
                return False
        return True


class _Literal:
    __slots__ = ("_text", "width")

    def __init__(self, text: str) -> None:
        self._text = text
        self.width = len(text)

    def is_at(self, text: str, pos: int) -> bool:
        return text.startswith(self._text, pos)

    def find(self, text: str, pos: int, end: int) -> int:
        """Where the first occurrence ends, -1 if there is none."""
        found = text.find(self._text, pos, end)
        return found if found < 0 else found + self.width


class _WithGaps:
    """A piece with question marks: a fixed width expression without repetition, so linear for each position."""

    __slots__ = ("_expression", "width")

    def __init__(self, text: str) -> None:
        self._expression = re.compile(re.escape(text).replace(r"\?", "."), re.DOTALL)
        self.width = len(text)

    def is_at(self, text: str, pos: int) -> bool:
        return self._expression.match(text, pos) is not None

    def find(self, text: str, pos: int, end: int) -> int:
        found = self._expression.search(text, pos, end)
        return found.end() if found else -1


def _piece(text: str) -> _Literal | _WithGaps:
    return _WithGaps(text) if "?" in text else _Literal(text)
