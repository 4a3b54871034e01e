"""Making many finished files durable at once, away from anybody who waits."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Sequence

from pacsd.storage.writeback import start_writeback, write_all

SEALED_MODE = 0o440
_N_OPEN = 64
_MIN_KERNEL = (5, 8)
"""The first whose syncfs tells of failed writes."""
_TELLING_FILE_SYSTEMS = frozenset({0xEF53, 0x58465342, 0x9123683E})
"""ext4, XFS, btrfs: their syncfs waits for the disk itself. FUSE's doesn't."""


def sync_whole(fd: int) -> bool:
    """Make everything on a file system durable; False where the system has no call that can be trusted to.

    For thousands of small files it costs a twentieth of a sync of each: their blocks are written in order, and the
    disk's cache is flushed once, by the fsync at the end (ext4 without a journal writes its metadata behind the flush
    of its syncfs).

    Args:
        fd: a file or folder on it, opened before the writes in question.

    Raises:
        OSError: some write since `fd` was opened failed, of whatever file.
    """
    if _libc_syncfs is None or _type_of(fd) not in _TELLING_FILE_SYSTEMS:
        return False
    if _libc_syncfs(fd):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    os.fsync(fd)
    return True


def sync_each(folder_fd: int, names: Sequence[str]) -> list[str]:
    """Make files of one folder durable, and their names. Those that are gone are nobody's concern.

    Returns: names of those whose bytes may be lost.
    Raises OSError for the folder itself.
    """
    failed: list[str] = []
    for start in range(0, len(names), _N_OPEN):
        with contextlib.ExitStack() as closing:
            fds: list[tuple[str, int]] = []
            for name in names[start : start + _N_OPEN]:
                try:
                    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder_fd)
                except FileNotFoundError:
                    continue
                closing.callback(os.close, fd)
                start_writeback(fd)
                fds.append((name, fd))
            for name, fd in fds:
                try:
                    os.fdatasync(fd)
                except OSError:
                    failed.append(name)
    os.fsync(folder_fd)
    return failed


def write_durable(folder_fd: int, part: str, data: bytes, written_ns: int) -> None:
    """Write a new file, its bytes and its time durable, over whatever had that name. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part, dir_fd=folder_fd)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(part, flags, SEALED_MODE, dir_fd=folder_fd)
    try:
        write_all(fd, [data], len(data))
        os.utime(fd, ns=(written_ns, written_ns))
        os.fsync(fd)
    finally:
        os.close(fd)


def _type_of(fd: int) -> int:
    """The magic number of a file system, the first word of struct statfs; 0 when it can't be had."""
    if _libc_fstatfs is None:
        return 0
    buffer = (ctypes.c_ulong * 64)()
    return 0 if _libc_fstatfs(fd, ctypes.byref(buffer)) else buffer[0] & 0xFFFFFFFF


def _function(name: str) -> Callable[..., int] | None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is not None:
        function.restype = ctypes.c_int
    return function


def _kernel() -> tuple[int, ...]:
    numbers = os.uname().release.split("-", maxsplit=1)[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


_libc_fstatfs = _function("fstatfs")
_libc_syncfs = _function("syncfs") if os.uname().sysname == "Linux" and _kernel() >= _MIN_KERNEL else None
