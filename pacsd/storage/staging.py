"""One object being received: straight into a Part 10 file on the pool's own file system, hashed on the way.

Nothing is opened before the first bytes come. A small object that comes in one piece costs one open and one
gathered write here, and one rename and one fdatasync in `seal`; where there is a seal log, it stays in memory until
it is sealed. When the pool fails, what is written moves
to the next one; the bytes are read back and proven by the running hash before the old file goes.

All methods block; one thread at a time per object.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Sequence

from pacsd.model.errors import OutOfResources
from pacsd.model.objects import StoredFile
from pacsd.storage.durable import SEALED_MODE
from pacsd.storage.journal import OpenDirectory
from pacsd.storage.pool import FAILOVER_ERRNOS, errno_text
from pacsd.storage.pools import Pools
from pacsd.storage.seallog import SealLog
from pacsd.storage.sealrecord import SMALL_BYTES, Record
from pacsd.storage.writeback import Buffer, start_writeback, write_all

HEAD_BYTES = 64 * 1024
_EARLY_WRITEBACK_BYTES = 8 << 20
_EARLY_SYNC_BYTES = 64 << 20
_COPY_BYTES = 1 << 20
_DISK_BESIDE_HASH_BYTES = 128 * 1024
"""A piece that long is handed to the disk before it is hashed, so that both work at once."""
_MOVE_ERRNOS = FAILOVER_ERRNOS | {errno.EFBIG}
_PART_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class StagedFile:
    """Port `StagedObject`.

    Attributes:
        size_bytes: bytes of the data set so far; the file has the file meta before them.
        head: the first bytes of the data set, at most `head_bytes`.
    """

    __slots__ = (
        "_directory", "_fd", "_final", "_flushed", "_hash", "_head_bytes", "_held", "_meta", "_over", "_part",
        "_pools", "_tried", "_written", "head", "size_bytes",
    )  # fmt: skip

    def __init__(self, pools: Pools, file_meta: bytes, head_bytes: int = HEAD_BYTES) -> None:
        if not file_meta:
            raise ValueError("a Part 10 file begins with its file meta")
        self._pools = pools
        self._meta = file_meta
        self._head_bytes = head_bytes
        self._hash = hashlib.sha256()
        self._held = b""
        """All of it, while it is small and has no file."""
        self._fd = -1
        self._directory: OpenDirectory | None = None
        self._part = ""
        self._final = b""
        """The digest once the file has its final name."""
        self._over: Exception | None = None
        self._written = 0
        self._flushed = 0
        self._tried: tuple[str, ...] = ()
        self.size_bytes = 0
        self.head = b""

    def append(self, fragments: Sequence[bytes | memoryview]) -> None:
        """Write further bytes of the data set; the buffers may be reused afterwards.

        Args:
            fragments: bytes, or views of one-byte items.

        Raises:
            OutOfResources: no pool can take it; nothing of it is left, and it can't be sealed.
        """
        if self._over is not None:
            raise self._over
        begun = self._written or self._held
        if begun and not fragments:
            return
        if self.size_bytes < self._head_bytes:
            self._keep_head(fragments)
        buffers: Sequence[Buffer] = fragments if begun else [self._meta, *fragments]
        n_bytes = sum(map(len, buffers))
        if not self._written and self._hold(buffers, n_bytes):
            return
        self._write(buffers, n_bytes)
        if n_bytes >= _DISK_BESIDE_HASH_BYTES:
            start_writeback(self._fd)
        update = self._hash.update
        for buffer in buffers:
            update(buffer)
        self._written += n_bytes
        self.size_bytes = self._written - len(self._meta)
        if self._written - self._flushed >= _EARLY_WRITEBACK_BYTES:
            self._write_early()

    def discard(self) -> None:
        """Forget it and remove its file; never raises."""
        if self._over is None:
            self._over = ValueError("the object was discarded")
        self._drop()

    # --- what `seal` does with it, in this order ---

    def logged(self) -> tuple[SealLog, Record] | None:
        """Reserve the place of an object that is in memory, and give what its pool's seal log needs; None for others.

        Raises OutOfResources.
        """
        if self._over is not None or self._final:
            return None
        if not self._written and not self._held:
            self.append(())
        if not self._held:
            return None
        if not self._part:
            self._directory, self._part = self._pools.reserve(self._tried)
        directory = self.directory
        record = Record(directory.path, self._hash.digest(), self._held, time.time_ns())
        return self._pools.log_of(directory.pool), record

    def publish(self) -> None:
        """Give the complete file its final name. Raises OutOfResources."""
        if self._over is not None:
            raise self._over
        if self._final:
            raise ValueError("the object is sealed already")
        self._complete()
        digest = self._hash.digest()
        while not self._final:
            try:
                self._rename(digest)
            except OSError as error:
                self._move(error)

    def sync(self) -> None:
        """Make its bytes durable. Raises OSError."""
        os.fdatasync(self._fd)

    def relocate(self, error: OSError) -> None:
        """After a failed sync: bring the whole file to the next pool. Raises OutOfResources."""
        digest = self._final
        self._move(error)
        while not self._final:
            try:
                self._rename(digest)
            except OSError as again:
                self._move(again)

    def sealed_as(self) -> StoredFile:
        """Where it lies under its final name, durable or not yet."""
        directory = self.directory
        return StoredFile(directory.pool.name, directory.path, self._final, self._written)

    def close(self) -> StoredFile:
        """Give up the descriptor of the durable file and say where it lies."""
        with contextlib.suppress(OSError):
            # says nothing about bytes that are synced
            os.close(self._fd)
        self._fd = -1
        self._over = ValueError("the object is sealed already")
        return self.sealed_as()

    @property
    def fd(self) -> int:
        """Descriptor of its file, -1 when there is none."""
        return self._fd

    @property
    def directory(self) -> OpenDirectory:
        """Where its file lies. Raises ValueError before the first byte."""
        if self._directory is None:
            raise ValueError("the object has no file")
        return self._directory

    def _keep_head(self, fragments: Sequence[bytes | memoryview]) -> None:
        room = self._head_bytes - self.size_bytes
        if sum(map(len, fragments)) <= room:
            self.head = b"".join([self.head, *fragments]) if self.head else b"".join(fragments)
            return
        kept: list[bytes | memoryview] = [self.head]
        for fragment in fragments:
            kept.append(fragment[:room])
            room -= len(fragment)
            if room <= 0:
                break
        self.head = b"".join(kept)

    def _hold(self, buffers: Sequence[Buffer], n_bytes: int) -> bool:
        """Keep a small object in memory for the seal log. False: what was kept is in its file now, the rest isn't."""
        held = len(self._held) + n_bytes
        if held <= SMALL_BYTES and self._pools.keep_small:
            self._held = b"".join([self._held, *buffers])
            for buffer in buffers:
                self._hash.update(buffer)
            self.size_bytes = held - len(self._meta)
            return True
        self._spill()
        return False

    def _spill(self) -> None:
        """Give what was kept in memory its file. Raises OutOfResources."""
        if self._held:
            self._write([self._held], len(self._held))
            self._written, self._held = len(self._held), b""

    def _complete(self) -> None:
        if not self._written and not self._held:
            self.append(())
        self._spill()

    def _write(self, buffers: Sequence[Buffer], n_bytes: int) -> None:
        while True:
            try:
                if self._fd < 0:
                    self._open()
                write_all(self._fd, buffers, n_bytes)
                return
            except OSError as error:
                self._move(error)

    def _open(self) -> None:
        """Create the part file, in its reserved place if it has one. Raises OSError, OutOfResources without a pool."""
        if not self._part:
            self._directory, self._part = self._pools.reserve(self._tried)
        self._fd = os.open(self._part, _PART_FLAGS, SEALED_MODE, dir_fd=self.directory.fd)

    def _rename(self, digest: bytes) -> None:
        directory = self.directory
        renamed = directory.publish(self._part, digest)
        self._final = digest
        if not renamed:
            os.fdatasync(self._fd)
            name = f"{digest.hex()}.dcm"
            os.rename(self._part, name, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
        self._part = ""

    def _move(self, error: OSError) -> None:
        """Set the failing pool aside and bring the bytes written so far to the next one that takes them.

        Raises OutOfResources, after which nothing of the object is left.
        """
        source = self._take()
        source_fd, failing, _, _ = source
        try:
            while True:
                self._set_aside(failing, error)
                try:
                    if self._written:
                        self._open()
                        self._copy(source_fd)
                    return
                except OSError as again:
                    error = again
                    failing = self._directory
                    _forget(*self._take())
        except OutOfResources as final:
            self._over = final
            self._drop()
            raise
        finally:
            _forget(*source)

    def _set_aside(self, directory: OpenDirectory | None, error: OSError) -> None:
        """Leave this pool, also for others if it is at fault. Raises OutOfResources."""
        if directory is None or error.errno not in _MOVE_ERRNOS:
            raise OutOfResources(f"it can't be written: {errno_text(error)}") from error
        if error.errno in FAILOVER_ERRNOS:
            directory.pool.fail(error)
        self._tried += (directory.pool.name,)

    def _copy(self, source: int) -> None:
        """Copy what is written from the old file, proving it by the running hash.

        Raises OSError when the new pool fails, OutOfResources when the bytes can't be had any more.
        """
        proof = hashlib.sha256()
        done = 0
        while done < self._written:
            try:
                piece = os.pread(source, min(_COPY_BYTES, self._written - done), done)
            except OSError as error:
                raise OutOfResources(f"what was written can't be read: {errno_text(error)}") from error
            if not piece:
                break
            proof.update(piece)
            write_all(self._fd, [piece], len(piece))
            done += len(piece)
        if proof.digest() != self._hash.digest():
            raise OutOfResources("what was written reads back otherwise")
        self._flushed = 0

    def _write_early(self) -> None:
        """Bound what a large object keeps dirty in the page cache.

        DONTNEED begins to write what is dirty and drops what is clean by then, which is the piece before;
        every 64 MiB everything is waited for, which also meets a full disk early.
        """
        start = max(0, self._flushed - _EARLY_WRITEBACK_BYTES)
        try:
            if self._written // _EARLY_SYNC_BYTES != self._flushed // _EARLY_SYNC_BYTES:
                os.fdatasync(self._fd)
            os.posix_fadvise(self._fd, start, self._written - start, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            self._move(error)
        self._flushed = self._written

    def _take(self) -> tuple[int, OpenDirectory | None, str, bytes]:
        """Descriptor, directory, part name and final digest of the file, which is no longer this object's."""
        taken = self._fd, self._directory, self._part, self._final
        self._fd, self._directory, self._part, self._final = -1, None, "", b""
        return taken

    def _drop(self) -> None:
        self.head = self._held = b""
        _forget(*self._take())


def _forget(fd: int, directory: OpenDirectory | None, part: str, final: bytes) -> None:
    """Close and remove one file that isn't to be.

    A pool that can't do it now keeps the file until `recover` or `scrub` meets it.
    """
    if fd >= 0:
        with contextlib.suppress(OSError):
            os.close(fd)
    if directory is None:
        return
    with contextlib.suppress(OSError):
        if part:
            os.unlink(part, dir_fd=directory.fd)
    with contextlib.suppress(OSError):
        if final:
            directory.withdraw(final)
    if part and not final:
        directory.release()
