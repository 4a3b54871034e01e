"""How `pacsd index rebuild` goes over the pools, and where it goes on after a break."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from pathlib import Path

from pacsd.cli.offline.interrupt import INTERRUPTED, stop_signal
from pacsd.cli.offline.progress import Progress
from pacsd.cli.offline.site import Site, opened_site
from pacsd.config.sections import Config
from pacsd.index.database import create_or_upgrade
from pacsd.index.locations import START
from pacsd.model.errors import Cancelled
from pacsd.model.objects import ConflictRule, ObjectHeader, StoredFile
from pacsd.storage.recover import RecoveryReport, rebuild
from pacsd.workflow.adopting import Adoption

_STATE = "index-rebuild.json"


def rebuild_index(config: Config, url: str, *, force: bool, check_digests: bool) -> int:
    """Record every file of every pool in a database; returns the exit status.

    Raises: errors.PacsError when a pool or the database is away; what was done so far is kept.
    """
    create_or_upgrade(url)
    mark = Mark(config.state / _STATE, url)
    with opened_site(config, database_url=url) as site, stop_signal() as stopped:
        after = mark.load()
        is_empty = not site.index.files(START, 1)[0] and not site.index.set_aside(0, 1)
        if is_empty:
            after = ("", "")
        elif after == ("", "") and not force:
            advice = "--force adds what it lacks, --into URL makes another one"
            print(f"pacsd: the database holds instances already; {advice}", file=sys.stderr)
            return os.EX_CANTCREAT
        # What lies only in a dead process' seal log must be a file before the files are walked.
        site.recover()
        run = _Run(site, mark, stopped)
        try:
            report = rebuild(site.pools, run.adopt, run.finished, after=after, check_digests=check_digests)
        except Cancelled:
            print("pacsd: stopped; run it again to go on", file=sys.stderr)
            return INTERRUPTED
        finally:
            run.progress.end()
        mark.remove()
    run.print_summary(report)
    return 1 if report.n_left_out else os.EX_OK


class Mark:
    """The last directory whose rows are durable, for the next run over the same database."""

    def __init__(self, path: Path, url: str) -> None:
        self._path = path
        self._database = hashlib.sha256(url.encode()).hexdigest()

    def load(self) -> tuple[str, str]:
        """(pool, directory), ('', '') to begin at the beginning."""
        try:
            state = json.loads(self._path.read_text("utf-8"))
            if state["database"] == self._database:
                return str(state["pool"]), str(state["directory"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", ""
        return "", ""

    def save(self, pool: str, directory: str) -> None:
        """Remember; whole or not at all."""
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps({"database": self._database, "pool": pool, "directory": directory}), "utf-8")
        part.replace(self._path)

    def remove(self) -> None:
        """It is done."""
        self._path.unlink(missing_ok=True)


class _Run:
    def __init__(self, site: Site, mark: Mark, stopped: threading.Event) -> None:
        self._site = site
        self._mark = mark
        self._stopped = stopped
        self._n_files = 0
        self._n_bytes = 0
        self.progress = Progress()
        rule = ConflictRule(site.config.dicom.on_conflict)
        self.adoption = Adoption(site.index, site.files, rule, site.written_at)

    def adopt(self, file: StoredFile, header: ObjectHeader) -> None:
        """Take one file."""
        if self._stopped.is_set():
            raise Cancelled("stopped")
        self.adoption.add(self._site.instance_of(file, header))
        self._n_files += 1
        self._n_bytes += file.size_bytes
        self.progress.show(self._n_files, self._n_bytes)

    def finished(self, report: RecoveryReport) -> None:
        """A directory is through: make it durable before the mark says so."""
        self.adoption.flush()
        self._site.index.checkpoint()
        self._mark.save(report.pool, report.directory)

    def print_summary(self, report: RecoveryReport) -> None:
        adoption = self.adoption
        print(f"{report.n_files:,} files in {report.n_directories:,} folders: {adoption.n_new:,} new, "
              f"{adoption.n_known:,} known, {adoption.n_set_aside:,} set aside (`pacsd conflicts list`)")  # fmt: skip
        if report.n_left_out:
            print(
                f"pacsd: {report.n_left_out:,} damaged files were left out; `pacsd verify` names them", file=sys.stderr
            )
