"""What an association sends: responses, requests of ours with their answers, and objects straight from their files."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from pacsd.dicom.terms import DimseTimeout
from pacsd.dicom.wire import dimse
from pacsd.dicom.wire.dimse import Command
from pacsd.model.errors import IntegrityError
from pacsd.workflow.ports import ObjectReader, Offload

if TYPE_CHECKING:
    from pacsd.dicom.association import Association

CHUNK_BYTES = 1024 * 1024
"""Data set bytes read from a file at once; an association holds at most two such chunks."""
SEND_BUFFER_BYTES = 512 * 1024
"""Unsent bytes above which `drained` waits."""


Pace = Callable[[int], Awaitable[None]]


def _is_pending(command: Command) -> bool:
    return command.Status in (0xFF00, 0xFF01)


class _Answers:
    """The responses to one request of ours."""

    def __init__(self) -> None:
        self.arrived: deque[tuple[Command, bytes | None]] = deque()
        self.cause: Exception | None = None
        self._wanted: Deferred[None] | None = None

    def wake(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            wanted.callback(None)

    async def next(self, clock: Any, timeout_s: float) -> tuple[Command, bytes | None]:
        """Raises AssociationLost, TimeoutError."""
        if not self.arrived and self.cause is None:
            self._wanted = Deferred()
            timer = clock.callLater(timeout_s, self._wanted.cancel)
            try:
                await self._wanted
            except CancelledError:
                raise TimeoutError from None
            finally:
                if timer.active():
                    timer.cancel()
        if self.arrived:
            return self.arrived.popleft()
        assert self.cause is not None
        raise self.cause


@dataclass(frozen=True, slots=True)
class _Frame:
    """PDUs around a part of a data set; `gaps` are where its bytes go."""

    context_id: int
    n_bytes: int
    is_last: bool
    buffer: bytearray
    gaps: list[memoryview]


class Prefetched:
    """The first part of an object's data set, framed for one context, being read in a thread."""

    def __init__(self, frame: _Frame, read: Any) -> None:
        self.frame = frame
        self.read = read

    @property
    def context_id(self) -> int:
        """Of the context that it was framed for."""
        return self.frame.context_id

    async def ended(self) -> None:
        """Return when no thread reads any more, so that the file may be closed."""
        with suppress(Exception):  # whoever wanted the bytes was told
            await self.read


@implementer(IPushProducer)
class _Gate:
    """Tells when the transport's buffer is full (a streaming producer without data of its own)."""

    def __init__(self) -> None:
        self.is_open = True
        self._waiting: list[Deferred[None]] = []

    def pauseProducing(self) -> None:
        self.is_open = False

    def resumeProducing(self) -> None:
        self.is_open = True
        self._release()

    def stopProducing(self) -> None:
        self.resumeProducing()

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    async def passed(self) -> None:
        while not self.is_open:
            waiter: Deferred[None] = Deferred()
            self._waiting.append(waiter)
            await waiter


class Outbound:
    """One association's sending side."""

    def __init__(self, association: Association, offload: Offload) -> None:
        self._association = association
        self._offload = offload
        self._gate = _Gate()
        self._answers: dict[int, _Answers] = {}
        self._last_id = 0
        self._cause: Exception | None = None
        self._spare: deque[_Frame] = deque(maxlen=2)

    @property
    def n_waiting(self) -> int:
        """Requests of ours that the peer has not answered finally."""
        return len(self._answers)

    def connected(self, transport: Any) -> None:
        """Watch the transport's buffer."""
        transport.registerProducer(self._gate, True)

    def lost(self, cause: Exception) -> None:
        """Fail whoever waits."""
        self._cause = cause
        answers, self._answers = self._answers, {}
        for waiting in answers.values():
            waiting.cause = cause
            waiting.wake()
        self._gate.stopProducing()
        self._spare.clear()

    async def drained(self) -> None:
        """See Association.drained."""
        await self._gate.passed()
        if self._cause is not None:
            raise self._cause

    def next_message_id(self) -> int:
        """1 to 65535, never one that is in use."""
        while True:
            self._last_id = self._last_id % 0xFFFF + 1
            if self._last_id not in self._answers:
                return self._last_id

    def send(self, context_id: int, command: Command, dataset: bytes | None) -> None:
        """Write a whole message. Raises AssociationLost."""
        self.send_encoded(context_id, dimse.encode_command(command), dataset)

    def send_encoded(self, context_id: int, command: bytes, dataset: bytes | None = None) -> None:
        """Write a whole message whose command set is encoded already. Raises AssociationLost."""
        association = self._association
        association.write_pdus(dimse.message(context_id, command, dataset, association.peer_max_pdu))

    def received(self, command: Command, dataset: bytes | None) -> None:
        """A response arrived; one that nobody waits for any more is dropped."""
        message_id = command.MessageIDBeingRespondedTo
        answers = self._answers.get(message_id)
        if answers is None:
            return
        if not _is_pending(command):
            del self._answers[message_id]
        answers.arrived.append((command, dataset))
        answers.wake()

    def _ask(self, command: Command) -> _Answers:
        if self._cause is not None:
            raise self._cause
        answers = self._answers[command.MessageID] = _Answers()
        return answers

    async def _answer(self, answers: _Answers, timeout_s: float | None) -> tuple[Command, bytes | None]:
        association = self._association
        try:
            return await answers.next(association.clock, timeout_s or association.settings.dimse_timeout_s)
        except TimeoutError:
            association.abort()
            raise DimseTimeout("the peer did not answer in time") from None

    async def request(
        self, context_id: int, command: Command, dataset: bytes | None, timeout_s: float | None
    ) -> tuple[Command, bytes | None]:
        """See Association.request."""
        answers = self._ask(command)
        self.send(context_id, command, dataset)
        return await self._answer(answers, timeout_s)

    async def responses(
        self, context_id: int, command: Command, dataset: bytes | None
    ) -> AsyncIterator[tuple[Command, bytes | None]]:
        """See Association.responses."""
        answers = self._ask(command)
        self.send(context_id, command, dataset)
        while True:
            answer = await self._answer(answers, None)
            yield answer
            if not _is_pending(answer[0]):
                return

    def cancel(self, context_id: int, message_id: int) -> None:
        """See Association.cancel."""
        command = Command(
            CommandField=dimse.C_CANCEL_RQ, MessageIDBeingRespondedTo=message_id, CommandDataSetType=dimse.NO_DATASET
        )
        self.send(context_id, command, None)

    # -- objects -----------------------------------------------------------------------------------------------------

    def prefetch(self, context_id: int, reader: ObjectReader) -> Prefetched:
        """See Association.prefetch."""
        return self._read(context_id, reader, reader.dataset_offset)

    def _read(self, context_id: int, reader: ObjectReader, offset: int) -> Prefetched:
        left = reader.size_bytes - offset
        n_bytes = min(left, dimse.whole_pdus(CHUNK_BYTES, self._association.peer_max_pdu))
        is_last = n_bytes == left
        frame = self._frame(context_id, n_bytes, is_last)
        return Prefetched(frame, self._offload.run(reader.readinto, offset, frame.gaps))

    def _frame(self, context_id: int, n_bytes: int, is_last: bool) -> _Frame:
        """One that was sent before, where it fits: the images of a series have one size, and fresh memory costs."""
        for spare in self._spare:
            if spare.n_bytes == n_bytes and spare.context_id == context_id and spare.is_last == is_last:
                self._spare.remove(spare)
                return spare
        buffer, gaps = dimse.frame_into(n_bytes, context_id, is_last, self._association.peer_max_pdu)
        return _Frame(context_id, n_bytes, is_last, buffer, gaps)

    async def send_stored(
        self,
        context_id: int,
        command: Command,
        reader: ObjectReader,
        prefetched: Prefetched | None,
        pace: Pace | None,
        timeout_s: float | None,
    ) -> Command:
        """See Association.send_stored."""
        association = self._association
        if prefetched is None or prefetched.context_id != context_id:
            prefetched = self.prefetch(context_id, reader)
        answers = self._ask(command)
        offset, started = reader.dataset_offset, False
        try:
            while True:
                part = prefetched.frame
                if pace is not None:
                    await pace(part.n_bytes)
                if await prefetched.read != part.n_bytes:
                    raise IntegrityError("the file is shorter than it was")  # noqa: TRY301 - half a message: see below
                offset += part.n_bytes
                if not part.is_last:
                    prefetched = self._read(context_id, reader, offset)
                if not started:
                    started = True
                    self.send(context_id, command, None)
                association.write_pdus(part.buffer)
                self._spare.append(part)
                if part.is_last:
                    break
                await self.drained()
        except BaseException:
            self._answers.pop(command.MessageID, None)
            if started:
                association.abort()  # half a message can't be taken back
            await prefetched.ended()
            raise
        return (await self._answer(answers, timeout_s))[0]
