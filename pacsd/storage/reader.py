"""Opened objects: ranges of a sealed file straight into the caller's buffers, and whole-file comparisons."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from pacsd.model.errors import IntegrityError, OutOfResources
from pacsd.model.objects import StoredFile
from pacsd.storage.part10 import META_READ_BYTES, FileMeta, MetaIncompleteError, parse_meta
from pacsd.storage.pool import errno_text
from pacsd.storage.writeback import IOV_MAX, skip_bytes

PIECE_BYTES = 1 << 20


class FileReader:
    """Port `ObjectReader`: one sealed file, open for reading. Any thread, also several at once.

    Args:
        path: absolute. size_bytes: what the index says; None takes the file's.

    Raises:
        IntegrityError: it is missing, has another size, or doesn't begin as a Part 10 file.
        OutOfResources: it can't be opened now.
    """

    __slots__ = ("_fd", "dataset_offset", "meta", "size_bytes", "transfer_syntax_uid", "written_at")

    def __init__(self, path: str, size_bytes: int | None = None) -> None:
        self._fd = _open(path)
        try:
            found = os.fstat(self._fd)
            self.size_bytes, self.written_at = found.st_size, found.st_mtime
            meta = read_meta(self._fd, self.size_bytes)
        except OSError as error:
            self.close()
            raise OutOfResources(f"stored file can't be read: {errno_text(error)}") from error
        if size_bytes is not None and self.size_bytes != size_bytes:
            self.close()
            raise IntegrityError("stored file has another size than recorded")
        if meta is None:
            self.close()
            raise IntegrityError("stored file is no Part 10 file")
        self.meta: FileMeta = meta
        self.transfer_syntax_uid = meta.transfer_syntax_uid
        self.dataset_offset = meta.dataset_offset

    def readinto(self, offset: int, buffers: Sequence[memoryview]) -> int:
        """Fill `buffers` with the file's bytes from `offset` on; the count is short only at the file's end.

        Raises OutOfResources.
        """
        wanted = sum(map(len, buffers))
        done = 0
        left: Sequence[bytes | bytearray | memoryview] = buffers
        try:
            while done < wanted:
                n_read = os.preadv(self._fd, left[:IOV_MAX], offset + done)
                if not n_read:
                    break
                done += n_read
                if done < wanted:
                    left = skip_bytes(left, n_read)
        except OSError as error:
            raise OutOfResources(f"stored file can't be read: {errno_text(error)}") from error
        return done

    def read_soon(self) -> None:
        """Let the kernel fetch all of it ahead of being sent."""
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        os.posix_fadvise(self._fd, 0, min(self.size_bytes, 8 << 20), os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Repeating it is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def read_meta(fd: int, size_bytes: int) -> FileMeta | None:
    """The file meta information of an open file; None when it is no DICOM file. Raises OSError."""
    needed = min(META_READ_BYTES, size_bytes)
    while True:
        start = os.pread(fd, needed, 0)
        try:
            return parse_meta(start, min(size_bytes, len(start)) if len(start) < needed else size_bytes)
        except MetaIncompleteError as more:
            needed = more.needed


def file_digest(path: str, throttle: Callable[[int], None] | None = None) -> tuple[bytes, int]:
    """(SHA-256, size) of a whole file, read in pieces that don't stay in the page cache.

    Args:
        throttle: called with the size of each piece before the next is read; may sleep or raise to stop.

    Raises:
        IntegrityError: missing. OutOfResources: can't be read.
    """
    fd = _open(path)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        proof = hashlib.sha256()
        size = 0
        for piece in _pieces(fd, 0):
            proof.update(piece)
            size += len(piece)
            if throttle is not None:
                os.posix_fadvise(fd, 0, size, os.POSIX_FADV_DONTNEED)
                throttle(len(piece))
        return proof.digest(), size
    except OSError as error:
        raise OutOfResources(f"stored file can't be read: {errno_text(error)}") from error
    finally:
        os.close(fd)


def verify_digest(path: str, file: StoredFile, throttle: Callable[[int], None] | None = None) -> bool:
    """Whether a stored file still has the bytes that its name promises. Raises as `file_digest`."""
    return file_digest(path, throttle) == (file.digest, file.size_bytes)


def copy_file(path: str, write: Callable[[bytes], object]) -> bytes:
    """Hand a file's bytes to `write` piece by piece; returns their SHA-256. Raises as `file_digest`."""
    fd = _open(path)
    try:
        proof = hashlib.sha256()
        for piece in _pieces(fd, 0):
            proof.update(piece)
            write(piece)
        return proof.digest()
    finally:
        os.close(fd)


def same_dataset(path_a: str, path_b: str) -> bool:
    """Whether two files hold the same data set bytes under the same transfer syntax.

    Raises IntegrityError or OutOfResources when one can't be read.
    """
    with FileReader(path_a) as a, FileReader(path_b) as b:
        left = a.size_bytes - a.dataset_offset
        if a.transfer_syntax_uid != b.transfer_syntax_uid or left != b.size_bytes - b.dataset_offset:
            return False
        view_a, view_b = memoryview(bytearray(PIECE_BYTES)), memoryview(bytearray(PIECE_BYTES))
        done = 0
        while done < left:
            n_a = a.readinto(a.dataset_offset + done, [view_a])
            n_b = b.readinto(b.dataset_offset + done, [view_b])
            if not n_a or n_a != n_b or view_a[:n_a] != view_b[:n_b]:
                return False
            done += n_a
        return True


def _pieces(fd: int, offset: int) -> Iterator[bytes]:
    while piece := os.pread(fd, PIECE_BYTES, offset):
        offset += len(piece)
        yield piece


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise IntegrityError("stored file is missing") from None
    except OSError as error:
        raise OutOfResources(f"stored file can't be opened: {errno_text(error)}") from error
