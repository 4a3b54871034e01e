"""Comparing the pools with the index, both ways: every digest, missing files, files that no row names.

Used by `pacsd verify` and by the background check. Findings come one by one as they are met; the position
in the report lets a broken-off run go on.
"""

# One call is one system call here, on paths that are joined once.
# ruff: noqa: PTH108, PTH116

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from pacsd.model.errors import Cancelled, IntegrityError, OutOfResources
from pacsd.model.objects import StoredFile
from pacsd.storage.pool import OBJECTS, Pool, PoolUnavailable, errno_text
from pacsd.storage.pools import Pools
from pacsd.storage.reader import file_digest
from pacsd.storage.recover import Condition, Missing, Places, condition, is_named
from pacsd.storage.walk import batches, list_directory, object_directories

_BURST_S = 0.25
_PART_AGE_S = 86400.0
_ORPHAN_AGE_S = 60.0
"""A younger file may be on its way into the index."""


class FindingKind(Enum):
    """What is wrong with one file."""

    MISSING = "missing"
    """A row names it, the pool hasn't it."""
    DAMAGED = "damaged"
    """Its bytes differ from its digest."""
    UNREADABLE = "unreadable"
    """The disk gives an error, or the pool is away."""
    ORPHAN = "orphan"
    """No row has its digest, and it is older than a minute."""
    STRAY = "stray"
    """A second copy: rows name these bytes, but in other places, and it is older than a minute."""
    LEFTOVER = "leftover"
    """A part file older than a day, or a name that no worker gives."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong: `path` below the pool's root, `file_id` of the index, 0 without a row."""

    kind: FindingKind
    pool: str
    path: str
    file_id: int = 0
    comment: str = ""


@dataclass(slots=True)
class ScrubReport:
    """How far it is. To go on: files behind `last_id`, directories behind (`pool`, `directory`)."""

    n_files: int = 0
    n_bytes: int = 0
    n_directories: int = 0
    n_findings: int = 0
    last_id: int = 0
    pool: str = ""
    directory: str = ""


class Throttle:
    """Keeps reading below a rate, in bytes per second; 0: no limit. One thread.

    Args:
        cancelled: asked before every piece.
    """

    def __init__(
        self,
        bytes_per_s: float,
        cancelled: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self._cancelled = cancelled
        self._clock = clock
        self._sleep = sleep
        self._due_at = clock()

    def __call__(self, n_bytes: int) -> None:
        """Account for what was read. Raises errors.Cancelled."""
        if self._cancelled():
            raise Cancelled("stopped")
        if self._bytes_per_s <= 0:
            return
        now = self._clock()
        self._due_at = max(self._due_at, now - _BURST_S) + n_bytes / self._bytes_per_s
        while (wait := self._due_at - self._clock()) > 0:
            if self._cancelled():
                raise Cancelled("stopped")
            self._sleep(min(wait, 1.0))


def verify(
    pools: Pools,
    files: Iterable[tuple[int, StoredFile]],
    known: Missing,
    rate_bytes_per_s: float = 0,
    progress: Callable[[ScrubReport], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
    *,
    after: tuple[str, str] = ("", ""),
    throttle: Throttle | None = None,
    utc: Callable[[], float] = time.time,
    places: Places | None = None,
) -> Iterator[Finding]:
    """Check every file of the index, then look for files without a row; ends early on `cancelled`.

    Args:
        files: (id, file) by rising id, as the index pages them; begin behind a former `last_id` to go on.
        known: digests -> those that no row has.
        after: (pool, directory) behind which the search for orphans begins.
        places: finds strays; without it a known digest is right wherever its file lies.
    """
    report = ScrubReport()
    pace = throttle or Throttle(rate_bytes_per_s, cancelled)
    try:
        for finding in _findings(pools, files, known, pace, progress, report, after, utc, places):
            report.n_findings += 1
            yield finding
    except Cancelled:
        progress(report)


def _findings(
    pools: Pools,
    files: Iterable[tuple[int, StoredFile]],
    known: Missing,
    pace: Throttle,
    progress: Callable[[ScrubReport], None],
    report: ScrubReport,
    after: tuple[str, str],
    utc: Callable[[], float],
    places: Places | None,
) -> Iterator[Finding]:
    for file_id, file in files:
        finding = check_file(pools, file_id, file, pace)
        if finding is not None:
            yield finding
        report.n_files += 1
        report.n_bytes += file.size_bytes
        report.last_id = file_id
        progress(report)
    skipping = after[0]
    for pool in pools:
        if skipping and pool.name != skipping:
            continue
        try:
            pool.open()
            for path in object_directories(pool, after[1] if pool.name == skipping else ""):
                pace(0)
                yield from _orphans(pool, path, known, places, utc())
                report.n_directories += 1
                report.pool, report.directory = pool.name, path
                progress(report)
        except OSError as error:
            yield Finding(FindingKind.UNREADABLE, pool.name, OBJECTS, comment=errno_text(error))
        except PoolUnavailable as error:
            yield Finding(FindingKind.UNREADABLE, pool.name, OBJECTS, comment=error.comment)
        skipping = ""


def check_file(pools: Pools, file_id: int, file: StoredFile, throttle: Callable[[int], None]) -> Finding | None:
    """Read one file whole; None when it is as its row says."""
    try:
        digest, size = file_digest(pools.path(file), throttle)
    except IntegrityError as error:
        # an unmounted disk has no files at all: that is the pool's trouble, not each file's
        try:
            pools[file.pool].open()
        except PoolUnavailable as away:
            return Finding(FindingKind.UNREADABLE, file.pool, file.path, file_id, away.comment)
        return Finding(FindingKind.MISSING, file.pool, file.path, file_id, error.comment)
    except OutOfResources as error:
        return Finding(FindingKind.UNREADABLE, file.pool, file.path, file_id, error.comment)
    if size != file.size_bytes:
        comment = f"{size} bytes instead of {file.size_bytes}"
        return Finding(FindingKind.DAMAGED, file.pool, file.path, file_id, comment)
    if digest != file.digest:
        return Finding(FindingKind.DAMAGED, file.pool, file.path, file_id, "bytes differ from the digest")
    return None


def _age_s(pool: Pool, path: str, now: float) -> float:
    """Seconds since a file was written; 0 when it has gone meanwhile."""
    try:
        return now - os.stat(pool.path(path)).st_mtime
    except FileNotFoundError:
        return 0.0


def _orphans(pool: Pool, path: str, known: Missing, places: Places | None, now: float) -> Iterator[Finding]:
    try:
        listing = list_directory(pool.path(path))
    except FileNotFoundError:
        return
    for digests in batches(listing.digests):
        # in the order of the directory, so that two runs print the same
        lacking = known(digests)
        named = places(digests) if places is not None else {}
        for digest in digests:
            file = StoredFile(pool.name, path, digest, 0)
            others = named.get(digest, ())
            is_stray = bool(others) and not is_named(others, pool.name, path)
            if not (digest in lacking or is_stray) or _age_s(pool, file.path, now) <= _ORPHAN_AGE_S:
                continue
            if is_stray:
                yield Finding(FindingKind.STRAY, pool.name, file.path, comment=f"named in {_words(others)}")
            else:
                yield Finding(FindingKind.ORPHAN, pool.name, file.path)
    for name in listing.strange:
        yield Finding(FindingKind.LEFTOVER, pool.name, f"{path}/{name}", comment="not a name of ours")
    for name in listing.parts:
        if _age_s(pool, f"{path}/{name}", now) > _PART_AGE_S:
            comment = "part file of a dead worker"
            yield Finding(FindingKind.LEFTOVER, pool.name, f"{path}/{name}", comment=comment)


def _words(files: Sequence[StoredFile]) -> str:
    return ", ".join(f"{file.pool}:{file.directory}" for file in files[:3])


def remove_stray(pools: Mapping[str, Pool], pool: str, path: str, named: Sequence[StoredFile]) -> bool:
    """Remove a second copy, if a file that a row names is proven now by its digest.

    Args:
        path: of the copy, below the root of `pool`. named: as `places` gives them.

    Returns:
        False: no named file could be proven, or the copy is itself named by now; nothing was done.

    Raises:
        OSError.
    """
    if is_named(named, pool, path.rpartition("/")[0]):
        return False
    if not any(condition(pools, file) is Condition.INTACT for file in named):
        return False
    os.unlink(pools[pool].path(path))
    return True
