"""Steering the kernel's page cache: writing early, and not keeping what won't be read soon."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence

IOV_MAX = os.sysconf("SC_IOV_MAX") if os.sysconf("SC_IOV_MAX") > 0 else 1024
_SYNC_FILE_RANGE_WRITE = 2

Buffer = bytes | bytearray | memoryview


def start_writeback(fd: int, offset: int = 0, n_bytes: int = 0) -> None:
    """Let the kernel begin to write a file's dirty pages, without waiting; 0 bytes: to the end.

    With several files of one group it makes the file system allocate all of their blocks in one
    transaction, so that the first fdatasync commits for all. An error in writing comes out of fdatasync, so
    none is looked at here.
    """
    if _sync_file_range is not None:
        _sync_file_range(fd, offset, n_bytes, _SYNC_FILE_RANGE_WRITE)


def write_all(fd: int, buffers: Sequence[Buffer], n_bytes: int) -> None:
    """Gathered write of all buffers (their lengths add up to `n_bytes`), however often the kernel takes less.

    Raises OSError.
    """
    if len(buffers) <= IOV_MAX:
        done = os.writev(fd, buffers)
        if done == n_bytes:
            return
        buffers = skip_bytes(buffers, done)
    while buffers:
        done = os.writev(fd, buffers[:IOV_MAX])
        buffers = skip_bytes(buffers, done)


def skip_bytes(buffers: Sequence[Buffer], n_bytes: int) -> list[Buffer]:
    """What is left of a list of buffers behind its first bytes; empty buffers fall out at its beginning."""
    for i, buffer in enumerate(buffers):
        if n_bytes < len(buffer):
            return [memoryview(buffer)[n_bytes:], *buffers[i + 1 :]]
        n_bytes -= len(buffer)
    return []


def _find_sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """sync_file_range(2), which Python's os has not; None where the C library hasn't either."""
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is None:
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]


_sync_file_range = _find_sync_file_range()
