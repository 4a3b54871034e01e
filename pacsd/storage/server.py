"""The file server as the workflows see it: port `Storage` over pools, staging, sealing and reading."""

# One call is one system call here, on paths that are joined once.
# ruff: noqa: PTH108, PTH116

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import cast

from pacsd.model.errors import IntegrityError, OutOfResources
from pacsd.model.objects import ObjectHeader, StoredFile
from pacsd.storage.header import read_file_header, read_header
from pacsd.storage.pool import errno_text
from pacsd.storage.pools import Pools
from pacsd.storage.reader import FileReader, same_dataset
from pacsd.storage.seal import Sealing, begin_seal, seal
from pacsd.storage.staging import HEAD_BYTES, StagedFile
from pacsd.workflow.ports import StagedObject


class FileServer:
    """Port `Storage`. Blocks; any thread.

    Each StoredFile that `seal` returned ends in exactly one call: `settle` when the index has its row,
    `remove` when it hasn't (duplicate, refused, failed). Until then its directory keeps its journal file,
    so that a crash in between is found by `recover`.

    Args:
        pools: configured pools.
        head_bytes: bound of `StagedObject.head`.
    """

    def __init__(self, pools: Pools, *, head_bytes: int = HEAD_BYTES) -> None:
        self.pools = pools
        self._head_bytes = head_bytes

    def begin(self, file_meta: bytes) -> StagedFile:
        """A new object whose file begins with `file_meta` (preamble and group 2); opens nothing yet."""
        return StagedFile(self.pools, file_meta, self._head_bytes)

    def seal(self, staged: Sequence[StagedObject]) -> list[StoredFile | Exception]:
        """Make each durable under its final name, sharing syncs; see `seal.seal`. Takes what `begin` gave."""
        return seal(cast("Sequence[StagedFile]", staged))

    def begin_seal(self, staged: Sequence[StagedObject]) -> Sealing:
        """The first half of `seal`: what is left is to wait for the disk; see `seal.begin_seal`."""
        return begin_seal(cast("Sequence[StagedFile]", staged))

    def read_header(self, sop_class_uid: str, sop_instance_uid: str, syntax_uid: str, head: bytes) -> ObjectHeader:
        """What the index needs of an object, from its head alone. Never raises for content."""
        whole = len(head) < self._head_bytes
        return read_header(sop_class_uid, sop_instance_uid, syntax_uid, head, len(head) if whole else None)

    def read_file_header(self, file: StoredFile) -> ObjectHeader:
        """What the index needs of a sealed object, from its file, as `recover` and `rebuild` read it.

        To be called where `read_header` gives the flag `header.HEAD_CUT`: large elements may stand before the UIDs,
        and a row made again after a crash must say the same.

        Raises:
            errors.IntegrityError: missing. errors.OutOfResources: can't be read.
        """
        try:
            return read_file_header(self.pools.path(file))[0]
        except FileNotFoundError:
            raise IntegrityError("stored file is missing") from None
        except OSError as error:
            raise OutOfResources(f"stored file can't be read: {errno_text(error)}") from error

    def settle(self, files: Sequence[StoredFile]) -> None:
        """The index has recorded these sealed files; see `checkpoint`."""
        directory_of = self.pools.directory_of
        for file in files:
            directory = directory_of(file)
            if directory is not None:
                directory.settle(file.digest)

    def remove(self, file: StoredFile) -> None:
        """Unlink a file that no index row names; a missing one is no error.

        When another object with the same bytes was sealed into the same directory and stands on the file,
        it stays.
        """
        directory = self.pools.directory_of(file)
        try:
            if directory is not None:
                directory.withdraw(file.digest)
            else:
                os.unlink(self.pools.path(file))
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutOfResources(f"pool {file.pool}: can't remove a file: {errno_text(error)}") from error

    def exists(self, file: StoredFile) -> bool:
        """True when the file is there with its size (the digest is not read)."""
        try:
            return os.stat(self.pools.path(file)).st_size == file.size_bytes
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise OutOfResources(f"pool {file.pool}: {errno_text(error)}") from error

    def same_dataset(self, a: StoredFile, b: StoredFile) -> bool:
        """True when both hold the same data set bytes under the same transfer syntax, whatever their meta."""
        return a.digest == b.digest or same_dataset(self.pools.path(a), self.pools.path(b))

    def open(self, file: StoredFile) -> FileReader:
        """Open for reading. Raises errors.IntegrityError when it is missing or has another size."""
        return FileReader(self.pools.path(file), file.size_bytes)

    def came_from(self, file: StoredFile) -> tuple[float, str]:
        """When a sealed file was written (seconds since the epoch) and the station that its meta names as its source.

        Raises errors.IntegrityError, errors.OutOfResources.
        """
        with FileReader(self.pools.path(file)) as reader:
            return reader.written_at, reader.meta.source_ae

    def flush_sealed(self, *, everything: bool = False) -> None:
        """Make small objects durable in their own files and free the seal log. Call it every second.

        The first calls make the log; without any call there is none, and each object is synced by itself.

        Args: everything: also what is neither full nor idle.
        Raises: OutOfResources: a pool couldn't; what was sealed is safe in its log, and a later call tries again.
        """
        try:
            self.pools.flush_logs(everything=everything)
        except OSError as error:
            raise OutOfResources(f"the seal log can't be flushed: {errno_text(error)}") from error

    def checkpoint(self, index_checkpoint: Callable[[], None]) -> int:
        """Retire the directories that are full and settled; returns how many. Call it every minute.

        Args:
            index_checkpoint: makes all committed rows durable; called only when there is something to retire.

        Raises:
            OutOfResources: a journal file can't be removed; the next call tries again.
        """
        closed = self.pools.closed_directories()
        if closed:
            index_checkpoint()
            try:
                self.pools.retire(closed)
            except OSError as error:
                raise OutOfResources(f"journal can't be pruned: {errno_text(error)}") from error
        return len(closed)

    def close(self, index_checkpoint: Callable[[], None] | None = None) -> None:
        """Stop writing; see `Pools.close`."""
        self.pools.close(index_checkpoint)
