"""How far a long command is: one line that is written over itself, on a terminal only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

_EVERY_S = 0.25


class Progress:
    """Shows counts, rates and the time left on standard error. One thread; nothing when that is no terminal."""

    def __init__(
        self, output: TextIO | None = None, clock: Callable[[], float] = time.monotonic, *, wanted: bool = True
    ) -> None:
        self._output = output or sys.stderr
        self._clock = clock
        self._started_at = clock()
        self._shown_at = float("-inf")
        self._width = 0
        self.is_shown = wanted and self._output.isatty()

    def show(self, n_files: int, n_bytes: int, total_files: int = 0, total_bytes: int = 0) -> None:
        """Say how far it is, at most four times a second.

        Args:
            total_files, total_bytes: of the whole work; 0 while that isn't known.
        """
        now = self._clock()
        if not self.is_shown or now - self._shown_at < _EVERY_S:
            return
        self._shown_at = now
        self._write(line(now - self._started_at, n_files, n_bytes, total_files, total_bytes))

    def end(self) -> None:
        """Clear the line, so that what is printed next stands by itself."""
        if self.is_shown and self._width:
            self._write("")
            self._output.write("\r")
            self._output.flush()

    def _write(self, text: str) -> None:
        self._output.write("\r" + text.ljust(self._width))
        self._output.flush()
        self._width = len(text)


def line(elapsed_s: float, n_files: int, n_bytes: int, total_files: int = 0, total_bytes: int = 0) -> str:
    """The words of `Progress.show`; the time left goes by bytes where their total is known, else by files."""
    seconds = max(elapsed_s, 1e-3)
    text = f"{n_files:,} files, {n_files / seconds:,.0f}/s, {n_bytes / seconds / 1e6:,.1f} MB/s"
    done, total = (n_bytes, total_bytes) if total_bytes else (n_files, total_files)
    if total and done:
        share = min(1.0, done / total)
        text += f", {share:.0%}, {duration(seconds / share - seconds)} left"
    return text


def duration(seconds: float) -> str:
    """Hours, minutes, seconds."""
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}"
