"""`pacsd verify`: pools and index compared both ways, every digest read."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator

from pacsd.cli.arguments import Subparsers, add_config
from pacsd.cli.interrupt import INTERRUPTED, stop_signal
from pacsd.cli.progress import Progress
from pacsd.cli.site import Site, opened_site
from pacsd.cli.verify_actions import ADVICE, Actions
from pacsd.config.load import load
from pacsd.config.sections import Config
from pacsd.index.locations import START, FilesCursor
from pacsd.model.objects import StoredFile
from pacsd.storage.scrub import Finding, ScrubReport, verify

MAX_LISTED = 10_000
_PAGE = 1000

_DESCRIPTION = """\
Read every file that the index names and compare its digest, then look in the pools
for files that no row names. Nothing is changed unless it is asked for; each finding
says what can be done about it. Servers may run meanwhile; --rate leaves them room.
"""
_STATUS = (
    "exit status: 0 all is sound, 1 there are findings, 64 no such pool, 75 the database is away, 130 ended by Ctrl-C"
)


def add_parser(subparsers: Subparsers) -> None:
    """Describe the verb."""
    parser = subparsers.add_parser(
        "verify",
        help="compare pools and index, reading every file",
        description=_DESCRIPTION,
        epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser)
    parser.add_argument("--rate", type=float, default=0.0, metavar="MB/S", help="read no faster than this")
    parser.add_argument("--pool", default="", metavar="NAME", help="this pool only")
    parser.add_argument(
        "--orphans",
        choices=("list", "adopt", "quarantine"),
        default="list",
        help="files that no row names: make their rows, or move them to the pool's quarantine",
    )
    parser.add_argument(
        "--strays",
        choices=("list", "remove"),
        default="list",
        help="second copies that no row names: delete each that a proven named file makes needless",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="drop places with missing or damaged files where another copy is sound; let second copies stand for "
        "named files that are gone",
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare; see the exit status in the help. Raises ConfigError, PacsError."""
    config = load(args.config)
    if args.pool and not _is_configured(config, args.pool):
        print(f"pacsd: pool {args.pool} is not configured", file=sys.stderr)
        return os.EX_USAGE
    with opened_site(config, only_pool=args.pool) as site, stop_signal() as stopped:
        progress = Progress(wanted=not args.json)
        last = ScrubReport()

        def show(report: ScrubReport) -> None:
            nonlocal last
            last = report
            progress.show(report.n_files, report.n_bytes)

        findings = verify(
            site.pools, _files(site, args.pool), site.index.missing, args.rate * 1e6, show, stopped.is_set,
            places=site.places,
        )  # fmt: skip
        result = _Findings(Actions(site, args.orphans, args.strays, repair=args.repair), progress, as_json=args.json)
        for finding in findings:
            result.add(finding)
        progress.end()
        result.print_summary(last, complete=not stopped.is_set())
        if stopped.is_set():
            return INTERRUPTED
        return 1 if result.n else os.EX_OK


def _is_configured(config: Config, name: str) -> bool:
    return any(pool.name == name for pool in config.storage.pools)


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
