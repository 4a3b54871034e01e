"""Storage commitment, Push Model: N-ACTION is answered when the promise is kept in the database, the report follows.

PS3.4 Annex J. The process that took a request evaluates it at once and reports on the same association if that is still
open, else on a new one to the registered peer, where it proposes itself as SCP (role reversal, PS3.4 J.3.3). If this
process dies or the peer is away, the persisted job is claimed by any worker, for `DELIVERY_LIMIT_S`.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from pacsd.dicom.association import Association, AssociationLost, AssociationRejected, DimseTimeout
from pacsd.dicom.dispatch import Request
from pacsd.dicom.inbound import response_to
from pacsd.dicom.scp.models import STORAGE_COMMITMENT_INSTANCE
from pacsd.dicom.scu.connect import Proposal
from pacsd.dicom.scu.destination import Destinations
from pacsd.dicom.wire import dimse, status
from pacsd.dicom.wire.dimse import Command
from pacsd.dicom.wire.sop_classes import STORAGE_COMMITMENT_PUSH
from pacsd.dicom.wire.status import Category, categorise
from pacsd.model.dataset import Dataset, DatasetError, decode, encode
from pacsd.model.errors import DestinationUnknown, NoSuchInstance, OutOfResources, PacsError
from pacsd.model.objects import Job
from pacsd.model.syntax import EXPLICIT_LITTLE, IMPLICIT_LITTLE, transfer_syntax
from pacsd.runtime.logs import get_logger
from pacsd.workflow import commitment
from pacsd.workflow.commitment import CommitmentRequest, Evaluation, InvalidRequest, Transactions
from pacsd.workflow.ports import Clock, Index, Jobs, Offload, Peers, Storage

log = get_logger("pacsd.dicom")

REQUEST_STORAGE_COMMITMENT: Final = 1
LEASE_S: Final = 900.0
N_AT_ONCE: Final = 4
MAX_EVALUATIONS: Final = 64
EVALUATION_AGE_S: Final = 24 * 3600.0
COPIES_PATIENCE_S: Final = 3600.0
"""How long a request may wait for copies that the rule demands before it is reported as failed."""
_FAILURES: Final = (PacsError, AssociationLost, AssociationRejected, DimseTimeout)


class ReportRefused(PacsError):
    """The requester answered its report by a failure status."""

    retryable = True


class CopiesMissing(PacsError):
    """There aren't yet as many copies as the rule says; nothing is reported yet."""

    retryable = True


def action_of(data: bytes, syntax_uid: str) -> Dataset:
    """Decode an N-ACTION's data set, which may be long. Raises InvalidRequest. Thread: any."""
    try:
        return decode(data, transfer_syntax(syntax_uid), max_elements=4 * commitment.MAX_REFERENCES)
    except DatasetError:
        raise InvalidRequest("the action information can't be decoded") from None


class Commitment:
    """The handler of N-ACTION requests.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, jobs: Jobs, offload: Offload, reporter: CommitmentReporter, clock: Clock) -> None:
        self._jobs = jobs
        self._offload = offload
        self._reporter = reporter
        self._clock = clock
        self._transactions = Transactions()

    async def __call__(self, request: Request) -> None:
        """Answer one request. Raises errors.PacsError."""
        command, association = request.command, request.association
        if request.context.abstract_syntax != STORAGE_COMMITMENT_PUSH:
            raise PacsError("not storage commitment", status=status.NO_SUCH_SOP_CLASS)
        if command.RequestedSOPInstanceUID != STORAGE_COMMITMENT_INSTANCE:
            raise NoSuchInstance("not the well-known instance")
        if command.ActionTypeID != REQUEST_STORAGE_COMMITMENT:
            raise PacsError("unknown action", status=status.NO_SUCH_ACTION)
        action = await self._offload.run(action_of, request.dataset, request.context.transfer_syntax)
        asked = commitment.request_of(action, association.calling_ae, association.called_ae, self._clock())
        running = self._transactions.find(asked)
        if running is not None and running.references == asked.references:
            self._answer(request)
            return
        if running is not None:
            asked = replace(asked, duplicate=True)
        try:
            job_id = await commitment.persist(asked, self._jobs, self._offload)
        except OutOfResources as error:
            raise OutOfResources(error.comment, status=status.RESOURCE_LIMITATION) from error
        self._answer(request)
        log.info("commitment-requested", peer=asked.ae_title, n_references=len(asked.references))
        if running is None:
            self._transactions.begin(asked)
        self._reporter.begin(asked, job_id, association, lambda: self._ended(asked))

    def _ended(self, asked: CommitmentRequest) -> None:
        if not asked.duplicate:
            self._transactions.end(asked)

    def _answer(self, request: Request) -> None:
        response = response_to(request.command, status.SUCCESS)
        response.ActionTypeID = REQUEST_STORAGE_COMMITMENT
        request.association.respond(request.context.id, response)


class CommitmentReporter:
    """Evaluates requests and delivers reports; a `runtime.services.Part`. Reactor's thread.

    Args:
        ae_title: our title; reports say that what is committed can be retrieved there.
        clock: seconds since the epoch.
        owner: names this process in leases.
        n_copies: whole files that an instance must have.
        poll_s: how often the queue is looked at.
    """

    name = "commitment-reporter"

    def __init__(
        self,
        index: Index,
        storage: Storage,
        jobs: Jobs,
        peers: Peers,
        offload: Offload,
        destinations: Destinations,
        *,
        ae_title: str,
        clock: Clock,
        owner: str,
        n_copies: int = 1,
        poll_s: float = 5.0,
    ) -> None:
        self._index = index
        self._storage = storage
        self._jobs = jobs
        self._peers = peers
        self._offload = offload
        self._destinations = destinations
        self._ae_title = ae_title
        self._clock = clock
        self._owner = owner
        self._n_copies = n_copies
        self._poll_s = poll_s
        self._reactor = destinations.network.reactor
        self._timer: IDelayedCall | None = None
        self._tasks: set[Deferred[None]] = set()
        self._n_jobs = 0
        self._is_polling = False
        self._is_running = False
        self._evaluations: dict[int, tuple[float, Evaluation]] = {}

    # -- part --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to look at the queue."""
        self._is_running = True
        self.notify()

    async def stop(self, limit_s: float) -> None:
        """Stop; what is under way goes on at the next start, from its job."""
        self._is_running = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()

    def notify(self) -> None:
        """Look at the queue now instead of at the next turn."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._is_running and not self._is_polling:
            self._spawn(self._poll())

    def begin(self, request: CommitmentRequest, job_id: int, association: Association, ended: Any) -> None:
        """Evaluate and report a request just taken; on failure its job stays in the queue. `ended()` is called."""
        self._spawn(self._first(request, job_id, association, ended))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = Deferred.fromCoroutine(coroutine)
        self._tasks.add(task)

        def over(result: object) -> None:
            self._tasks.discard(task)

        def failed(failure: Failure) -> None:
            if not failure.check(CancelledError):  # stopped: its job stays in the queue
                log.error("commitment-crashed", error=failure.value)

        task.addErrback(failed)
        task.addBoth(over)

    # -- work --------------------------------------------------------------------------------------------------------

    async def _first(self, request: CommitmentRequest, job_id: int, association: Association, ended: Any) -> None:
        try:
            await self._report(request, job_id, association)
        except _FAILURES as error:
            log.info("commitment-report-later", peer=request.ae_title, cause=str(error))
        else:
            await self._offload.run(self._jobs.finish, job_id)
        finally:
            ended()

    async def _poll(self) -> None:
        self._is_polling = True
        try:
            free = N_AT_ONCE - self._n_jobs
            if free > 0:
                for job in await self._offload.run(self._jobs.claim, (commitment.KIND,), self._owner, LEASE_S, free):
                    self._n_jobs += 1
                    self._spawn(self._work(job))
        except OutOfResources as error:
            log.warning("commitment-queue-unavailable", cause=error.comment)
        finally:
            self._is_polling = False
            if self._is_running:
                self._timer = self._reactor.callLater(self._poll_s, self.notify)

    async def _work(self, job: Job) -> None:
        request = commitment.request_of_job(job)
        try:
            await self._report(request, job.job_id, None)
        except _FAILURES as error:
            delay_s = commitment.retry_delay_s(job.attempts)
            kept = await self._offload.run(self._jobs.retry, job.job_id, str(error), delay_s, commitment.MAX_ATTEMPTS)
            told = log.info if kept else log.error
            told("commitment-report-later" if kept else "commitment-report-given-up", peer=request.ae_title,
                 attempts=job.attempts, cause=str(error))  # fmt: skip
        else:
            await self._offload.run(self._jobs.finish, job.job_id)
        finally:
            self._n_jobs -= 1

    async def _report(self, request: CommitmentRequest, job_id: int, association: Association | None) -> None:
        """Evaluate and deliver. Raises what is in `_FAILURES`."""
        evaluation = await self._evaluated(request, job_id)
        if evaluation.lacks_copies and self._clock() - request.requested_at < COPIES_PATIENCE_S:
            del self._evaluations[job_id]
            raise CopiesMissing("fewer copies than the rule demands")
        await self._deliver(request, evaluation, association)
        self._evaluations.pop(job_id, None)
        log.info("commitment-reported", peer=request.ae_title, n_committed=len(evaluation.committed),
                 n_failed=len(evaluation.failed))  # fmt: skip

    async def _evaluated(self, request: CommitmentRequest, job_id: int) -> Evaluation:
        """The evaluation, not repeated at each attempt to deliver: it reads every file."""
        kept = self._evaluations.get(job_id)
        if kept is not None and self._clock() - kept[0] < EVALUATION_AGE_S:
            return kept[1]
        evaluation = await commitment.evaluate(
            request, self._index, self._storage, self._offload, n_copies=self._n_copies
        )
        self._evaluations[job_id] = (self._clock(), evaluation)
        if len(self._evaluations) > MAX_EVALUATIONS:
            del self._evaluations[next(iter(self._evaluations))]
        return evaluation

    async def _deliver(
        self, request: CommitmentRequest, evaluation: Evaluation, association: Association | None
    ) -> None:
        if association is not None and association.is_open:
            try:
                await self._send(association, request, evaluation)
            except (AssociationLost, DimseTimeout):
                log.debug("commitment-association-gone", peer=request.ae_title)
            else:
                return
        peer = await self._offload.run(self._peers.get, request.ae_title)
        if peer is None:
            raise DestinationUnknown("the requester is not registered as a peer")
        proposal = Proposal(STORAGE_COMMITMENT_PUSH, (EXPLICIT_LITTLE, IMPLICIT_LITTLE), scu=False, scp=True)
        async with self._destinations.slot(peer):
            own = await self._destinations.connect(peer, [proposal], calling_ae=request.called_ae or None)
            try:
                await self._send(own, request, evaluation)
            finally:
                await own.release()

    async def _send(self, association: Association, request: CommitmentRequest, evaluation: Evaluation) -> None:
        """One N-EVENT-REPORT. Departure: a peer that accepts the context but ignores role selection gets it too."""
        contexts = [
            context for context in association.contexts.values() if context.abstract_syntax == STORAGE_COMMITMENT_PUSH
        ]
        contexts.sort(key=lambda context: not context.scp)
        if not contexts:
            raise ReportRefused("the requester accepts no storage commitment context")
        event_type, information = commitment.report_of(request, evaluation, self._ae_title)
        command = Command(
            AffectedSOPClassUID=STORAGE_COMMITMENT_PUSH,
            CommandField=dimse.N_EVENT_REPORT_RQ,
            MessageID=association.next_message_id(),
            CommandDataSetType=dimse.HAS_DATASET,
            AffectedSOPInstanceUID=STORAGE_COMMITMENT_INSTANCE,
            EventTypeID=event_type,
        )
        dataset = encode(information, transfer_syntax(contexts[0].transfer_syntax), None)
        response, _ = await association.request(contexts[0].id, command, dataset)
        if categorise(response.Status) not in (Category.SUCCESS, Category.WARNING):
            raise ReportRefused(f"the requester answered its report by status {response.Status:04X}")
