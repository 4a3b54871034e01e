"""What an import came to: counts by outcome and reason, and the files that weren't plainly stored."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from pacsd.model.objects import Outcome
from pacsd.workflow.importing import Taken, Unfit

MAX_LISTED = 10_000
"""Files that are kept in memory for `--json`; a report file has all."""


def reason_name(unfit: Unfit) -> str:
    """An `Unfit` as scripts see it."""
    return unfit.name.lower().replace("_", "-")


class Tally:
    """Counts answers. One thread.

    Args:
        report: a file for one JSON line per file that isn't plainly stored or held; made anew.
    """

    def __init__(self, report: Path | None) -> None:
        self._report: TextIO | None = report.open("w", encoding="utf-8", errors="surrogateescape") if report else None
        self._started_at = time.monotonic()
        self.outcomes: Counter[Outcome] = Counter()
        self.unfit: Counter[Unfit] = Counter()
        self.flags: Counter[str] = Counter()
        self.n_failed = 0
        self.n_files = 0
        self.n_bytes = 0
        self.n_left_off = 0
        self.listed: list[dict[str, str]] = []
        self.trouble = ""
        """Why the import was given up: a whole group failed, so others would too."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._report is not None:
            self._report.close()

    def add_group(self, group: list[Taken]) -> None:
        """Count a group that was taken together."""
        for taken in group:
            self.add(taken)
        fit = [taken for taken in group if taken.unfit is None]
        if fit and all(taken.error is not None for taken in fit):
            self.trouble = str(fit[0].error)

    def add(self, taken: Taken) -> None:
        """Count one file."""
        self.n_files += taken.unfit is not Unfit.ABSENT
        self.n_bytes += taken.size_bytes
        self.flags.update(taken.flags)
        if taken.unfit is not None:
            self.unfit[taken.unfit] += 1
            self._list(taken.path, "skipped", reason_name(taken.unfit))
        elif taken.error is not None:
            self.n_failed += 1
            self._list(taken.path, "failed", taken.error.comment)
        elif taken.outcome is not None:
            self.outcomes[taken.outcome] += 1
            if taken.outcome in (Outcome.KEPT_ASIDE, Outcome.REPLACED):
                self._list(taken.path, taken.outcome.value, "other bytes are held under its SOP Instance UID")

    def status(self) -> int:
        """The exit status."""
        if self.n_failed or self.trouble:
            return os.EX_TEMPFAIL
        if any(unfit.is_loss for unfit in self.unfit):
            return os.EX_IOERR
        return os.EX_OK if self.outcomes else os.EX_DATAERR

    def print_summary(self, *, as_json: bool, dry_run: bool, complete: bool) -> None:
        """Print the result. Args: complete: nothing was left undone."""
        if as_json:
            print(json.dumps(self._as_json(dry_run=dry_run, complete=complete)))
            return
        seconds = max(time.monotonic() - self._started_at, 1e-3)
        done = self.outcomes
        would = "would be " if dry_run else ""
        print(f"{done[Outcome.STORED]:,} {would}stored ({self.n_bytes / 1e6:,.1f} MB, "
              f"{self.n_files / seconds:,.0f} files/s), {done[Outcome.DUPLICATE]:,} held already")  # fmt: skip
        if done[Outcome.KEPT_ASIDE] or done[Outcome.REPLACED]:
            n = done[Outcome.KEPT_ASIDE] + done[Outcome.REPLACED]
            print(f"{n:,} with other bytes under a SOP Instance UID that is held; see `pacsd conflicts list`")
        for unfit, number in self.unfit.most_common():
            print(f"{number:,} skipped: {unfit.value}")
        if self.n_failed:
            print(f"{self.n_failed:,} failed; run it again when the cause is gone", file=sys.stderr)
        if self.trouble:
            print(f"pacsd: given up: {self.trouble}", file=sys.stderr)
        elif not complete:
            print("pacsd: stopped before the end; run it again to go on", file=sys.stderr)

    def _list(self, path: str, result: str, why: str) -> None:
        row = {"path": path, "result": result, "why": why}
        if self._report is not None:
            self._report.write(json.dumps(row) + "\n")
        if len(self.listed) < MAX_LISTED:
            self.listed.append(row)
        else:
            self.n_left_off += 1

    def _as_json(self, *, dry_run: bool, complete: bool) -> dict[str, object]:
        return {
            "stored": self.outcomes[Outcome.STORED],
            "held": self.outcomes[Outcome.DUPLICATE],
            "kept_aside": self.outcomes[Outcome.KEPT_ASIDE],
            "replaced": self.outcomes[Outcome.REPLACED],
            "failed": self.n_failed,
            "skipped": {reason_name(unfit): number for unfit, number in self.unfit.items()},
            "flags": dict(self.flags),
            "n_bytes": self.n_bytes,
            "dry_run": dry_run,
            "complete": complete,
            "trouble": self.trouble,
            "files": self.listed,
            "files_left_off": self.n_left_off,
        }
