"""The seal log: small objects become durable by one write into a file that is there already (docs/adr/0010).

A sealed file of its own costs a sync of its data, of its inode and of its directory. Here a group's objects are
written whole, one behind the other, into a segment whose blocks were allocated and written before: one fdatasync makes
all of them durable and moves no metadata. Their own files are written as ever, and readable at once, but their syncs
come later, for thousands together. After a crash `seallog_recover` makes from the log what didn't reach the disk.

Each worker has a log per pool, of two segments: one is written while the other's files are being made durable.

    <pool>/journal/<run>.log.<n>

A segment is held with flock, as the journal's files are; one whose lock can be taken is of a dead worker.
"""

# One call is one system call here, on paths that are joined once.
# ruff: noqa: PTH104, PTH108

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from pacsd.storage.durable import sync_each, sync_whole, write_durable
from pacsd.storage.journal import OpenDirectory
from pacsd.storage.pool import JOURNAL, Pool, sync_directory
from pacsd.storage.sealrecord import PAGE_BYTES, Record, encode, padded_bytes, read_record
from pacsd.storage.writeback import IOV_MAX, Buffer, skip_bytes, start_writeback, write_all

SEGMENT_BYTES = 32 << 20
GROUP_BYTES = 256 * 1024
"""A larger group is synced file by file: it shares its syncs already, and writing it twice would cost more."""
RESTORED_PART = ".0.part"
"""Name under which a file is written anew; the slots of a directory begin at 1."""
_IDLE_S = 5.0
_RETRY_S = 30.0
_N_SEGMENTS = 2
_ROOM = 8
"""Segments' worth of free space below which none is made: the rest is for objects."""
_ZEROS = bytes(1 << 20)


class Segment:
    """One preallocated file of a log. Its fields belong to the log's lock, save where a method says otherwise."""

    def __init__(self, path: str, fd: int, pool_failures: int) -> None:
        self.path = path
        self.fd = fd
        self.pool_failures = pool_failures
        self.generation = secrets.randbits(62)
        self.n_written = 0
        self.n_synced = 0
        self.is_syncing = False
        self.is_broken = False
        self.n_in_flight = 0
        """Groups that are written here and whose files aren't all in place yet."""
        self.last_at = 0.0
        self.retry_at = 0.0
        self.files: dict[OpenDirectory, dict[bytes, int]] = {}
        """Digest -> offset of its record, for each directory whose files depend on this segment."""

    def renew(self) -> None:
        """Begin a new generation; the old one's records are unreadable for good. Called by one thread. Raises OSError.

        Without that an object which was removed on purpose would come back after the next power cut.
        """
        os.pwrite(self.fd, _ZEROS[:PAGE_BYTES], 0)
        os.fdatasync(self.fd)
        self.generation += 1
        self.n_written = self.n_synced = 0
        self.files = {}

    def remove(self) -> None:
        """Delete the file: nothing depends on it."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        os.close(self.fd)


class LogGroup:
    """Objects written to a log together. Ends in exactly one `end`."""

    __slots__ = ("_log", "_offsets", "_segment", "_until")

    def __init__(self, log: SealLog, segment: Segment, until: int, offsets: dict[tuple[str, bytes], int]) -> None:
        self._log = log
        self._segment = segment
        self._until = until
        self._offsets = offsets

    def sync(self) -> None:
        """Wait until all of it is durable. Any thread. Raises OSError, after which nothing of it may be counted on."""
        self._log.sync(self._segment, self._until)

    def end(self, placed: Sequence[tuple[OpenDirectory, bytes]]) -> None:
        """Say which files are in place and depend on the log from now on; the others are no concern of it."""
        offsets = [(directory, digest, self._offsets[directory.path, digest]) for directory, digest in placed]
        self._log.end(self._segment, offsets)


class SealLog:
    """One worker's log in one pool. Any thread.

    Nothing is made before the pool is `wanted` and `flush` has been called: a worker that is never flushed has no log.

    Args:
        run: short random id of this worker process, as in the journal's names.
        segment_bytes: a multiple of 4 KiB.
        clock: monotonic seconds.
    """

    def __init__(
        self, pool: Pool, run: str, *, segment_bytes: int = SEGMENT_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool = pool
        self._run = run
        self._segment_bytes = segment_bytes
        self._clock = clock
        self._lock = threading.Condition()
        self._flushing = threading.Lock()
        self._active: Segment | None = None
        self._spare: Segment | None = None
        self._full: list[Segment] = []
        self._n_made = 0
        self._retry_at = 0.0
        self._closed = False
        self.wanted = False
        """Whether objects are being placed in this pool."""

    @property
    def is_ready(self) -> bool:
        """Whether `append` may take something; it's no promise."""
        return self._active is not None or self._spare is not None

    def append(self, records: Sequence[Record]) -> LogGroup | None:
        """Write a group and have the disk begin; None: it must be synced in the ordinary way.

        Everything that was appended before is in the file before it, so that a sync covers both.
        """
        with self._lock:
            segment = self._take_segment(sum(map(padded_bytes, records)))
            if segment is None:
                return None
            buffers: list[Buffer] = []
            offsets: dict[tuple[str, bytes], int] = {}
            until = segment.n_written
            for record in records:
                encoded, n_bytes = encode(record, segment.generation)
                offsets[record.directory, record.digest] = until
                buffers += encoded
                until += n_bytes
            try:
                _write_at(segment.fd, buffers, segment.n_written)
            except OSError:
                segment.is_broken = True
                return None
            start, segment.n_written = segment.n_written, until
            segment.n_in_flight += 1
            segment.last_at = self._clock()
        start_writeback(segment.fd, start, until - start)
        return LogGroup(self, segment, until, offsets)

    def sync(self, segment: Segment, until: int) -> None:
        """Wait until a segment is durable up to a place; one thread's fdatasync serves all that wait. Raises OSError.

        After a failure none is tried again: the kernel would say yes to bytes that it has given up.
        """
        with self._lock:
            while True:
                if segment.n_synced >= until:
                    return
                if segment.is_broken:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                if not segment.is_syncing:
                    break
                self._lock.wait()
            segment.is_syncing = True
            reached = segment.n_written
        try:
            os.fdatasync(segment.fd)
        except OSError:
            reached = 0
            raise
        finally:
            with self._lock:
                segment.is_syncing = False
                segment.is_broken |= not reached
                segment.n_synced = max(segment.n_synced, reached)
                self._lock.notify_all()

    def end(self, segment: Segment, placed: Sequence[tuple[OpenDirectory, bytes, int]]) -> None:
        """See `LogGroup.end`."""
        with self._lock:
            segment.n_in_flight -= 1
            for directory, digest, offset in placed:
                files = segment.files.get(directory)
                if files is None:
                    files = segment.files[directory] = {}
                    directory.depend()
                files[digest] = offset

    def flush(self, *, everything: bool = False) -> None:
        """Make files durable themselves whose segment is full, or idle, or holds a directory; make missing segments.

        To be called every second or so, away from those who seal. A segment with groups in flight waits for the
        next call.

        Args: everything: also what is neither full nor idle.
        Raises: OSError: something isn't durable yet; it stays safe in the log, and a later call tries again.
        """
        with self._flushing:
            failure: OSError | None = None
            for segment in self._due(everything=everything):
                try:
                    self._make_durable(segment)
                except OSError as error:
                    segment.retry_at = self._clock() + _RETRY_S
                    failure = error
                else:
                    self._recycle(segment)
            if self.wanted and not self._closed:
                self._make_missing()
            if failure is not None:
                raise failure

    def close(self) -> None:
        """Flush and delete the log. What can't be made durable now stays in it, for the next start."""
        self._closed = True
        with contextlib.suppress(OSError):
            self.flush(everything=True)
        with self._lock:
            left, self._full = self._full, []
            empty = [segment for segment in (self._active, self._spare) if segment is not None]
            self._active = self._spare = None
        for segment in empty:
            segment.remove()
        for segment in left:
            os.close(segment.fd)
        if self._n_made:
            with contextlib.suppress(OSError):
                sync_directory(self._pool.path(JOURNAL))

    def abandon(self) -> None:
        """Give the locks up and leave everything to the next start, as a crash does."""
        with self._lock:
            segments = [*self._full, *(one for one in (self._active, self._spare) if one is not None)]
            self._active, self._spare, self._full, self._closed = None, None, [], True
        for segment in segments:
            os.close(segment.fd)

    def _is_unfit(self, segment: Segment) -> bool:
        """Broken, or of a pool that has failed since: its descriptor may be of a disk that is gone."""
        return segment.is_broken or segment.pool_failures != self._pool.n_failures

    def _take_segment(self, n_bytes: int) -> Segment | None:
        """A segment with that much room. Called under the lock."""
        if n_bytes > min(GROUP_BYTES, self._segment_bytes):
            return None
        active = self._active
        if active is not None and not self._is_unfit(active) and active.n_written + n_bytes <= self._segment_bytes:
            return active
        self._switch()
        active = self._active
        return active if active is not None and not self._is_unfit(active) else None

    def _switch(self) -> None:
        if self._active is not None:
            self._full.append(self._active)
        self._active, self._spare = self._spare, None

    def _due(self, *, everything: bool) -> list[Segment]:
        now = self._clock()
        with self._lock:
            active = self._active
            if active is not None and (
                self._is_unfit(active)
                or (active.n_written and (everything or now - active.last_at >= _IDLE_S))
                or any(directory.closed for directory in active.files)
            ):
                self._switch()
            return [one for one in self._full if not one.n_in_flight and (everything or now >= one.retry_at)]

    def _make_durable(self, segment: Segment) -> None:
        """Nothing changes the segment meanwhile: it is full, and no group is in flight. Raises OSError."""
        for directory, files in segment.files.items():
            for name in _unsynced(directory, files):
                digest = bytes.fromhex(name[:64])
                record = read_record(segment.fd, files[digest], segment.generation)
                if record is None:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                write_durable(directory.fd, RESTORED_PART, record.data, record.received_ns)
                directory.replace(RESTORED_PART, digest)
                os.fsync(directory.fd)
        for directory in segment.files:
            directory.depend(-1)
        segment.files = {}

    def _recycle(self, segment: Segment) -> None:
        fit = not self._closed and not self._is_unfit(segment)
        if fit:
            try:
                segment.renew()
            except OSError:
                fit = False
        with self._lock:
            self._full.remove(segment)
            if fit and self._active is None:
                self._active = segment
            elif fit and self._spare is None:
                self._spare = segment
            else:
                fit = False
        if not fit:
            segment.remove()

    def _make_missing(self) -> None:
        """Allocate segments until there are two; a pool without room for them goes on without a log for a while."""
        while self._clock() >= self._retry_at and self._pool.writable():
            with self._lock:
                if sum(one is not None for one in (self._active, self._spare, *self._full)) >= _N_SEGMENTS:
                    return
                self._n_made += 1
            path = self._pool.path(f"{JOURNAL}/{self._run}.log.{self._n_made}")
            n_failures = self._pool.n_failures
            try:
                if self._pool.free_bytes < _ROOM * self._segment_bytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301
                fd = _allocate(path, self._segment_bytes)
            except OSError:
                self._retry_at = self._clock() + _RETRY_S
                return
            segment = Segment(path, fd, n_failures)
            with self._lock:
                if self._active is None:
                    self._active = segment
                else:
                    self._spare = segment


def _unsynced(directory: OpenDirectory, files: Mapping[bytes, int]) -> list[str]:
    """Sync files of one directory; returns the names of those that must be written again.

    A failed sync of the whole file system doesn't say whose write failed, and each file's own may be told of already.
    """
    names = [f"{digest.hex()}.dcm" for digest in files]
    try:
        if sync_whole(directory.fd):
            return []
    except OSError:
        return names
    return sync_each(directory.fd, names)


def _write_at(fd: int, buffers: list[Buffer], offset: int) -> None:
    left: Sequence[Buffer] = buffers
    while left:
        done = os.pwritev(fd, left[:IOV_MAX], offset)
        offset += done
        left = skip_bytes(left, done)


def _allocate(path: str, n_bytes: int) -> int:
    """Make a segment: written with zeros, durable, and locked before it can be seen. Raises OSError.

    Written rather than reserved: the first write to a reserved block changes metadata, which its sync would pay for.
    """
    folder, name = os.path.split(path)
    draft = f"{folder}/.{name}.new"
    fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    made = draft
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        for offset in range(0, n_bytes, len(_ZEROS)):
            n_piece = min(len(_ZEROS), n_bytes - offset)
            write_all(fd, [_ZEROS[:n_piece]], n_piece)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.rename(draft, path)
        made = path
        sync_directory(folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(made)
        os.close(fd)
        raise
    return fd
