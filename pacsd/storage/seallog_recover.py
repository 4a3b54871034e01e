"""Dead workers' seal logs: what they hold and didn't reach its own file is made from them (docs/adr/0010).

Comes before the recovery of directories, which then finds each acknowledged object whole. Only directories that still
have their journal file are touched: the others' files were made durable before it went, and may have been removed
since. Killed at any point, it is run again.
"""

# One call is one system call here, on paths that are joined once.
# ruff: noqa: PTH108, PTH116, PTH208

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable

from pacsd.model.errors import IntegrityError, OutOfResources
from pacsd.model.objects import StoredFile
from pacsd.storage.durable import write_durable
from pacsd.storage.pool import JOURNAL, Pool, sync_directory
from pacsd.storage.reader import file_digest
from pacsd.storage.seallog import RESTORED_PART
from pacsd.storage.sealrecord import Record, records
from pacsd.storage.walk import is_object_directory

Take = Callable[[str], int | None]
"""Path -> descriptor of a file whose worker is dead, locked; None when it lives or the file is gone."""

_LOG_NAME = re.compile(r"([0-9A-Za-z_]+)\.log\.[0-9]+")
_DRAFT_NAME = re.compile(r"\.[0-9A-Za-z_]+\.log\.[0-9]+\.new")
_DRAFT_AGE_S = 60.0


def replay_logs(pool: Pool, take: Take) -> int:
    """Make every object of dead workers' logs durable in its own file, then remove the logs.

    Returns: how many files had to be written.
    Raises: OSError: the pool fails; the log is still there.
    """
    folder = pool.path(JOURNAL)
    n_written = n_removed = 0
    for name in sorted(os.listdir(folder)):
        is_draft = _is_old_draft(folder, name)
        if not is_draft and not _LOG_NAME.fullmatch(name):
            continue
        fd = take(f"{folder}/{name}")
        if fd is None:
            continue
        try:
            if not is_draft:
                n_written += _replay(pool, fd)
            os.unlink(f"{folder}/{name}")
            n_removed += 1
        finally:
            os.close(fd)
    if n_removed:
        sync_directory(folder)
    return n_written


def has_log(pool: Pool, entry: str) -> bool:
    """Whether the worker of a journal file still has a log: until that is replayed its directory isn't to be judged."""
    run = entry.rpartition("-")[0]
    found = (_LOG_NAME.fullmatch(name) for name in os.listdir(pool.path(JOURNAL)))
    return any(match is not None and match[1] == run for match in found)


def _is_old_draft(folder: str, name: str) -> bool:
    if not _DRAFT_NAME.fullmatch(name):
        return False
    try:
        return time.time() - os.stat(f"{folder}/{name}").st_mtime > _DRAFT_AGE_S
    except FileNotFoundError:
        return False


def _replay(pool: Pool, log_fd: int) -> int:
    n_written = 0
    folders: dict[str, int | None] = {}
    with contextlib.ExitStack() as closing:
        for _, record in records(log_fd):
            if record.directory not in folders:
                folder_fd = folders[record.directory] = _open_journaled(pool, record.directory)
                if folder_fd is not None:
                    closing.callback(os.close, folder_fd)
            folder_fd = folders[record.directory]
            if folder_fd is not None:
                n_written += _restore(pool, record, folder_fd)
        for folder_fd in folders.values():
            if folder_fd is not None:
                os.fsync(folder_fd)
    return n_written


def _open_journaled(pool: Pool, directory: str) -> int | None:
    """Descriptor of a directory that still has its journal file."""
    if not is_object_directory(directory):
        return None
    if not os.access(pool.path(f"{JOURNAL}/{directory.rpartition('/')[2]}"), os.F_OK):
        return None
    try:
        return os.open(pool.path(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _restore(pool: Pool, record: Record, folder_fd: int) -> bool:
    """Make one object's file durable; True when it had to be written."""
    file = StoredFile(pool.name, record.directory, record.digest, len(record.data))
    name = f"{record.digest.hex()}.dcm"
    try:
        intact = file_digest(pool.path(file.path)) == (record.digest, len(record.data))
    except (IntegrityError, OutOfResources):
        intact = False
    if intact:
        # the worker may have been killed while the machine lived: whole in memory only
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder_fd)
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)
        return False
    write_durable(folder_fd, RESTORED_PART, record.data, record.received_ns)
    os.rename(RESTORED_PART, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    return True
