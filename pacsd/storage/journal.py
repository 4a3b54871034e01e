"""Open directories and the seal journal: which folders may hold files that the index doesn't know yet.

Every worker fills folders of its own, one per pool at a time. Before a folder is used, a small file that
names it is durable in the pool's `journal/`; the worker holds it with flock for as long as it lives. A
journal file whose lock can be taken is therefore a dead worker's, and `recover` looks at that one folder
only.

The file goes when the folder is full (or its day is over), every object sealed in it is settled (has its
row, or was removed), none is durable by the seal log only, and the index has made those rows durable. See
docs/adr/0002 and 0010.
"""

# One call is one system call here, on paths that are joined once.
# ruff: noqa: PTH102, PTH104, PTH106, PTH108

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable

from pacsd.storage.pool import DIRECTORY_MODE, JOURNAL, OBJECTS, Pool, sync_directory
from pacsd.storage.writeback import write_all

MAX_FILES = 2048
_DAY_S = 86400


class OpenDirectory:
    """One folder being filled by this worker. Any thread.

    An object reserves a slot, writes `.<slot>.part`, and is published under its digest. From then on it is
    pending until it is settled or removed; a folder with pending objects keeps its journal file.
    """

    __slots__ = (
        "_journal_fd", "_lock", "_n_logs", "_n_open", "_pending", "_recorded", "closed", "day", "fd", "journal_path",
        "n_reserved", "path", "pool", "pool_failures",
    )  # fmt: skip

    def __init__(self, pool: Pool, path: str, fd: int, journal_path: str, journal_fd: int, day: int) -> None:
        self.pool = pool
        self.pool_failures = pool.n_failures
        self.path = path
        self.fd = fd
        self.journal_path = journal_path
        self.day = day
        self.closed = False
        self.n_reserved = 0
        self._journal_fd = journal_fd
        self._lock = threading.Lock()
        self._n_logs = 0
        self._n_open = 0
        self._pending: dict[bytes, int] = {}
        self._recorded: set[bytes] = set()

    def reserve(self) -> str:
        """Name of a new part file. Called under the journal's lock."""
        self.n_reserved += 1
        with self._lock:
            self._n_open += 1
        return f".{self.n_reserved}.part"

    def release(self) -> None:
        """A reserved slot won't be published."""
        with self._lock:
            self._n_open -= 1

    def publish(self, part: str, digest: bytes) -> bool:
        """Rename a part file to its final name; ends its slot. False: sync the part, then rename it yourself.

        The folder holds that very file then, and a row may name it: it may be replaced only by one that is durable
        already. The name counts once more, so that it outlives the removal of one of the two. Raises OSError.
        """
        name = digest.hex() + ".dcm"
        with self._lock:
            count = self._pending.get(digest, 0)
            present = bool(count) or digest in self._recorded
            if present:
                present = os.access(name, os.F_OK, dir_fd=self.fd)
            if not present:
                os.rename(part, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            self._pending[digest] = count + 1
            self._n_open -= 1
        return not present

    def settle(self, digest: bytes) -> None:
        """The index has a row for one published object."""
        with self._lock:
            self._end_pending(digest)
            self._recorded.add(digest)

    def withdraw(self, digest: bytes) -> None:
        """Remove one published object, unless another with the same bytes stands on it. Raises OSError."""
        with self._lock:
            was_pending = self._end_pending(digest)
            if digest in self._pending or (was_pending and digest in self._recorded):
                return
            self._recorded.discard(digest)
            try:
                os.unlink(digest.hex() + ".dcm", dir_fd=self.fd)
            except FileNotFoundError:
                return

    def depend(self, n: int = 1) -> None:
        """Some files here are durable by one more segment of the seal log only; -1: by one less."""
        with self._lock:
            self._n_logs += n

    def replace(self, part: str, digest: bytes) -> None:
        """Rename a durable part file over a published file, or drop it when that was removed. Raises OSError."""
        name = digest.hex() + ".dcm"
        with self._lock:
            if os.access(name, os.F_OK, dir_fd=self.fd):
                os.rename(part, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            else:
                os.unlink(part, dir_fd=self.fd)

    def _end_pending(self, digest: bytes) -> bool:
        count = self._pending.get(digest, 0)
        if count > 1:
            self._pending[digest] = count - 1
        elif count:
            del self._pending[digest]
        return count > 0

    def is_settled(self) -> bool:
        """Closed, with nothing being written, nothing waiting for its row and nothing that only the seal log holds."""
        with self._lock:
            return self.closed and not self._n_open and not self._n_logs and not self._pending

    def retire(self) -> None:
        """Remove the journal file: the index knows all of this folder durably. Raises OSError.

        Not synced: should the file come back after a power cut, recovery finds nothing to do.
        """
        with contextlib.suppress(OSError):
            # works for an empty folder only
            os.rmdir(self.pool.path(self.path))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.journal_path)
        self.abandon()

    def abandon(self) -> None:
        """Give the lock up and leave the journal file to the next start."""
        os.close(self.fd)
        os.close(self._journal_fd)


class Journal:
    """One worker's open directory in one pool, replaced when full or at midnight UTC. Any thread.

    Args:
        run: short random id of this worker process.
        opened: called with each new directory.
        utc: seconds since the epoch.
    """

    def __init__(
        self,
        pool: Pool,
        run: str,
        opened: Callable[[OpenDirectory], None],
        *,
        max_files: int = MAX_FILES,
        utc: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._run = run
        self._opened = opened
        self._max_files = max_files
        self._utc = utc
        self._lock = threading.Lock()
        self._current: OpenDirectory | None = None
        self._n_directories = 0

    def reserve(self) -> tuple[OpenDirectory, str]:
        """A directory and the name of a new part file in it. Raises OSError, PoolUnavailable."""
        day = int(self._utc()) // _DAY_S
        with self._lock:
            current = self._current
            if current is None or self._is_over(current, day):
                self._close_current()
                current = self._current = self._open(day)
                self._opened(current)
            return current, current.reserve()

    def close_if_over(self) -> None:
        """Close the directory when it is full or its day is over, though nothing was written since."""
        with self._lock:
            if self._current is not None and self._is_over(self._current, int(self._utc()) // _DAY_S):
                self._close_current()

    def close(self) -> None:
        """Take no more objects into the present directory; the next reservation opens another."""
        with self._lock:
            self._close_current()

    def _is_over(self, directory: OpenDirectory, day: int) -> bool:
        """Full, of another day, or on a pool that has failed since: its descriptor may be of a disk that is gone."""
        return (
            directory.n_reserved >= self._max_files
            or directory.day != day
            or directory.pool_failures != self._pool.n_failures
        )

    def _close_current(self) -> None:
        if self._current is not None:
            self._current.closed = True
            self._current = None

    def _open(self, day: int) -> OpenDirectory:
        self._pool.open()
        self._n_directories += 1
        name = f"{self._run}-{self._n_directories}"
        date = time.strftime("%Y/%m/%d", time.gmtime(day * _DAY_S))
        path = f"{OBJECTS}/{date}/{name}"
        journal_path = self._pool.path(f"{JOURNAL}/{name}")
        journal_fd = _write_entry(journal_path, path)
        try:
            _make_directory(self._pool, path)
            fd = os.open(self._pool.path(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            _drop_entry(journal_fd, journal_path)
            raise
        return OpenDirectory(self._pool, path, fd, journal_path, journal_fd, day)


def _write_entry(journal_path: str, directory: str) -> int:
    """Make a journal file, locked before it can be seen; returns its descriptor."""
    folder, name = os.path.split(journal_path)
    draft = f"{folder}/.{name}.new"
    fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        text = f"{directory}\n".encode()
        write_all(fd, [text], len(text))
        os.fsync(fd)
        os.rename(draft, journal_path)
    except OSError:
        _drop_entry(fd, draft)
        raise
    try:
        sync_directory(folder)
    except OSError:
        _drop_entry(fd, journal_path)
        raise
    return fd


def _drop_entry(fd: int, path: str) -> None:
    """Take back an entry whose folder isn't used; what can't be removed now is removed by `recover`."""
    with contextlib.suppress(OSError):
        os.unlink(path)
    os.close(fd)


def _make_directory(pool: Pool, path: str) -> None:
    """Make a folder and what is missing above it; every new entry is durable."""
    parts = path.split("/")
    for depth in range(2, len(parts) + 1):
        parent = pool.path("/".join(parts[: depth - 1]))
        try:
            os.mkdir(pool.path("/".join(parts[:depth])), DIRECTORY_MODE)
        except FileExistsError:
            if depth == len(parts):
                raise
        # also when another worker made it: its own fsync may not have happened yet
        sync_directory(parent)
