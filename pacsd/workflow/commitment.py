"""Storage commitment: what a requester asks us to be responsible for, whether we can say yes, and when to say it again.

PS3.4 Annex J. A request is a job before it is answered, so a promise to report outlives this process. Only what is
held, of the class named, read back against its digest and present in enough copies is committed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from pacsd.model.dataset import Dataset, Element
from pacsd.model.errors import PacsError
from pacsd.model.objects import Job, NewJob, StoredFile, StoredInstance
from pacsd.model.query import Selector
from pacsd.workflow.ports import Index, Jobs, Offload, Storage

KIND = "storage-commitment-report"
HEAD_START_S = 60.0
"""How long the process that took the request has it to itself: it may still have the association it came by."""

MAX_REFERENCES = 50_000
LOOKUP_SIZE = 500
READ_BYTES = 1 << 20

DELIVERY_LIMIT_S = 7 * 24 * 3600.0
FIRST_DELAY_S = 30.0
LONGEST_DELAY_S = 3600.0

TRANSACTION_UID = 0x00081195
FAILURE_REASON = 0x00081197
FAILED_SOP_SEQUENCE = 0x00081198
REFERENCED_SOP_SEQUENCE = 0x00081199
REFERENCED_SOP_CLASS_UID = 0x00081150
REFERENCED_SOP_INSTANCE_UID = 0x00081155


class Reason(IntEnum):
    """Failure Reason (0008,1197), PS3.4 J.4.1 and PS3.3 C.14.1.1."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    DUPLICATE_TRANSACTION = 0x0131
    RESOURCE_LIMITATION = 0x0213


class InvalidRequest(PacsError):
    """The action information lacks what Table J.3-1 demands (PS3.7 C.5.13, Invalid argument value)."""

    dicom_status = 0x0115
    http_status = 400


@dataclass(frozen=True, slots=True)
class Reference:
    """One SOP instance that is asked about."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """What an N-ACTION asked for, and who.

    Attributes:
        ae_title: the requester's title; reports go to the peer registered under it.
        called_ae: the title by which we were called; reports are sent under it.
        requested_at: seconds since the epoch, UTC.
        duplicate: the transaction UID was in use for other references; all are answered by DUPLICATE_TRANSACTION.
    """

    transaction_uid: str
    references: tuple[Reference, ...]
    ae_title: str
    called_ae: str
    requested_at: float
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """A reference that isn't committed."""

    reference: Reference
    reason: Reason


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What may be said about a request: every reference is in exactly one of the two."""

    committed: tuple[Reference, ...]
    failed: tuple[Failure, ...]

    @property
    def lacks_copies(self) -> bool:
        """Some reference fails only because it isn't in enough places yet; waiting may help."""
        return any(failure.reason is Reason.RESOURCE_LIMITATION for failure in self.failed)


def request_of(action: Dataset, ae_title: str, called_ae: str, requested_at: float) -> CommitmentRequest:
    """Read the action information of an N-ACTION request (PS3.4 Table J.3-1).

    References named twice are taken once.

    Raises:
        InvalidRequest: no transaction UID, no reference, an incomplete one, or more than `MAX_REFERENCES`.
    """
    transaction_uid = action.text(TRANSACTION_UID)
    if not transaction_uid:
        raise InvalidRequest("Transaction UID is missing")
    items = action.sequence(REFERENCED_SOP_SEQUENCE)
    if not items:
        raise InvalidRequest("Referenced SOP Sequence is missing")
    if len(items) > MAX_REFERENCES:
        raise InvalidRequest(f"more than {MAX_REFERENCES} references")
    references: dict[Reference, None] = {}
    for item in items:
        reference = Reference(item.text(REFERENCED_SOP_CLASS_UID), item.text(REFERENCED_SOP_INSTANCE_UID))
        if not reference.sop_class_uid or not reference.sop_instance_uid:
            raise InvalidRequest("a reference lacks its class or instance UID")
        references[reference] = None
    return CommitmentRequest(transaction_uid, tuple(references), ae_title, called_ae, requested_at)


def job_of(request: CommitmentRequest) -> NewJob:
    """The job that keeps a request until it is reported."""
    return NewJob(
        kind=KIND,
        payload={
            "transaction_uid": request.transaction_uid,
            "ae_title": request.ae_title,
            "called_ae": request.called_ae,
            "requested_at": request.requested_at,
            "duplicate": request.duplicate,
            "references": [[ref.sop_class_uid, ref.sop_instance_uid] for ref in request.references],
        },
        run_at=request.requested_at + HEAD_START_S,
    )


def request_of_job(job: Job) -> CommitmentRequest:
    """The request that a job keeps."""
    payload = job.payload
    return CommitmentRequest(
        transaction_uid=payload["transaction_uid"],
        references=tuple(Reference(*pair) for pair in payload["references"]),
        ae_title=payload["ae_title"],
        called_ae=payload["called_ae"],
        requested_at=payload["requested_at"],
        duplicate=payload["duplicate"],
    )


async def persist(request: CommitmentRequest, jobs: Jobs, offload: Offload) -> int:
    """Write the job; when this returns, the request may be answered by Success. Returns the job's id."""
    return await offload.run(jobs.enqueue, job_of(request))


async def evaluate(
    request: CommitmentRequest, index: Index, storage: Storage, offload: Offload, *, n_copies: int = 1
) -> Evaluation:
    """Look up every reference and read its files back; one object at a time, so other work gets its turn.

    Args:
        n_copies: files of the instance that must be whole, at least 1.

    Raises:
        errors.OutOfResources: the index can't serve or the pool is full; nothing is decided, ask again later.
    """
    committed: list[Reference] = []
    failed: list[Failure] = []
    if request.duplicate:
        return Evaluation((), tuple(Failure(ref, Reason.DUPLICATE_TRANSACTION) for ref in request.references))
    for some in _chunks(request.references, LOOKUP_SIZE):
        held = await offload.run(_lookup, index, some)
        for reference in some:
            instance = held.get(reference.sop_instance_uid)
            reason = _mismatch(reference, instance)
            if reason is None and instance is not None:
                reason = await offload.run(verify_copies, storage, instance.files, n_copies)
            if reason is None:
                committed.append(reference)
            else:
                failed.append(Failure(reference, reason))
    return Evaluation(tuple(committed), tuple(failed))


def _chunks(references: Sequence[Reference], size: int) -> Iterator[Sequence[Reference]]:
    for start in range(0, len(references), size):
        yield references[start : start + size]


def _lookup(index: Index, references: Sequence[Reference]) -> dict[str, StoredInstance]:
    selector = Selector(sop_instance_uids=tuple({ref.sop_instance_uid for ref in references}))
    held: dict[str, StoredInstance] = {}
    after_id = 0
    while found := index.instances(selector, after_id, LOOKUP_SIZE):
        held.update((instance.sop_instance_uid, instance) for instance in found)
        after_id = found[-1].instance_id
    return held


def _mismatch(reference: Reference, instance: StoredInstance | None) -> Reason | None:
    if instance is None:
        return Reason.NO_SUCH_INSTANCE
    if instance.sop_class_uid != reference.sop_class_uid:
        return Reason.CLASS_INSTANCE_CONFLICT
    return None


def verify_copies(storage: Storage, files: Sequence[StoredFile], n_copies: int) -> Reason | None:
    """None when at least `n_copies` files are whole; else why not. Reads them; blocks."""
    if len(files) < n_copies:
        return Reason.RESOURCE_LIMITATION
    n_whole = 0
    for file in files:
        n_whole += is_whole(storage, file)
        if n_whole == n_copies:
            return None
    return Reason.PROCESSING_FAILURE


def is_whole(storage: Storage, file: StoredFile) -> bool:
    """Whether the file's bytes, read back now, have its digest. Blocks."""
    try:
        reader = storage.open(file)
    except PacsError:
        return False
    try:
        digest = hashlib.sha256()
        block = memoryview(bytearray(min(READ_BYTES, max(1, file.size_bytes))))
        offset = 0
        while n_bytes := reader.readinto(offset, [block]):
            digest.update(block[:n_bytes])
            offset += n_bytes
    except OSError:
        return False
    finally:
        reader.close()
    return digest.digest() == file.digest


def report_of(request: CommitmentRequest, evaluation: Evaluation, ae_title: str) -> tuple[int, Dataset]:
    """Event Type ID and event information of the N-EVENT-REPORT (PS3.4 Table J.3-2).

    Args:
        ae_title: where the committed objects can be retrieved from.

    Returns:
        1 (all are committed) or 2 (failures exist) and the data set; a sequence without items is left out.
    """
    elements = {
        0x00080054: Element("AE", (ae_title,)),
        TRANSACTION_UID: Element("UI", (request.transaction_uid,)),
    }
    if evaluation.failed:
        elements[FAILED_SOP_SEQUENCE] = Element(
            "SQ", tuple(_item(failure.reference, failure.reason) for failure in evaluation.failed)
        )
    if evaluation.committed:
        elements[REFERENCED_SOP_SEQUENCE] = Element("SQ", tuple(_item(ref) for ref in evaluation.committed))
    return (2 if evaluation.failed else 1), Dataset(elements)


def _item(reference: Reference, reason: Reason | None = None) -> Dataset:
    elements = {
        REFERENCED_SOP_CLASS_UID: Element("UI", (reference.sop_class_uid,)),
        REFERENCED_SOP_INSTANCE_UID: Element("UI", (reference.sop_instance_uid,)),
    }
    if reason is not None:
        elements[FAILURE_REASON] = Element("US", (int(reason),))
    return Dataset(elements)


def retry_delay_s(attempts: int) -> float:
    """Seconds until the next delivery after that many, at least 1: doubling from half a minute to an hour."""
    return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempts - 1, 20))


def max_attempts() -> int:
    """How many deliveries fit into `DELIVERY_LIMIT_S`."""
    attempts, waited_s = 1, 0.0
    while waited_s < DELIVERY_LIMIT_S:
        waited_s += retry_delay_s(attempts)
        attempts += 1
    return attempts


MAX_ATTEMPTS = max_attempts()


class Transactions:
    """Transaction UIDs that this process has accepted and not yet reported.

    A repeat of the same request (the requester missed our answer) is taken once; the same UID with other references is
    a duplicate (PS3.3 C.14.1.1). Bounded: the oldest is forgotten first. Reactor's thread.
    """

    def __init__(self, max_held: int = 1000) -> None:
        self._max_held = max_held
        self._held: dict[tuple[str, str], CommitmentRequest] = {}

    def find(self, request: CommitmentRequest) -> CommitmentRequest | None:
        """The request in progress under the same requester and transaction UID."""
        return self._held.get((request.ae_title, request.transaction_uid))

    def begin(self, request: CommitmentRequest) -> None:
        """It is accepted."""
        self._held[request.ae_title, request.transaction_uid] = request
        if len(self._held) > self._max_held:
            del self._held[next(iter(self._held))]

    def end(self, request: CommitmentRequest) -> None:
        """It is reported or given up."""
        self._held.pop((request.ae_title, request.transaction_uid), None)
