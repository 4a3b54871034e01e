"""How `pacsd verify` goes over index and pools, and what it prints."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator

from pacsd.cli.offline.interrupt import INTERRUPTED, stop_signal
from pacsd.cli.offline.progress import Progress
from pacsd.cli.offline.site import Site, opened_site
from pacsd.cli.offline.verify_actions import ADVICE, Actions
from pacsd.config.sections import Config
from pacsd.index.locations import START, FilesCursor
from pacsd.model.objects import StoredFile
from pacsd.storage.scrub import Finding, ScrubReport, verify

MAX_LISTED = 10_000
_PAGE = 1000


def verify_site(
    config: Config, *, pool: str, bytes_per_s: float, orphans: str, strays: str, repair: bool, as_json: bool
) -> int:
    """Compare, act, print; returns the exit status.

    Args:
        pool: this one only; '' for all. orphans, strays, repair: see `Actions`.

    Raises:
        errors.PacsError: the database is away.
    """
    with opened_site(config, only_pool=pool) as site, stop_signal() as stopped:
        progress = Progress(wanted=not as_json)
        last = ScrubReport()

        def show(report: ScrubReport) -> None:
            nonlocal last
            last = report
            progress.show(report.n_files, report.n_bytes)

        result = _Findings(Actions(site, orphans, strays, repair=repair), progress, as_json=as_json)
        files, known = _files(site, pool), site.index.missing
        for finding in verify(site.pools, files, known, bytes_per_s, show, stopped.is_set, places=site.places):
            result.add(finding)
        progress.end()
        result.print_summary(last, complete=not stopped.is_set())
        if stopped.is_set():
            return INTERRUPTED
        return 1 if result.n else os.EX_OK


def _files(site: Site, pool: str) -> Iterator[tuple[int, StoredFile]]:
    """Files of instances with the instance's number, then files set aside with 0."""
    cursor: FilesCursor | None = START
    while cursor is not None:
        page, cursor = site.index.files(cursor, _PAGE)
        for located in page:
            if pool in ("", located.file.pool):
                yield located.instance_id, located.file
    after = 0
    while aside := site.index.set_aside(after, _PAGE):
        after = aside[-1].set_aside_id
        for one in aside:
            if pool in ("", one.file.pool):
                yield 0, one.file


class _Findings:
    """Prints findings as they come, or keeps them for the JSON object. One thread."""

    def __init__(self, actions: Actions, progress: Progress, *, as_json: bool) -> None:
        self._actions = actions
        self._progress = progress
        self._as_json = as_json
        self._counts: Counter[str] = Counter()
        self._listed: list[dict[str, object]] = []

    @property
    def n(self) -> int:
        """How many there are."""
        return self._counts.total()

    def add(self, finding: Finding) -> None:
        """Take one, and do about it what was asked for."""
        if not self._actions.still_holds(finding):
            return
        self._counts[finding.kind.value] += 1
        done = self._actions.act(finding)
        if self._as_json:
            if len(self._listed) < MAX_LISTED:
                self._listed.append(_as_row(finding, done))
            return
        self._progress.end()
        print(
            f"{finding.kind.value}: {finding.pool}:{finding.path}"
            + (f" ({finding.comment})" if finding.comment else "")
        )
        print(f"    {done or ADVICE[finding.kind]}", flush=True)

    def print_summary(self, report: ScrubReport, *, complete: bool) -> None:
        """Print what it came to."""
        if self._as_json:
            summary = {
                "n_files": report.n_files,
                "n_bytes": report.n_bytes,
                "n_directories": report.n_directories,
                "n_findings": self.n,
                "counts": dict(self._counts),
                "complete": complete,
                "findings": self._listed,
                "findings_left_off": self.n - len(self._listed),
            }
            print(json.dumps(summary))
            return
        words = ", ".join(f"{number:,} {kind}" for kind, number in self._counts.most_common()) or "all sound"
        print(f"{report.n_files:,} files, {report.n_bytes / 1e6:,.1f} MB, {report.n_directories:,} folders: {words}")
        if not complete:
            print("pacsd: stopped before the end", file=sys.stderr)


def _as_row(finding: Finding, done: str) -> dict[str, object]:
    return {
        "kind": finding.kind.value,
        "pool": finding.pool,
        "path": finding.path,
        "instance": finding.file_id,
        "comment": finding.comment,
        "done": done,
        "advice": ADVICE[finding.kind],
    }
