"""Two associations joined in memory, and the ports behind them; no socket, no reactor, no thread."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from zope.interface import implementer

from pacsd.dicom.acceptor import Acceptor, Admission
from pacsd.dicom.association import Association, AssociationSettings
from pacsd.dicom.dispatch import Services
from pacsd.dicom.scu.connect import Network, Target
from pacsd.dicom.wire.part10 import encode_file_meta
from pacsd.model.dataset import Dataset
from pacsd.model.errors import CannotConvert, IntegrityError
from pacsd.model.objects import Job, NewJob, Peer, StoredFile, StoredInstance
from pacsd.model.query import Page, Query, Selector

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"


class Wire:
    """A connection's two transports; bytes wait until `pump`, so that no call runs inside another."""

    def __init__(self) -> None:
        self.waiting: deque[Callable[[], None]] = deque()
        self._pumping = False

    def later(self, call: Callable[[], None]) -> None:
        self.waiting.append(call)

    def pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            while self.waiting:
                self.waiting.popleft()()
        finally:
            self._pumping = False


class WireOffload:
    """Runs each call in its turn on the wire; the next calls fail at once with what is in `refusals`."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.refusals: deque[Exception] = deque()
        self.n_calls = 0

    def run(self, fn: Callable[..., Any], *args: Any) -> Deferred[Any]:
        self.n_calls += 1
        if self.refusals:
            return fail(self.refusals.popleft())
        result: Deferred[Any] = Deferred()

        def call() -> None:
            try:
                value = fn(*args)
            except Exception as error:  # noqa: BLE001 - the awaiting code gets it
                result.errback(error)
            else:
                result.callback(value)

        self.wire.later(call)
        return result


class MemoryTransport:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.protocol: Any = None
        self.other: MemoryTransport | None = None
        self.is_open = True
        self.is_stalled = False
        self.n_written = 0

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes), "Twisted's transports take nothing else"
        if self.is_stalled:
            self.producer.pauseProducing()
        elif self.is_open:
            self.n_written += len(data)
            self.wire.later(lambda: self._deliver(data))

    def _deliver(self, data: bytes) -> None:
        assert self.other is not None
        if self.other.is_open:
            self.other.protocol.dataReceived(data)

    def loseConnection(self) -> None:
        if not self.is_stalled:
            self.wire.later(self.cut)

    def abortConnection(self) -> None:
        self.wire.later(self.cut)

    def cut(self) -> None:
        assert self.other is not None
        for end in (self, self.other):
            if end.is_open:
                end.is_open = False
                end.protocol.connectionLost()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 104)


def join(one: Association, other: Association, wire: Wire) -> None:
    ends = MemoryTransport(wire), MemoryTransport(wire)
    for end, opposite, protocol in ((ends[0], ends[1], one), (ends[1], ends[0], other)):
        end.protocol, end.other, protocol.transport = protocol, opposite, end
    other.connectionMade()
    one.connectionMade()


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    def __init__(self, host: Host | None, wire: Wire) -> None:
        self.host, self.wire = host, wire

    def connect(self, factory: Any) -> Deferred[Any]:
        if self.host is None:
            return fail(ConnectionRefusedError())
        protocol = factory.buildProtocol(None)
        accepted = self.host.acceptor.buildProtocol(None)
        assert accepted is not None
        self.host.associations.append(accepted)
        join(protocol, accepted, self.wire)
        return succeed(protocol)


@dataclass
class Host:
    acceptor: Acceptor
    associations: list[Association]


class Net:
    """Hosts by port, and a clock for all."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.wire = Wire()
        self.offload = WireOffload(self.wire)
        self.hosts: dict[int, Host] = {}
        self.settings = AssociationSettings(max_pdu_length=16384)

    def listen(self, port: int, services: Services, **admission: Any) -> Host:
        rules = Admission(
            ae_titles=frozenset({""}), storage_classes=frozenset(), any_called_ae=True, unknown_peers="accept",
            settings=self.settings, **admission,
        )  # fmt: skip
        acceptor = Acceptor(
            rules, services, lambda title: None, self.offload, self.offload, self.clock, lambda at_limit: None
        )
        self.hosts[port] = Host(acceptor, [])
        return self.hosts[port]

    def network(self, services: Services | None = None) -> Network:
        return Network(self.clock, self.offload, self.settings, services or Services(), endpoint_for=self._endpoint)

    def _endpoint(self, target: Target) -> MemoryEndpoint:
        return MemoryEndpoint(self.hosts.get(target.port), self.wire)

    def run(self, coroutine: Any, *, within_s: float = 0.0) -> Any:
        """Run to the end, turning the clock on by up to `within_s` where it waits."""
        outcome: list[Any] = []
        Deferred.fromCoroutine(coroutine).addBoth(outcome.append)
        self.wire.pump()
        turned_s = 0.0
        while not outcome and turned_s < within_s:
            self.clock.advance(0.05)
            turned_s += 0.05
            self.wire.pump()
        assert outcome, "it still waits"
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]


class MemoryReader:
    def __init__(self, data: bytes, syntax_uid: str, offset: int) -> None:
        self.data, self.transfer_syntax_uid, self.dataset_offset = data, syntax_uid, offset
        self.size_bytes = len(data)
        self.n_closed = 0

    def readinto(self, offset: int, buffers: Sequence[memoryview]) -> int:
        done = 0
        for buffer in buffers:
            piece = self.data[offset + done : offset + done + len(buffer)]
            buffer[: len(piece)] = piece
            done += len(piece)
        return done

    def close(self) -> None:
        self.n_closed += 1


class MemoryStorage:
    """Files by digest."""

    def __init__(self) -> None:
        self.files: dict[bytes, tuple[bytes, str, int]] = {}
        self.readers: list[MemoryReader] = []

    def put(self, sop_class: str, uid: str, syntax: str, dataset: bytes) -> StoredFile:
        meta = encode_file_meta(sop_class, uid, syntax)
        digest = hashlib.sha256(meta + dataset).digest()
        self.files[digest] = (meta + dataset, syntax, len(meta))
        return StoredFile("a", "objects", digest, len(meta) + len(dataset))

    def open(self, file: StoredFile) -> MemoryReader:
        if file.digest not in self.files:
            raise IntegrityError("stored file is missing")
        self.readers.append(MemoryReader(*self.files[file.digest]))
        return self.readers[-1]

    @property
    def n_open(self) -> int:
        return sum(not reader.n_closed for reader in self.readers)


class MemoryIndex:
    """Instances in order; `matches` answer every query."""

    def __init__(self) -> None:
        self.held: list[StoredInstance] = []
        self.matches: list[Dataset] = []
        self.unsupported = False
        self.queries: list[Query] = []
        self.failure: Exception | None = None

    def add(
        self, storage: MemoryStorage, uid: str, *, sop_class: str = CT, syntax: str = EXPLICIT,
        dataset: bytes = b"\x08\x00\x60\x00CS\x02\x00CT", study: str = "1.2.3",
    ) -> StoredInstance:  # fmt: skip
        file = storage.put(sop_class, uid, syntax, dataset)
        self.held.append(StoredInstance(len(self.held) + 1, sop_class, uid, study + ".1", study, syntax, (file,)))
        return self.held[-1]

    def search(self, query: Query, cursor: tuple[int | str, ...] | None, page_size: int) -> Page:
        if self.failure is not None:
            raise self.failure
        self.queries.append(query)
        start = int(cursor[0]) if cursor else 0
        end = start + page_size
        return Page(tuple(self.matches[start:end]), self.unsupported, (end,) if end < len(self.matches) else None)

    def _selected(self, selector: Selector) -> list[StoredInstance]:
        if self.failure is not None:
            raise self.failure
        return [
            held
            for held in self.held
            if (not selector.study_uids or held.study_uid in selector.study_uids)
            and (not selector.series_uids or held.series_uid in selector.series_uids)
            and (not selector.sop_instance_uids or held.sop_instance_uid in selector.sop_instance_uids)
        ]

    def instances(self, selector: Selector, after_id: int, limit: int) -> list[StoredInstance]:
        return [held for held in self._selected(selector) if held.instance_id > after_id][:limit]

    def count_instances(self, selector: Selector) -> int:
        return len(self._selected(selector))


class MemoryConverter:
    """Makes explicit little endian of anything lossless; `broken` digests can't be decoded."""

    def __init__(self, storage: MemoryStorage) -> None:
        self.storage = storage
        self.is_broken = False
        self.converted: list[str] = []
        self.readers: list[MemoryReader] = []

    def targets(self, transfer_syntax_uid: str) -> Sequence[str]:
        return [uid for uid in (EXPLICIT, IMPLICIT) if uid != transfer_syntax_uid]

    def convert(self, file: StoredFile, target_uid: str) -> Deferred[MemoryReader]:
        if self.is_broken:
            return fail(CannotConvert("pixel data can't be decoded"))
        self.converted.append(target_uid)
        reader = MemoryReader(b"converted!", target_uid, 0)
        self.readers.append(reader)
        return succeed(reader)


class MemoryPeers:
    def __init__(self, *peers: Peer) -> None:
        self.by_title = {peer.ae_title: peer for peer in peers}

    def get(self, ae_title: str) -> Peer | None:
        return self.by_title.get(ae_title)

    def all(self) -> Any:
        return iter(self.by_title.values())


class MemoryJobs:
    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.waiting: dict[int, tuple[NewJob, float, int]] = {}
        self.errors: list[str] = []
        self.failure: Exception | None = None
        self._last_id = 0

    def enqueue(self, job: NewJob) -> int:
        if self.failure is not None:
            raise self.failure
        self._last_id += 1
        self.waiting[self._last_id] = (job, job.run_at, 0)
        return self._last_id

    def claim(self, kinds: Sequence[str], owner: str, lease_s: float, n: int) -> list[Job]:
        claimed = []
        for job_id, (job, run_at, attempts) in list(self.waiting.items()):
            if job.kind in kinds and run_at <= self.now() and len(claimed) < n:
                self.waiting[job_id] = (job, self.now() + lease_s, attempts + 1)
                claimed.append(Job(job_id, job.kind, job.payload, job.key, attempts + 1))
        return claimed

    def finish(self, job_id: int) -> None:
        del self.waiting[job_id]

    def retry(self, job_id: int, error: str, delay_s: float, max_attempts: int) -> bool:
        job, _, attempts = self.waiting[job_id]
        self.errors.append(error)
        self.waiting[job_id] = (job, self.now() + delay_s, attempts)
        return attempts < max_attempts


class TakingStore:
    """Keeps every object that it is sent; answers `status`, per SOP instance where `statuses` has it."""

    def __init__(self) -> None:
        self.objects: list[tuple[Any, str, bytes]] = []
        self.status = 0
        self.statuses: dict[str, int] = {}
        self.cut_at: set[str] = set()
        self.silent = False

    def begin(self, association: Association, context: Any, command: Any) -> TakingSink:
        return TakingSink(self, association, context, command)

    @property
    def uids(self) -> list[str]:
        return [command.AffectedSOPInstanceUID for command, _, _ in self.objects]


class TakingSink:
    def __init__(self, store: TakingStore, association: Association, context: Any, command: Any) -> None:
        self.store, self.association, self.context, self.command = store, association, context, command
        self.parts = bytearray()

    def data(self, fragment: bytes | memoryview) -> None:
        self.parts += fragment

    def end(self) -> None:
        from pacsd.dicom.inbound import response_to

        uid = self.command.AffectedSOPInstanceUID
        if uid in self.store.cut_at:
            self.association.abort()
            return
        if self.store.silent:
            return
        status = self.store.statuses.get(uid, self.store.status)
        if status == 0 or status & 0xF000 == 0xB000:
            self.store.objects.append((self.command, self.context.transfer_syntax, bytes(self.parts)))
        self.association.respond(self.context.id, response_to(self.command, status))
        self.association.stored(self)

    def abort(self) -> None:
        self.parts.clear()
