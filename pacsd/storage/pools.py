"""Placement: which pool takes the next object.

The pools are tried in the order of the configuration: the first that is writable and below its high
watermark. An error that is the pool's (disk full, I/O error, gone read-only, device or mount gone) sets it
aside for a while and the next one is taken at once.
"""

from __future__ import annotations

import errno
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from pacsd.model.errors import OutOfResources
from pacsd.model.objects import StoredFile
from pacsd.storage.journal import MAX_FILES, Journal, OpenDirectory
from pacsd.storage.pool import PROCESS_ERRNOS, Pool, PoolUnavailable, errno_text
from pacsd.storage.seallog import SEGMENT_BYTES, SealLog


class Pools:
    """All pools of a site, as one worker process uses them. Any thread.

    Args:
        pools: in the order of preference.
        run: id of this worker process, unique among all that ever ran; random unless given.
        max_files_per_directory: slots after which a new directory is opened.
        log_segment_bytes: size of each of the two files of a seal log.
        utc: seconds since the epoch.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        *,
        run: str = "",
        max_files_per_directory: int = MAX_FILES,
        log_segment_bytes: int = SEGMENT_BYTES,
        utc: Callable[[], float] = time.time,
    ) -> None:
        if len({pool.name for pool in pools}) != len(pools):
            raise ValueError("two pools have one name")
        self._pools = tuple(pools)
        self._by_name = {pool.name: pool for pool in pools}
        self._lock = threading.Lock()
        self._directories: dict[tuple[str, str], OpenDirectory] = {}
        run = run or secrets.token_hex(5)
        self._journals = {
            pool.name: Journal(pool, run, self._register, max_files=max_files_per_directory, utc=utc) for pool in pools
        }
        self._logs = {pool.name: SealLog(pool, run, segment_bytes=log_segment_bytes) for pool in pools}

    def __iter__(self) -> Iterator[Pool]:
        return iter(self._pools)

    def __getitem__(self, name: str) -> Pool:
        """Raises PoolUnavailable for a name that isn't configured."""
        try:
            return self._by_name[name]
        except KeyError:
            raise PoolUnavailable(f"pool {name} is not configured") from None

    def path(self, file: StoredFile) -> str:
        """Absolute path of a sealed file. Raises PoolUnavailable for an unknown pool."""
        return f"{self[file.pool].root}/{file.path}"

    def writable(self) -> bool:
        """Whether any pool would take an object now; asked before a transfer is accepted."""
        return any(pool.writable() for pool in self._pools)

    def reserve(self, tried: Collection[str] = ()) -> tuple[OpenDirectory, str]:
        """A directory and part name for a new object, in the first fitting pool that isn't among `tried`.

        Raises:
            OutOfResources: no pool can take it.
        """
        for pool in self._pools:
            if pool.name in tried or not pool.writable():
                continue
            try:
                reserved = self._journals[pool.name].reserve()
            except OSError as error:
                if error.errno in PROCESS_ERRNOS:
                    raise OutOfResources(f"it can't be written: {errno_text(error)}") from error
                pool.fail(error)
            except PoolUnavailable as error:
                pool.fail(OSError(errno.ENODEV, error.comment), error.comment)
            else:
                self._logs[pool.name].wanted = True
                return reserved
        raise OutOfResources("no pool can take it: " + (self._reasons() or "none is writable"))

    @property
    def keep_small(self) -> bool:
        """Whether a small object should be kept in memory until it is sealed, since there is a seal log."""
        return any(log.is_ready for log in self._logs.values())

    def log_of(self, pool: Pool) -> SealLog:
        """This worker's seal log in one of the pools."""
        return self._logs[pool.name]

    def flush_logs(self, *, everything: bool = False) -> None:
        """See `SealLog.flush`. Raises OSError when some pool couldn't, after all others were flushed."""
        failure: OSError | None = None
        for log in self._logs.values():
            try:
                log.flush(everything=everything)
            except OSError as error:
                failure = error
        if failure is not None:
            raise failure

    def directory_of(self, file: StoredFile) -> OpenDirectory | None:
        """This worker's directory that holds the file, while its journal file is there."""
        return self._directories.get((file.pool, file.directory))

    def closed_directories(self) -> list[OpenDirectory]:
        """Directories that take no more objects and whose objects are all settled: ready to retire.

        Run the index's checkpoint after this call and before `retire`.
        """
        for journal in self._journals.values():
            journal.close_if_over()
        with self._lock:
            return [directory for directory in self._directories.values() if directory.is_settled()]

    def retire(self, directories: Sequence[OpenDirectory]) -> None:
        """Remove the journal files of directories whose rows are durable.

        Raises OSError when one can't be removed, after all others were; it stays for the next time.
        """
        failure: OSError | None = None
        for directory in directories:
            try:
                directory.retire()
            except OSError as error:
                failure = error
                continue
            with self._lock:
                self._directories.pop((directory.pool.name, directory.path), None)
        if failure is not None:
            raise failure

    def close(self, checkpoint: Callable[[], None] | None = None) -> None:
        """Stop writing.

        The seal logs are flushed. With `checkpoint` (makes the index's rows durable) what is settled leaves no journal
        file; what isn't stays for `recover`.
        """
        for journal in self._journals.values():
            journal.close()
        for log in self._logs.values():
            log.close()
        settled = self.closed_directories()
        if checkpoint is not None and settled:
            checkpoint()
            self.retire(settled)
        with self._lock:
            left, self._directories = list(self._directories.values()), {}
        for directory in left:
            directory.abandon()

    def _register(self, directory: OpenDirectory) -> None:
        with self._lock:
            self._directories[directory.pool.name, directory.path] = directory

    def _reasons(self) -> str:
        return ", ".join(f"{pool.name} {pool.reason or pool.state.value}" for pool in self._pools)
