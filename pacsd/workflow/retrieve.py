"""Retrieves: which instances an identifier names, their opening, and the count of what became of them.

PS3.4 C.4.2 (C-MOVE) and C.4.3 (C-GET). Sending is the role's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pacsd.model.attributes import QUERY_RETRIEVE_LEVEL, Level
from pacsd.model.dataset import Dataset
from pacsd.model.errors import IntegrityError, PacsError
from pacsd.model.objects import StoredFile, StoredInstance
from pacsd.model.query import Root, Selector
from pacsd.workflow.ports import Index, ObjectReader, Offload, Storage
from pacsd.workflow.query import KEY_NAMES, LEVELS, UNIQUE_KEYS, IdentifierRefused, level_of_identifier

PAGE_SIZE = 500
MAX_FAILED_UIDS = 1000
"""As many as the value field of UI with a two byte length holds (65,534 bytes of at most 65 each)."""
MAX_COUNT = 0xFFFF


class Sendable(Protocol):
    """What must be known of an object to choose how to send it."""

    @property
    def sop_class_uid(self) -> str: ...

    @property
    def sop_instance_uid(self) -> str: ...

    @property
    def transfer_syntax_uid(self) -> str: ...


class Converter(Protocol):
    """What can become what, and the conversion itself, in processes of its own."""

    def targets(self, transfer_syntax_uid: str) -> Sequence[str]:
        """Syntaxes that an object stored in this one can become without further loss, best first. Any thread."""

    def convert(self, file: StoredFile, target_uid: str) -> Awaitable[ObjectReader]:
        """The same object in another transfer syntax; the caller closes the reader. Reactor's thread.

        Fails with errors.CannotConvert when its pixel data can't be decoded, errors.Busy when the queue is full.
        """


def selector_of(root: Root, identifier: Dataset, *, relational: bool = False) -> tuple[Level, Selector]:
    """What an identifier of C-MOVE or C-GET names (PS3.4 C.4.2.2.1, C.4.3.2.1).

    The level's unique key may be a list. Keys above it hold one value each, and may be missing where relational
    retrieval was negotiated; then they narrow the selection when they are there.

    Departure: PATIENT is also taken under Study Root, which doesn't have that level. Orthanc retrieves patients so, and
    nothing else can be meant.

    Raises:
        IdentifierRefused: wrong level, no unique key at the level, or a missing or repeated one above it.
    """
    if root is Root.STUDY and identifier.text(QUERY_RETRIEVE_LEVEL).strip().upper() == Level.PATIENT.name:
        root = Root.PATIENT
    level = level_of_identifier(root, identifier)
    named: dict[Level, tuple[str, ...]] = {}
    for here in LEVELS[root]:
        if here > level:
            break
        tag = UNIQUE_KEYS[here]
        values = tuple(value for value in identifier.texts(tag) if value)
        if here == level and not values:
            raise IdentifierRefused(f"{KEY_NAMES[here]} is needed", tag)
        if here < level and len(values) != 1 and not relational:
            raise IdentifierRefused(f"{KEY_NAMES[here]} above the level must be one value", tag)
        named[here] = values
    return level, Selector(
        patient_ids=named.get(Level.PATIENT, ()),
        study_uids=named.get(Level.STUDY, ()),
        series_uids=named.get(Level.SERIES, ()),
        sop_instance_uids=named.get(Level.IMAGE, ()),
    )


SUCCESS = 0x0000
WARNING = 0xB000
UNABLE_TO_PERFORM = 0xA702
CANCELLED = 0xFE00


@dataclass(slots=True)
class SubOperations:
    """The count of one retrieve's sub-operations; the numbers can't exceed what a response carries (US).

    Attributes:
        failed_uids: the first `MAX_FAILED_UIDS` that failed, in order.
    """

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_uids: list[str] = field(default_factory=list)

    def succeed(self) -> None:
        """One object is stored at the receiver."""
        self.completed += 1
        self._one_less()

    def warn(self) -> None:
        """One object is stored, but the receiver changed it (Bxxx)."""
        self.warning += 1
        self._one_less()

    def fail(self, sop_instance_uid: str) -> None:
        """One object could not be sent or was refused."""
        self.failed += 1
        if len(self.failed_uids) < MAX_FAILED_UIDS:
            self.failed_uids.append(sop_instance_uid)
        self._one_less()

    def _one_less(self) -> None:
        # objects that arrive while the retrieve runs are sent too
        self.remaining = max(0, self.remaining - 1)

    def status(self, *, cancelled: bool = False) -> int:
        """The final status (PS3.4 Tables C.4-2 and C.4-3)."""
        if cancelled:
            return CANCELLED
        if self.failed and not self.completed and not self.warning:
            return UNABLE_TO_PERFORM
        return WARNING if self.failed or self.warning else SUCCESS


@dataclass(slots=True)
class Opened:
    """One instance, ready to be sent; `reader` is None when no copy can be read, then `error` says why."""

    instance: Sendable
    reader: ObjectReader | None
    file: StoredFile | None = None
    error: Exception | None = None

    def close(self) -> None:
        """Close the reader; further calls have no effect."""
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.close()


def open_instance(storage: Storage, instance: StoredInstance) -> Opened:
    """Open the first copy that can be opened. Blocks; never raises for a bad copy."""
    error: Exception = IntegrityError("no copy is held")
    for file in instance.files:
        try:
            return Opened(instance, storage.open(file), file)
        except (PacsError, OSError) as failure:
            error = failure
    return Opened(instance, None, None, error)


class Source(Protocol):
    """Objects to be sent, in order. One user, reactor's thread; both methods may fail with errors.OutOfResources."""

    async def upcoming(self) -> Sequence[Sendable]:
        """The objects known to come next, without opening any; empty at the end."""

    async def next(self) -> Opened | None:
        """The next object, opened; None at the end. The caller closes what it gets."""

    def skip(self) -> int:
        """Drop the objects known to come next; returns how many. What `upcoming` gives then is behind them."""


class Instances:
    """The instances of a selector in the index's order, a page of rows at a time. A `Source`."""

    def __init__(
        self, selector: Selector, index: Index, storage: Storage, offload: Offload, page_size: int = PAGE_SIZE
    ) -> None:
        self._selector = selector
        self._index = index
        self._storage = storage
        self._offload = offload
        self._page_size = page_size
        self._page: deque[StoredInstance] = deque()
        self._after_id = 0

    async def upcoming(self) -> Sequence[StoredInstance]:
        """See Source."""
        if not self._page:
            found = await self._offload.run(self._index.instances, self._selector, self._after_id, self._page_size)
            self._page.extend(found)
            if found:
                self._after_id = found[-1].instance_id
        return tuple(self._page)

    async def next(self) -> Opened | None:
        """See Source."""
        if not self._page and not await self.upcoming():
            return None
        opened = await self._offload.run(open_instance, self._storage, self._page[0])
        self._page.popleft()
        return opened

    def skip(self) -> int:
        """See Source."""
        n_skipped = len(self._page)
        self._page.clear()
        return n_skipped
