"""`pacsd import`: folders, CDs and files of elsewhere into the archive."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from pacsd.cli.arguments import Subparsers, add_config
from pacsd.cli.offline.import_report import Tally
from pacsd.cli.offline.interrupt import INTERRUPTED, stop_signal
from pacsd.cli.offline.progress import Progress
from pacsd.config.load import load
from pacsd.model.errors import PacsError
from pacsd.storage.foreign import Candidate, EncodeMeta, OpenedFile, candidates
from pacsd.workflow.importing import Importer, Taken, Unfit

_MAX_GROUP_FILES = 64
_MAX_GROUP_BYTES = 32 << 20
_CHECKPOINT_S = 60.0
_TICK_S = 0.25

_DESCRIPTION = """\
Take files into the archive: single files, folder trees, and CDs with or without a
DICOMDIR (given a DICOMDIR, its whole medium). Every file goes the way of a received
object and is kept with its data set's bytes as they are; what isn't DICOM is skipped
and counted by its reason. Servers may run meanwhile. An import that broke off is
simply run again: what is held isn't stored twice.
"""
_STATUS = """\
exit status: 0 all taken or held, 65 nothing to import, 66 no such path, 74 some files
can't be read or a DICOMDIR lists more than is there, 75 some couldn't be stored now
(disk full, database away: run it again), 130 ended by Ctrl-C behind the running group
"""


def add_parser(subparsers: Subparsers) -> None:
    """Describe the verb."""
    parser = subparsers.add_parser(
        "import",
        help="take in files, folders and CDs",
        description=_DESCRIPTION,
        epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file, a folder or a DICOMDIR")
    add_config(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, write nothing")
    parser.add_argument("--workers", type=_workers, default=min(4, os.cpu_count() or 1), metavar="N",
                        help="groups of files that are taken at once, 1 to 32 (default: %(default)s)")  # fmt: skip
    parser.add_argument("--report", type=Path, metavar="FILE", help="JSON lines of all files not plainly stored")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(run=run)


def _workers(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 32:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to 32")
    return number


def run(args: argparse.Namespace) -> int:
    """Import; see the exit status in the help.

    Raises:
        ConfigError, PacsError: before anything was taken.
    """
    # The database and the DICOM encoding take a while to load; `pacsd --help` does without them.
    from pacsd.cli.offline.site import opened_site
    from pacsd.dicom.wire.part10 import encode_file_meta

    config = load(args.config)
    absent = [path for path in args.paths if not os.path.lexists(path)]
    if absent:
        for path in absent:
            print(f"pacsd: {path}: no such file or folder", file=sys.stderr)
        return os.EX_NOINPUT
    with opened_site(config) as site, Tally(args.report) as tally, stop_signal() as stopped:
        if not args.dry_run:
            site.recover()
        importer = Importer(site.files, site.index, site.ingest, _opener(encode_file_meta), time.time)
        groups = _Groups(importer, args, tally, stopped, lambda: site.files.checkpoint(site.index.checkpoint))
        groups.take_all()
        interrupted = stopped.is_set()
        tally.print_summary(as_json=args.json, dry_run=args.dry_run, complete=not interrupted and not tally.trouble)
    if interrupted:
        return INTERRUPTED
    return tally.status()


def _opener(encode: EncodeMeta) -> Callable[[str], OpenedFile]:
    return lambda path: OpenedFile(path, encode)


class _Groups:
    """Runs groups of files in threads, a bounded number ahead of what is done. The command's thread."""

    def __init__(
        self,
        importer: Importer,
        args: argparse.Namespace,
        tally: Tally,
        stopped: threading.Event,
        checkpoint: Callable[[], object],
    ) -> None:
        self._importer = importer
        self._args = args
        self._tally = tally
        self._stopped = stopped
        self._checkpoint = checkpoint
        self._checkpoint_at = time.monotonic() + _CHECKPOINT_S
        self._progress = Progress(wanted=not args.json)
        self._survey = Survey(args.paths)

    def take_all(self) -> None:
        """Until everything is done, a stop is asked for, or nothing can be stored any more."""
        if self._progress.is_shown:
            self._survey.start()
        groups = self._groups()
        running: set[Future[list[Taken]]] = set()
        with ThreadPoolExecutor(self._args.workers, "import") as threads:
            more = True
            while more or running:
                while more and len(running) < self._args.workers + 1:
                    group = None if self._is_over() else next(groups, None)
                    if group is None:
                        more = False
                    else:
                        running.add(threads.submit(self._take, group))
                done, running = wait(running, _TICK_S, FIRST_COMPLETED) if running else (set(), running)
                for future in done:
                    self._tally.add_group(future.result())
                self._tick()
        self._progress.end()

    def _is_over(self) -> bool:
        return self._stopped.is_set() or bool(self._tally.trouble)

    def _take(self, group: list[str]) -> list[Taken]:
        """Worker thread. The trouble of a whole group is that of each of its files."""
        try:
            return self._importer.take(group, dry=self._args.dry_run)
        except PacsError as error:
            return [Taken(path, error=error) for path in group]

    def _groups(self) -> Iterator[list[str]]:
        group: list[str] = []
        n_bytes = 0
        for candidate in candidates(self._args.paths):
            if candidate.is_absent:
                self._tally.add(Taken(candidate.path, unfit=Unfit.ABSENT))
                continue
            if group and (len(group) >= _MAX_GROUP_FILES or n_bytes + candidate.size_bytes > _MAX_GROUP_BYTES):
                yield group
                group, n_bytes = [], 0
            group.append(candidate.path)
            n_bytes += candidate.size_bytes
        if group:
            yield group

    def _tick(self) -> None:
        tally, survey = self._tally, self._survey
        self._progress.show(tally.n_files, tally.n_bytes, survey.n_files, 0)
        now = time.monotonic()
        if now >= self._checkpoint_at:
            self._checkpoint_at = now + _CHECKPOINT_S
            try:
                self._checkpoint()
            except PacsError:
                return  # the journal stays a minute longer


class Survey:
    """Counts what is to be imported, beside the import, so that the time left can be told."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths
        self.n_files = 0
        """0 until everything was counted."""

    def start(self) -> None:
        """Count in a thread that doesn't outlive the command."""
        threading.Thread(target=self._count, name="survey", daemon=True).start()

    def _count(self) -> None:
        def is_file(candidate: Candidate) -> bool:
            return not candidate.is_absent

        self.n_files = sum(1 for _ in filter(is_file, candidates(self._paths)))
