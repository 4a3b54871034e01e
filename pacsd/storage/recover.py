"""After a crash: finding what was sealed but may have no row, and making a whole index from the pools alone.

`recover` looks at the directories of dead workers only (see `journal`). First their seal logs are replayed (see
`seallog_recover`). Then for each directory: part files go, files that
the index lacks are proven by their digest, made durable and adopted; what doesn't fit its name is moved
aside; what the index names in another place (it was sent again while this worker was dead) goes if that
copy is proven. Then the index makes its rows durable, and only then the journal file goes. Killed at any point, it
is simply run again.
"""

# One call is one system call here, on paths that are joined once.
# ruff: noqa: PTH104, PTH108, PTH116, PTH123, PTH208

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from pacsd.model.errors import IntegrityError, OutOfResources
from pacsd.model.objects import ObjectHeader, StoredFile
from pacsd.storage.header import read_file_header
from pacsd.storage.pool import JOURNAL, QUARANTINE, Pool, PoolUnavailable, errno_text, sync_directory
from pacsd.storage.reader import file_digest
from pacsd.storage.seallog_recover import has_log, replay_logs
from pacsd.storage.walk import batches, is_object_directory, list_directory, object_directories

Missing = Callable[[Sequence[bytes]], set[bytes]]
"""Digests -> those of them that no index row names."""
Places = Callable[[Sequence[bytes]], Mapping[bytes, Sequence[StoredFile]]]
"""Digests -> every file that some row names, by digest; a digest that no row has is absent."""
Adopt = Callable[[StoredFile, ObjectHeader], None]
"""Take a proven file into the index as if received now; one that is there already is no error."""

_ENTRY_NAME = re.compile(r"[0-9A-Za-z_]+-[0-9]+")
_DRAFT_NAME = re.compile(r"\.[0-9A-Za-z_]+-[0-9]+\.new")
_DRAFT_AGE_S = 60.0
_MAX_ENTRIES_AT_ONCE = 64


@dataclass(slots=True)
class RecoveryReport:
    """What was done so far; handed to `progress` after each directory.

    `pool` and `directory` name the one just finished.
    """

    pool: str = ""
    directory: str = ""
    n_directories: int = 0
    n_files: int = 0
    n_restored: int = 0
    """Files written anew from a dead worker's seal log."""
    n_adopted: int = 0
    n_quarantined: int = 0
    n_left_out: int = 0
    n_parts_removed: int = 0
    n_strays_removed: int = 0
    n_strays_kept: int = 0
    """Second copies of what a row names elsewhere, where that other copy can't be proven now; `scrub` lists them."""
    n_pools_unavailable: int = 0
    n_entries_unreadable: int = 0
    """Journal files that name no object directory; they stay, for a person to look at."""


Progress = Callable[[RecoveryReport], None]


def recover(
    pools: Iterable[Pool],
    missing: Missing,
    adopt: Adopt,
    progress: Progress = lambda _: None,
    checkpoint: Callable[[], None] = lambda: None,
    *,
    places: Places | None = None,
) -> RecoveryReport:
    """Bring the directories of dead workers and the index to one state. Blocks; several processes may run it.

    Args:
        checkpoint: makes the adopted rows durable; called before journal files are removed.
        places: finds second copies; without it a known digest is taken as settled wherever its file lies.

    A pool that is away or fails is counted in `n_pools_unavailable` and keeps its journal: run it again
    when the pool is back. Read-only pools are left alone. Whatever `adopt`, `missing` and `checkpoint`
    raise comes through, with the journal still there.
    """
    everywhere = {pool.name: pool for pool in pools}
    recovery = _Recovery(everywhere, missing, adopt, places)
    report = recovery.report
    for pool in everywhere.values():
        if pool.read_only:
            continue
        try:
            pool.open()
            _recover_pool(pool, recovery, progress, checkpoint)
        except PoolUnavailable:
            report.n_pools_unavailable += 1
        except OSError as error:
            pool.fail(error)
            report.n_pools_unavailable += 1
    return report


def rebuild(
    pools: Iterable[Pool],
    adopt: Adopt,
    progress: Progress = lambda _: None,
    *,
    after: tuple[str, str] = ("", ""),
    check_digests: bool = True,
) -> RecoveryReport:
    """Hand every sealed file of every pool to `adopt`, in a fixed order. Memory: one directory.

    Args:
        after: (pool, directory) of the last finished report of a broken-off run; ('', '') begins at the
        beginning.
        check_digests: read every file whole; without it only its head is read and the name is believed. A
        file
            that fails is counted in `n_left_out`.

    Raises:
        OutOfResources, PoolUnavailable: go on from the last report when the cause is gone.
    """
    report = RecoveryReport()
    skipping = after[0]
    for pool in pools:
        if skipping and pool.name != skipping:
            continue
        pool.open()
        try:
            for path in object_directories(pool, after[1] if pool.name == skipping else ""):
                _rebuild_directory(pool, path, adopt, report, check_digests=check_digests)
                report.pool, report.directory = pool.name, path
                report.n_directories += 1
                progress(report)
        except OSError as error:
            raise OutOfResources(f"pool {pool.name}: {errno_text(error)}") from error
        skipping = ""
    return report


def _rebuild_directory(pool: Pool, path: str, adopt: Adopt, report: RecoveryReport, *, check_digests: bool) -> None:
    for digest in list_directory(pool.path(path)).digests:
        file = StoredFile(pool.name, path, digest, 0)
        full_path = pool.path(file.path)
        report.n_files += 1
        try:
            fits = not check_digests or file_digest(full_path)[0] == digest
            header, _ = read_file_header(full_path)
        except (IntegrityError, FileNotFoundError):
            fits = False
        if not fits:
            report.n_left_out += 1
            continue
        adopt(StoredFile(pool.name, path, digest, os.stat(full_path).st_size), header)
        report.n_adopted += 1


def _recover_pool(pool: Pool, recovery: _Recovery, progress: Progress, checkpoint: Callable[[], None]) -> None:
    """Entries in groups, each with its checkpoint: a long list of dead workers needs few descriptors."""
    report = recovery.report
    folder = pool.path(JOURNAL)
    report.n_restored += replay_logs(pool, _take_entry)
    names = sorted(name for name in os.listdir(folder) if _is_entry(folder, name))
    for start in range(0, len(names), _MAX_ENTRIES_AT_ONCE):
        held: list[tuple[str, int]] = []
        try:
            for name in names[start : start + _MAX_ENTRIES_AT_ONCE]:
                fd = _take_entry(f"{folder}/{name}")
                if fd is None:
                    continue
                if _is_logged(pool, name, report):
                    os.close(fd)
                    continue
                held.append((name, fd))
                if name.startswith("."):
                    continue
                path = os.pread(fd, 512, 0).decode("ascii", "replace").strip()
                if not is_object_directory(path):
                    report.n_entries_unreadable += 1
                    held.pop()
                    os.close(fd)
                    continue
                recovery.directory(pool, path)
                report.pool, report.directory = pool.name, path
                report.n_directories += 1
                progress(report)
            if held:
                checkpoint()
            for name, _ in held:
                os.unlink(f"{folder}/{name}")
        finally:
            for _, fd in held:
                os.close(fd)
        if held:
            sync_directory(folder)


def _is_logged(pool: Pool, name: str, report: RecoveryReport) -> bool:
    """Whether another process is still at this worker's seal log; one that has died meanwhile is replayed here."""
    if has_log(pool, name):
        report.n_restored += replay_logs(pool, _take_entry)
        return has_log(pool, name)
    return False


def _is_entry(folder: str, name: str) -> bool:
    """A journal file, or the draft of one whose worker died before using it.

    Between its making and its lock a draft of a living worker is free for an instant, so a young one is let
    be.
    """
    if _ENTRY_NAME.fullmatch(name):
        return True
    if not _DRAFT_NAME.fullmatch(name):
        return False
    try:
        return time.time() - os.stat(f"{folder}/{name}").st_mtime > _DRAFT_AGE_S
    except FileNotFoundError:
        return False


def _take_entry(path: str) -> int | None:
    """Lock a journal file whose worker is dead; None when it lives, or another process was faster."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        here, there = os.fstat(fd), os.stat(path)
    except (BlockingIOError, FileNotFoundError):
        os.close(fd)
        return None
    except OSError:
        os.close(fd)
        raise
    if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
        os.close(fd)
        return None
    return fd


class _Recovery:
    """What becomes of each file of a dead worker's directory."""

    def __init__(self, pools: Mapping[str, Pool], missing: Missing, adopt: Adopt, places: Places | None) -> None:
        self.report = RecoveryReport()
        self._pools = pools
        self._missing = missing
        self._adopt = adopt
        self._places = places

    def directory(self, pool: Pool, path: str) -> None:
        """Part files go; what the index lacks is adopted or moved aside, second copies are removed."""
        folder = pool.path(path)
        try:
            listing = list_directory(folder)
        except FileNotFoundError:
            return
        for part in listing.parts:
            os.unlink(f"{folder}/{part}")
            self.report.n_parts_removed += 1
        self.report.n_files += len(listing.digests)
        if listing.digests:
            sync_directory(folder)
        for digests in batches(listing.digests):
            lacking = self._missing(digests)
            places = self._places(digests) if self._places is not None else {}
            for digest in digests:
                if digest in lacking:
                    self._adopt_or_move(pool, path, digest)
                elif digest in places and not is_named(places[digest], pool.name, path):
                    self._settle_stray(pool, path, digest, places[digest])

    def _adopt_or_move(self, pool: Pool, path: str, digest: bytes) -> None:
        full_path = pool.path(StoredFile(pool.name, path, digest, 0).path)
        try:
            found, size_bytes = file_digest(full_path)
        except IntegrityError:
            # removed since the directory was listed: by a later run of recovery, or by hand
            return
        file = StoredFile(pool.name, path, digest, size_bytes)
        if found != digest:
            quarantine(pool, file, "its bytes don't fit its name: it was never completely on disk")
            self.report.n_quarantined += 1
            return
        header, _ = read_file_header(full_path)
        _sync_file(full_path)
        self._adopt(file, header)
        self.report.n_adopted += 1

    def _settle_stray(self, pool: Pool, path: str, digest: bytes, named: Sequence[StoredFile]) -> None:
        """A copy that no row names goes if a named one is proven, and takes the place of named ones that are gone."""
        states = {condition(self._pools, file) for file in named}
        if Condition.INTACT in states:
            os.unlink(pool.path(StoredFile(pool.name, path, digest, 0).path))
            self.report.n_strays_removed += 1
        elif states == {Condition.GONE}:
            self._adopt_or_move(pool, path, digest)
        else:
            self.report.n_strays_kept += 1


class Condition(Enum):
    """What is known of a stored file."""

    INTACT = "intact"
    GONE = "gone"
    UNPROVEN = "unproven"
    """Damaged, unreadable, or its pool is away: nothing may be thrown away for its sake."""


def condition(pools: Mapping[str, Pool], file: StoredFile) -> Condition:
    """Prove a stored file by reading it whole. Args: pools: by name."""
    pool = pools.get(file.pool)
    if pool is None:
        return Condition.UNPROVEN
    try:
        pool.open()
        found = file_digest(pool.path(file.path))
    except IntegrityError:
        return Condition.GONE
    except OutOfResources:
        return Condition.UNPROVEN
    return Condition.INTACT if found == (file.digest, file.size_bytes) else Condition.UNPROVEN


def is_named(files: Sequence[StoredFile], pool: str, directory: str) -> bool:
    """Whether one of some files lies in this place."""
    return any((file.pool, file.directory) == (pool, directory) for file in files)


def quarantine(pool: Pool, file: StoredFile, reason: str) -> None:
    """Move a file out of the objects, with its reason beside it. Raises OSError.

    Nothing is overwritten: a second one of that name gets a number.
    """
    folder = pool.path(QUARANTINE)
    stem = file.digest.hex()
    n_before = sum(name.startswith(stem) and name.endswith(".dcm") for name in os.listdir(folder))
    target = f"{folder}/{stem}{f'.{n_before}' if n_before else ''}"
    with open(f"{target}.txt", "w", encoding="utf-8") as note:
        note.write(f"from: {file.path}\nreason: {reason}\n")
    os.rename(pool.path(file.path), f"{target}.dcm")
    sync_directory(folder)
    sync_directory(pool.path(file.directory))


def _sync_file(path: str) -> None:
    """A killed worker's file may be complete in memory only; a row must not precede its bytes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
