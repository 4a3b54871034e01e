"""Faults inside a server process, from outside the product: Python imports this module first when it is on its path.

The file that PACSD_TEST_FAULT names holds one line, `POINT NUMBER ACTION`: at the NUMBER-th time that POINT is passed
(counted from the line's appearing) the process kills itself (`kill`) or a call fails with an errno (`EIO`, `ENOSPC`;
then NUMBER times, from now on). No file, no fault: so one site serves many tests.
"""

# What is patched here are the functions of os, and nothing may be imported that a start wouldn't.
# ruff: noqa: PTH105, PTH108, PTH110, PTH112, PTH115, PTH123

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading

_FAULT = os.environ.get("PACSD_TEST_FAULT", "")
_LOCK = threading.Lock()


def _claim(point: str) -> str:
    """The action that is due at this point now; ''."""
    with _LOCK:
        try:
            with open(_FAULT, encoding="ascii") as file:
                wanted, number, action = file.read().split()
        except (OSError, ValueError):
            return ""
        if wanted != point:
            return ""
        left = int(number) - 1
        if left > 0:
            _write(f"{wanted} {left} {action}")
            return "" if action == "kill" else action
        os.unlink(_FAULT)
        return action


def _write(line: str) -> None:
    with open(f"{_FAULT}.new", "w", encoding="ascii") as file:
        file.write(line)
    os.replace(f"{_FAULT}.new", _FAULT)


def passed(point: str) -> None:
    """Die here, or fail here, if the test wants it."""
    action = _claim(point)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action:
        code = getattr(errno, action)
        raise OSError(code, os.strerror(code))


def _name(fd: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{fd}")
    return ""


def _patch_writing() -> None:
    real_open, real_writev, real_pwritev, real_rename = os.open, os.writev, os.pwritev, os.rename

    def opening(path, flags, mode=0o777, *, dir_fd=None):
        is_part = isinstance(path, str) and path.endswith(".part") and flags & os.O_CREAT
        if is_part:
            passed("open")
        fd = real_open(path, flags, mode, dir_fd=dir_fd)
        if is_part:
            passed("opened")
        return fd

    def writev(fd, buffers):
        if not _name(fd).endswith(".part"):
            return real_writev(fd, buffers)
        passed("write")
        whole = b"".join(buffers)
        if len(whole) < 2 or not os.path.exists(_FAULT):
            return real_writev(fd, buffers)
        n_written = real_writev(fd, [whole[: len(whole) // 2]])
        passed("half-written")
        return n_written

    def pwritev(fd, buffers, offset, *flags):
        is_log = ".log." in _name(fd)
        if is_log:
            passed("log")
        n_written = real_pwritev(fd, buffers, offset, *flags)
        if is_log:
            passed("logged")
        return n_written

    def rename(source, target, **more):
        if not str(source).endswith(".part"):
            real_rename(source, target, **more)
            return
        passed("complete")
        real_rename(source, target, **more)
        passed("renamed")

    os.open, os.writev, os.pwritev, os.rename = opening, writev, pwritev, rename


def _patch_syncing() -> None:
    real_fdatasync, real_fsync = os.fdatasync, os.fsync

    def fdatasync(fd):
        name = _name(fd)
        before, after = ("fdatasync", "synced") if name.endswith(".dcm") else ("log-sync", "log-synced")
        is_meant = name.endswith(".dcm") or ".log." in name
        if is_meant:
            passed(before)
        real_fdatasync(fd)
        if is_meant:
            passed(after)

    def fsync(fd):
        is_folder = "/objects/" in _name(fd) and os.path.isdir(f"/proc/self/fd/{fd}")
        if is_folder:
            passed("fsync")
        real_fsync(fd)
        if is_folder:
            passed("directory-synced")

    os.fdatasync, os.fsync = fdatasync, fsync


def _patch_product() -> None:
    from pacsd.dicom.association import Association
    from pacsd.dicom.scp import store
    from pacsd.index.pacs_index import PacsIndex

    record, respond, encode = PacsIndex.record, Association.respond_encoded, store.encode_store_response

    def recording(self, batch, before_commit=None):
        def rows_written():
            passed("transaction-open")
            if before_commit is not None:
                before_commit()
            passed("durable-not-committed")

        recorded = record(self, batch, rows_written)
        passed("committed")
        return recorded

    def responding(self, context_id, command):
        respond(self, context_id, command)
        passed("answered")

    def encoding(*args, **kwargs):
        encoded = encode(*args, **kwargs)
        passed("not-answered")
        return encoded

    PacsIndex.record, Association.respond_encoded, store.encode_store_response = recording, responding, encoding


if _FAULT and any("twistd" in part for part in sys.orig_argv):
    _patch_writing()
    _patch_syncing()
    _patch_product()
