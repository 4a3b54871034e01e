"""The way of one image into the archive: admit, write, seal, index, answer (DESIGN §2).

`Success` is told only after the file and its directory entry are durable and the index has committed. Objects that are
complete at the same moment are sealed together and share one transaction (group commit), whatever association they came
by. The calls here are made on the reactor's thread; `_commit` runs in a worker thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from pacsd.model.errors import Busy, CommitUndecided, DuplicateInstance, OutOfResources, PacsError
from pacsd.model.objects import HEAD_CUT, ConflictRule, NewInstance, Outcome, StoredFile
from pacsd.workflow.intake import Intake, Origin, Receipt, as_error
from pacsd.workflow.ports import Clock, Index, Offload, Storage


class _ObjectMovedError(Exception):
    """A sync failed and moved an object to another pool: the rows name a wrong place. Never leaves this module."""


class Watch(Protocol):
    """Called on the reactor's thread when a dispatched call has ended."""

    def __call__(self, awaited: Awaitable[object], done: Callable[[object], None]) -> None:
        """Call `done` with the result, or with the exception, of `awaited`."""


class Observer(Protocol):
    """Who counts what came in (metrics, log). Called on the reactor's thread."""

    def __call__(self, origin: Origin, outcome: Outcome | None, size_bytes: int, flags: frozenset[str]) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one object in flight and of the commit.

    Attributes:
        flush_bytes: received bytes that make a write worth a thread hop.
        high_bytes: bytes in memory (waiting and being written) at which the sender is paused.
        grouped_bytes: smaller objects wait while a commit runs and then share the next one: what they cost is the
            commit, and two at once would only wait for each other. A larger one is worth a disk write of its own.
        max_batch: objects that share one commit.
        max_ready: objects waiting for a commit before new ones are refused as busy.
    """

    flush_bytes: int = 128 * 1024
    high_bytes: int = 1024 * 1024
    grouped_bytes: int = 128 * 1024
    max_batch: int = 64
    max_ready: int = 512


class Ingest:
    """Takes objects in. One for each process; it owns the group commit.

    Args:
        offload: writes what is received; commits too where there are no lanes.
        lanes: one thread each for commits (seal + transaction); as many run at once when objects are large. The last
            one that was used is used again: its caches are warm, which is worth a third of a small commit.
    """

    def __init__(
        self,
        storage: Storage,
        index: Index,
        offload: Offload,
        watch: Watch,
        clock: Clock,
        *,
        lanes: Sequence[Offload] = (),
        rule: ConflictRule = ConflictRule.KEEP_BOTH,
        limits: Limits = Limits(),
        observer: Observer | None = None,
    ) -> None:
        self.storage = storage
        self.offload = offload
        self._free = list(reversed(lanes or (offload,)))
        self._n_lanes = len(self._free)
        self.watch = watch
        self.limits = limits
        self._index = index
        self._clock = clock
        self._rule = rule
        self._observer = observer
        self._ready: deque[Intake] = deque()
        self._undecided: deque[NewInstance] = deque()

    def begin(self, sop_class_uid: str, sop_instance_uid: str, syntax_uid: str, meta: bytes, origin: Origin) -> Intake:
        """Start on one object.

        Args: meta: the file's beginning (preamble and file meta) for exactly these UIDs.
        Raises: Busy when too many objects wait for a commit.
        """
        if len(self._ready) >= self.limits.max_ready:
            raise Busy("too many objects wait to be committed")
        return Intake(self, sop_class_uid, sop_instance_uid, syntax_uid, meta, origin)

    def commit(self, intake: Intake) -> None:
        """Put a complete object in line for the next commit."""
        self._ready.append(intake)
        is_large = intake.size_bytes > self.limits.grouped_bytes
        if self._n_commits == 0 or (is_large and self._free):
            self._start_commit()

    def _start_commit(self) -> None:
        batch = [self._ready.popleft() for _ in range(min(len(self._ready), self.limits.max_batch))]
        lane = self._free.pop()

        def ended(result: object) -> None:
            self._free.append(lane)
            if self._ready:
                self._start_commit()
            answers = result if isinstance(result, list) else [as_error(result)] * len(batch)
            self._answer(batch, answers)

        self.watch(lane.run(self._commit, batch), ended)

    @property
    def _n_commits(self) -> int:
        return self._n_lanes - len(self._free)

    def _answer(self, batch: Sequence[Intake], answers: Sequence[Receipt | PacsError]) -> None:
        for intake, answer in zip(batch, answers, strict=True):
            if self._observer is not None:
                outcome = answer.outcome if isinstance(answer, Receipt) else None
                flags = answer.flags if isinstance(answer, Receipt) else frozenset()
                self._observer(intake.origin, outcome, intake.size_bytes, flags)
            intake.answered(answer)

    def _commit(self, batch: list[Intake]) -> list[Receipt | PacsError]:
        """Seal a batch and write its rows. Worker thread; answers for each, in order; never raises for one object."""
        answers: list[Receipt | PacsError | None] = [None] * len(batch)
        writable: list[int] = []
        for i, intake in enumerate(batch):
            try:
                intake.write_rest()
                writable.append(i)
            except (OSError, PacsError) as error:
                intake.staged.discard()
                answers[i] = as_error(error)
        sealing = self.storage.begin_seal([batch[i].staged for i in writable])
        places, is_synced = list(sealing.files), False

        def durable() -> None:
            nonlocal is_synced
            if not is_synced:
                is_synced = True
                sealing.sync()
            if sealing.files != places:
                raise _ObjectMovedError

        # The disk works since `begin_seal`; the rows are made meanwhile and commit only when it has ended well. If a
        # sync moved an object to another pool, they are made again with the true places.
        try:
            news = self._news(batch, writable, places, answers)
            if self._n_commits > 1:
                durable()  # another commit may wait for the database: it shouldn't wait for our disk too
            recorded = self.record([new for _, new in news], durable)
        except _ObjectMovedError:
            news = self._news(batch, writable, sealing.files, answers)
            recorded = self.record([new for _, new in news], lambda: None)
        finally:
            if not is_synced:
                sealing.sync()  # no row was written, but the files must be settled before anybody removes them
        for (i, _), answer in zip(news, recorded, strict=True):
            answers[i] = answer
        return [answer if answer is not None else OutOfResources("the object was not written") for answer in answers]

    def _news(
        self,
        batch: list[Intake],
        writable: list[int],
        places: Sequence[StoredFile | Exception],
        answers: list[Receipt | PacsError | None],
    ) -> list[tuple[int, NewInstance]]:
        news: list[tuple[int, NewInstance]] = []
        received_at = self._clock()
        for i, sealed in zip(writable, places, strict=True):
            if isinstance(sealed, Exception):
                answers[i] = as_error(sealed)
                continue
            try:
                news.append((i, self._new_instance(batch[i], sealed, received_at)))
            except Exception as error:  # noqa: BLE001 - the file can't be read back: no row, and no acknowledgement
                answers[i] = as_error(error)
        return news

    def _new_instance(self, intake: Intake, sealed: StoredFile, received_at: float) -> NewInstance:
        header = intake.read_header()
        if HEAD_CUT in header.flags:
            header = self.storage.read_file_header(sealed)
        origin = intake.origin
        return NewInstance(header, sealed, received_at, origin.source_ae, origin.source_address, origin.called_ae)

    def record(
        self, news: Sequence[NewInstance], durable: Callable[[], None] | None = None
    ) -> list[Receipt | PacsError]:
        """Write the rows of sealed files, in one transaction, and settle what was held already. Worker thread.

        Args:
            durable: waits until the files are; called before the commit, and what it raises undoes the rows. Without
                it the files are old ones, which are kept whatever happens.

        A new file that gets no row is removed, save when the database may have committed without being able to say
        so: then it stays for recovery to adopt (never a row without a file).
        """
        if not news:
            return []
        try:
            recorded = self._index.record(news, durable)
        except _ObjectMovedError:
            raise
        except Exception as error:  # noqa: BLE001 - any cause: each object of the batch has the same answer
            if durable is not None and type(error) is OutOfResources:
                durable()
                self._remove([new.file for new in news])
            elif durable is not None and isinstance(error, CommitUndecided):
                self._undecided.extend(news)
            return [as_error(error)] * len(news)
        answers: list[Receipt | PacsError] = []
        self.storage.settle(
            [new.file for new, row in zip(news, recorded, strict=True) if row.outcome is Outcome.STORED]
        )
        for new, row in zip(news, recorded, strict=True):
            try:
                if row.outcome is Outcome.STORED:
                    answers.append(Receipt(Outcome.STORED, row.instance_id, new.header.flags))
                else:
                    answers.append(self._settle(new, row.outcome, row.instance_id, row.existing))
            except Exception as error:  # noqa: BLE001 - one object's trouble isn't the others'
                answers.append(as_error(error))
        return answers

    def decide(self) -> None:
        """Find out what became of objects whose commit the database couldn't tell of; they were answered as failed.

        To be called every minute, in a worker thread; what can't be told yet is kept. There are never more than were
        being committed when the database was lost, since a database that is away decides: no.
        """
        for _ in range(len(self._undecided)):
            new = self._undecided.popleft()
            (answer,) = self.record([new])
            if isinstance(answer, OutOfResources):
                self._undecided.append(new)

    def _remove(self, files: Sequence[StoredFile]) -> None:
        """Remove files without a row; one that can't be is left to recovery."""
        for file in files:
            with suppress(PacsError):
                self.storage.remove(file)

    def _settle(self, new: NewInstance, outcome: Outcome, instance_id: int, existing: object) -> Receipt | PacsError:
        """An object whose SOP Instance UID is held: the same again, or other bytes."""
        files: tuple[StoredFile, ...] = getattr(existing, "files", ())
        held = next((file for file in files if self.storage.exists(file)), None)
        same = outcome is Outcome.DUPLICATE or (held is not None and self.storage.same_dataset(held, new.file))
        if same:
            if held is not None and (held.pool, held.path) != (new.file.pool, new.file.path):
                self.storage.remove(new.file)
            else:
                if held is None:
                    self._index.add_location(instance_id, new.file)
                self.storage.settle([new.file])
            return Receipt(Outcome.DUPLICATE, instance_id, new.header.flags)
        settled = self._index.record_conflict(new, self._rule)
        if settled.outcome is Outcome.REFUSED:
            self.storage.remove(new.file)
            return DuplicateInstance("another object is held under this SOP Instance UID")
        self.storage.settle([new.file])
        return Receipt(settled.outcome, settled.instance_id, new.header.flags)
