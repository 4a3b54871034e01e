"""C-STORE as a requester: many objects of any kind to one peer, with as few associations as the contexts allow.

Used by C-MOVE, C-GET, `pacsd peer send` and whatever routes (PS3.4 Annex B; PS3.7 §9.1.1).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from pacsd.dicom.association import Association, AssociationLost, AssociationRejected, Context, DimseTimeout
from pacsd.dicom.outbound import Prefetched
from pacsd.dicom.scu.connect import ConnectFailed, Proposal
from pacsd.dicom.scu.destination import Throttle
from pacsd.dicom.scu.routes import Padded, Pair, Routes, proposals_for, proposals_of
from pacsd.dicom.wire import dimse
from pacsd.dicom.wire.dimse import Command
from pacsd.dicom.wire.status import Category, categorise
from pacsd.model.errors import Busy, CannotConvert, PacsError
from pacsd.model.syntax import transfer_syntax
from pacsd.workflow.ports import ObjectReader
from pacsd.workflow.retrieve import Converter, Opened, Sendable, Source

MAX_LOSSES: Final = 2
"""Associations lost in a row without one object delivered, after which a peer is given up."""
BUSY_PAUSE_S: Final = 0.1
BUSY_LIMIT_S: Final = 60.0

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Originator:
    """The C-MOVE on whose behalf an object is sent (PS3.7 §9.3.1.1)."""

    ae_title: str
    message_id: int


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one object; `status` is the peer's, None when it never answered. `cause` has no patient data."""

    sop_class_uid: str
    sop_instance_uid: str
    status: int | None
    cause: str = ""

    @property
    def is_warning(self) -> bool:
        """Stored, but not as it was sent."""
        return self.status is not None and categorise(self.status) is Category.WARNING

    @property
    def is_stored(self) -> bool:
        """The peer has it."""
        return self.status == 0 or self.is_warning


@dataclass(slots=True)
class _Ready:
    """An object on its way: routed, its first part being read."""

    opened: Opened
    context: Context | None = None
    reader: ObjectReader | None = None
    prefetched: Prefetched | None = None
    error: Exception | None = None

    async def settle(self, *, keep_original: bool) -> None:
        """Close what was opened, after the read ahead that uses it has ended."""
        prefetched, self.prefetched = self.prefetched, None
        if prefetched is not None:
            with suppress(PacsError, OSError):
                await prefetched.read
        if self.reader is not None and self.reader is not self.opened.reader:
            self.reader.close()
        self.reader = None
        if not keep_original:
            self.opened.close()


Connect = Callable[[Sequence[Proposal]], Awaitable[Association]]


class Delivery:
    """One run of objects to one peer. Reactor's thread.

    While one object is sent the next is opened, converted where it must be, and its first part read. A full pool makes
    it wait, not fail. Every object is reported exactly once, unless the run was cancelled.

    Args:
        source: the objects.
        report: told what became of each, as soon as that is known.
        clock: the reactor.
        cancelled: asked between objects.
        throttle: of the peer, None for none.
    """

    def __init__(
        self,
        source: Source,
        report: Callable[[Result], None],
        *,
        clock: IReactorTime,
        converter: Converter | None = None,
        originator: Originator | None = None,
        priority: int = dimse.PRIORITY_MEDIUM,
        cancelled: Callable[[], bool] = lambda: False,
        throttle: Throttle | None = None,
    ) -> None:
        self._source = source
        self._report = report
        self._clock = clock
        self._converter = converter
        self._originator = originator
        self._priority = priority
        self._cancelled = cancelled
        self._throttle = throttle
        self._back: Opened | None = None
        self._n_delivered = 0

    async def to(self, connect: Connect) -> str:
        """Send all over associations that `connect` opens, one at a time.

        Returns:
            '' or why the peer was given up (then every object left has been reported).

        Raises:
            errors.PacsError: the source failed.
        """
        association: Association | None = None
        proposed: frozenset[Pair] = frozenset()
        n_losses = 0
        try:
            while not self._cancelled():
                n_fitting, pairs = proposals_for(await self._upcoming())
                if not n_fitting:
                    return ""
                if not pairs:
                    await self._fail_next(n_fitting)
                    continue
                if association is None or not association.is_open or not pairs <= proposed:
                    if association is not None:
                        await association.release()
                    association, proposed = await connect(proposals_of(pairs)), pairs
                n_before = self._n_delivered
                try:
                    await self.over(association, n_fitting)
                except (AssociationLost, DimseTimeout) as error:
                    association.abort()
                    n_losses = 1 if self._n_delivered > n_before else n_losses + 1
                    if n_losses >= MAX_LOSSES:
                        return await self._give_up(str(error))
                else:
                    n_losses = 0
        except (ConnectFailed, AssociationRejected, AssociationLost, DimseTimeout) as error:
            return await self._give_up(str(error))
        finally:
            self.close()
            if association is not None and association.is_open:
                await association.release()
        return ""

    async def over(self, association: Association, n_objects: int | None = None) -> None:
        """Send the next objects (all: None) over an open association.

        Raises:
            AssociationLost, DimseTimeout: after the object under way has been reported; the run can go on elsewhere.
            errors.PacsError: the source failed.
        """
        routes = Routes(association.contexts.values())
        n_left = n_objects
        following: Deferred[_Ready | None] | None = None
        ready = await self._prepare(association, routes)
        try:
            while ready is not None and not self._cancelled():
                if n_left is not None:
                    n_left -= 1
                if n_left != 0:
                    following = Deferred.fromCoroutine(self._prepare(association, routes))
                sending, ready = ready, None
                await self._send(association, sending)
                waiting, following = following, None
                if waiting is not None:
                    ready = await waiting
        finally:
            if following is not None:
                with suppress(PacsError):  # the source will fail again when it's asked again
                    ready = await following
            if ready is not None:
                await ready.settle(keep_original=True)
                self._back = ready.opened

    # -- one object --------------------------------------------------------------------------------------------------

    async def _prepare(self, association: Association, routes: Routes) -> _Ready | None:
        opened, self._back = self._back, None
        if opened is None:
            opened = await self._patiently(self._source.next)
        if opened is None:
            return None
        ready = _Ready(opened, error=opened.error)
        if opened.reader is not None:
            try:
                await self._route(association, routes, opened, ready)
            except (PacsError, OSError) as error:
                ready.error = error
        return ready

    async def _route(self, association: Association, routes: Routes, opened: Opened, ready: _Ready) -> None:
        reader = opened.reader
        assert reader is not None
        context = routes.choose(opened.instance.sop_class_uid, reader.transfer_syntax_uid, self._converter)
        if context is None:
            raise CannotConvert("the peer accepts no transfer syntax that this object can have")
        if context.transfer_syntax != reader.transfer_syntax_uid:
            converter, file = self._converter, opened.file
            if converter is None or file is None:
                raise CannotConvert("the peer does not accept this object's transfer syntax")
            reader = await self._patiently(lambda: converter.convert(file, context.transfer_syntax))
        ready.context, ready.reader = context, reader
        if (reader.size_bytes - reader.dataset_offset) & 1 and transfer_syntax(context.transfer_syntax).deflated:
            ready.reader = Padded(reader)
        ready.prefetched = association.prefetch(context.id, ready.reader)

    async def _send(self, association: Association, ready: _Ready) -> None:
        """Send and report one object. Raises AssociationLost, DimseTimeout, after reporting."""
        instance = ready.opened.instance
        status: int | None = None
        cause = ""
        try:
            if ready.error is not None:
                cause = _cause_of(ready.error)
                return
            assert ready.context is not None
            assert ready.reader is not None
            response = await self._patiently(lambda: self._transfer(association, ready))
            status, cause = response.Status, response.ErrorComment or ""
            self._n_delivered += 1
        except (AssociationLost, DimseTimeout) as error:
            cause = str(error)
            raise
        except (PacsError, OSError) as error:
            cause = _cause_of(error)
            if not association.is_open:
                raise AssociationLost(cause) from error
        finally:
            await ready.settle(keep_original=False)
            self._report(Result(instance.sop_class_uid, instance.sop_instance_uid, status, cause))

    async def _transfer(self, association: Association, ready: _Ready) -> Command:
        assert ready.context is not None
        assert ready.reader is not None
        command = self._command(association, ready.opened.instance)
        prefetched, ready.prefetched = ready.prefetched, None
        return await association.send_stored(
            ready.context.id,
            command,
            ready.reader,
            prefetched=prefetched,
            pace=None if self._throttle is None else self._throttle.pass_,
        )

    def _command(self, association: Association, instance: Sendable) -> Command:
        command = Command(
            AffectedSOPClassUID=instance.sop_class_uid,
            CommandField=dimse.C_STORE_RQ,
            MessageID=association.next_message_id(),
            Priority=self._priority,
            CommandDataSetType=dimse.HAS_DATASET,
            AffectedSOPInstanceUID=instance.sop_instance_uid,
        )
        if self._originator is not None:
            command.MoveOriginatorApplicationEntityTitle = self._originator.ae_title
            command.MoveOriginatorMessageID = self._originator.message_id
        return command

    # -- the run -----------------------------------------------------------------------------------------------------

    async def _upcoming(self) -> Sequence[Sendable]:
        known = await self._patiently(self._source.upcoming)
        return known if self._back is None else [self._back.instance, *known]

    async def _patiently(self, call: Callable[[], Awaitable[R]]) -> R:
        """Call again for a while as long as a pool is full. Raises errors.Busy after that."""
        started_s = self._clock.seconds()
        while True:
            try:
                return await call()
            except Busy:
                # a pool that is full has done nothing yet
                if self._cancelled() or self._clock.seconds() - started_s > BUSY_LIMIT_S:
                    raise
            await deferLater(self._clock, BUSY_PAUSE_S)

    def close(self) -> None:
        """Close what was opened for an association that didn't last; further calls have no effect."""
        if self._back is not None:
            self._back.close()
            self._back = None

    async def _fail_next(self, n_objects: int) -> None:
        """Report objects that no context can be proposed for."""
        for _ in range(n_objects):
            opened, self._back = self._back, None
            if opened is None:
                opened = await self._patiently(self._source.next)
            if opened is None:
                return
            opened.close()
            instance = opened.instance
            cause = _cause_of(opened.error) if opened.error else "its SOP class or transfer syntax is no UID"
            self._report(Result(instance.sop_class_uid, instance.sop_instance_uid, None, cause))

    async def _give_up(self, cause: str) -> str:
        while not self._cancelled():
            upcoming = await self._upcoming()
            if not upcoming:
                break
            for item in upcoming:
                self._report(Result(item.sop_class_uid, item.sop_instance_uid, None, cause))
            self.close()
            self._source.skip()
        return cause


def _cause_of(error: Exception) -> str:
    """What may be told of an error that isn't the peer's."""
    if isinstance(error, PacsError):
        return error.comment
    return f"read failed: {error.strerror}" if isinstance(error, OSError) else type(error).__name__
