"""What the workflows need of the rest of the house, as structural types.

`index`, `storage` and `runtime` offer these; a role's `service.py` joins them. Unless a docstring says otherwise a
method blocks and is called in a worker thread through an `Offload`; every one may raise `errors.OutOfResources` when
its disk or database can't serve now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import ParamSpec, Protocol, TypeVar

from pacsd.model.objects import (
    ConflictRule,
    Job,
    NewInstance,
    NewJob,
    ObjectHeader,
    Peer,
    Recorded,
    StoredFile,
    StoredInstance,
)
from pacsd.model.query import Page, Query, Selector

A = ParamSpec("A")
R = TypeVar("R")


class Offload(Protocol):
    """A named, bounded pool of threads (or processes). `run` is called on the reactor's thread."""

    def run(self, fn: Callable[A, R], *args: A.args, **kwargs: A.kwargs) -> Awaitable[R]:
        """Call `fn` in the pool. What is returned fails with errors.Busy at once when the pool's queue is full."""


class StagedObject(Protocol):
    """One object being received: its bytes go straight into a file of a pool, hashed on the way."""

    size_bytes: int
    head: bytes
    """The first bytes of the data set (up to `storage`'s bound), for `storage.read_header`."""

    def append(self, fragments: Sequence[bytes | memoryview]) -> None:
        """Write further bytes of the data set. Moves on to the next pool on ENOSPC or EIO, with what is written."""

    def discard(self) -> None:
        """Forget it and remove its file; never raises."""


class Sealing(Protocol):
    """A group of objects between their final names and their syncs.

    Attributes:
        files: where each lies, or why it doesn't; not durable before `sync` has returned, which may change it.
    """

    files: list[StoredFile | Exception]

    def sync(self) -> list[StoredFile | Exception]:
        """Wait until all are durable (data and directory entry). Once, in any thread.

        Returns: as `files`, save for an object that had to move to another pool, or failed for good.
        """


class Storage(Protocol):
    """The file servers: pools with staging, sealing and reading."""

    def begin(self, file_meta: bytes) -> StagedObject:
        """A new staged object whose file begins with `file_meta` (preamble and group 2); opens nothing yet."""

    def begin_seal(self, staged: Sequence[StagedObject]) -> Sealing:
        """Give each its final name and have the disk begin, sharing what can be shared; in the order given."""

    def read_header(self, sop_class_uid: str, sop_instance_uid: str, syntax_uid: str, head: bytes) -> ObjectHeader:
        """What the index needs of an object. Never raises for content: oddities become flags."""

    def read_file_header(self, file: StoredFile) -> ObjectHeader:
        """The same from a sealed file, for a head that ended too early (`objects.HEAD_CUT`)."""

    def settle(self, files: Sequence[StoredFile]) -> None:
        """The index has rows for these sealed files. Each sealed file ends in one `settle` or one `remove`; one that
        has neither, since the database couldn't say what became of it, is judged by the next start.
        """

    def remove(self, file: StoredFile) -> None:
        """Unlink a file that no index row names; a missing one is no error."""

    def exists(self, file: StoredFile) -> bool:
        """True when the file is there with its size (the digest is not read)."""

    def same_dataset(self, a: StoredFile, b: StoredFile) -> bool:
        """True when both files hold the same data set bytes under the same transfer syntax, whatever their meta."""

    def open(self, file: StoredFile) -> ObjectReader:
        """Open for reading. Raises errors.IntegrityError when it is missing or has another size."""


class ObjectReader(Protocol):
    """An opened object."""

    transfer_syntax_uid: str
    dataset_offset: int
    size_bytes: int

    def readinto(self, offset: int, buffers: Sequence[memoryview]) -> int:
        """Scatter file bytes from `offset` on into `buffers` (preadv); returns the count, short only at the end."""

    def close(self) -> None: ...


class Index(Protocol):
    """The PACS database, as far as ingest, query and retrieve need it."""

    def record(self, batch: Sequence[NewInstance], before_commit: Callable[[], None] | None = None) -> list[Recorded]:
        """ONE transaction for the batch: patient, study, series, instance, location, counts, outbox.

        Args: before_commit: called when all rows are written, perhaps more than once; what it raises is raised after a
            rollback.
        """

    def record_conflict(self, new: NewInstance, rule: ConflictRule) -> Recorded:
        """Apply the site's rule to an object whose SOP Instance UID is held with other bytes."""

    def add_location(self, instance_id: int, file: StoredFile) -> None:
        """A further file with the same bytes, or the same data set, as the instance has."""

    def search(self, query: Query, cursor: tuple[int | str, ...] | None, page_size: int) -> Page:
        """One page of answers; opens no file."""

    def instances(self, selector: Selector, after_id: int, limit: int) -> list[StoredInstance]:
        """Instances in the order of their series and id, keyset-paged; [] at the end."""

    def count_instances(self, selector: Selector) -> int:
        """How many instances a selector names (from kept counts where it can)."""


class Jobs(Protocol):
    """The job queue (outbox): leases, retry with back-off, dead letters."""

    def enqueue(self, job: NewJob) -> int: ...

    def claim(self, kinds: Sequence[str], owner: str, lease_s: float, n: int) -> list[Job]: ...

    def finish(self, job_id: int) -> None: ...

    def retry(self, job_id: int, error: str, delay_s: float, max_attempts: int) -> bool:
        """Put it back; False when it has become a dead letter."""


class Peers(Protocol):
    """Registered DICOM peers."""

    def get(self, ae_title: str) -> Peer | None: ...

    def all(self) -> Iterator[Peer]: ...


Clock = Callable[[], float]
"""Seconds since the epoch, UTC."""
