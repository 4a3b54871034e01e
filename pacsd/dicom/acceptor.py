"""Who may associate with us, for what, and how many at once.

Everything runs on the reactor's thread; the peers' records are looked up through a port and kept for a few seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ServerFactory

from pacsd.dicom.association import Association, AssociationSettings, Context
from pacsd.dicom.dispatch import Services
from pacsd.dicom.wire import negotiate, pdu, sop_classes
from pacsd.dicom.wire.association import AssociationMachine
from pacsd.dicom.wire.negotiate import MESSAGE_TRANSFER_SYNTAXES, NegotiatedContext, Policy
from pacsd.model.objects import Peer
from pacsd.runtime import metrics
from pacsd.runtime.logs import get_logger
from pacsd.workflow.ports import Offload

log = get_logger("pacsd.dicom")

PEER_RECORD_S = 5.0
"""How long a peer's record is believed without another look; adding a peer shows within this time."""

_OPEN = metrics.gauge("pacsd_dicom_associations", "Associations that are open now.")
_ENDED = metrics.counter("pacsd_dicom_associations_ended", "Associations that ended, by how.", ["how"])

_QUERY_RETRIEVE = sop_classes.FIND_CLASSES | sop_classes.MOVE_CLASSES | sop_classes.GET_CLASSES
SUPPORTED: dict[str, tuple[str, ...]] = dict.fromkeys(
    (sop_classes.VERIFICATION, sop_classes.STORAGE_COMMITMENT_PUSH, *sorted(_QUERY_RETRIEVE)),
    MESSAGE_TRANSFER_SYNTAXES,
)
"""What is offered beside storage; the conformance statement is rendered from it."""

ECHO_ONLY: dict[str, tuple[str, ...]] = {sop_classes.VERIFICATION: MESSAGE_TRANSFER_SYNTAXES}


@dataclass(frozen=True, slots=True)
class Admission:
    """The site's rules.

    Attributes:
        unknown_peers: what an unregistered calling title may do: 'accept', 'echo' or 'reject'.
        max_connections: connections in all, associated or not; further ones are closed at once.
    """

    ae_titles: frozenset[str]
    storage_classes: frozenset[str]
    any_called_ae: bool = False
    unknown_peers: str = "reject"
    accept_any_sop_class: bool = True
    max_associations: int = 200
    max_associations_per_peer: int = 40
    max_connections: int = 1000
    async_operations: int = 8
    settings: AssociationSettings = field(default_factory=AssociationSettings)


def context_for(negotiated: NegotiatedContext, role: str) -> Context:
    """An accepted context as this side of the association sees it."""
    scu, scp = negotiated.requestor_scu, negotiated.requestor_scp
    if role == "acceptor":
        scu, scp = scp, scu
    return Context(negotiated.id, negotiated.abstract_syntax, negotiated.transfer_syntax, scu, scp)


class Acceptor(ServerFactory):
    """Makes an association of each incoming connection and decides on its request.

    Args:
        find_peer: the registered peer of a calling title; blocks, called through `offload`.
        at_limit: told True when this process takes no more associations, so that the others get them.
    """

    def __init__(
        self,
        admission: Admission,
        services: Services,
        find_peer: Callable[[str], Peer | None],
        lookups: Offload,
        reading: Offload,
        clock: IReactorTime,
        at_limit: Callable[[bool], None],
    ) -> None:
        self.admission = admission
        self._services = services
        self._find_peer = find_peer
        self._lookups = lookups
        self._reading = reading
        self._clock = clock
        self._at_limit = at_limit
        self._connections: set[Association] = set()
        self._associated: dict[Association, tuple[str, str]] = {}
        self._per_peer: Counter[tuple[str, str]] = Counter()
        self._peers: dict[str, tuple[float, Peer | None]] = {}

    def buildProtocol(self, addr: IAddress | None) -> Association | None:
        """A protocol for a new connection; None closes it."""
        if len(self._connections) >= self.admission.max_connections:
            log.warning("too-many-connections", limit=self.admission.max_connections)
            return None
        settings = self.admission.settings
        machine = AssociationMachine("acceptor", settings.max_pdu_length)
        association = Association(machine, self, self._services, settings, self._clock, self._reading)
        self._connections.add(association)
        return association

    # -- Owner -------------------------------------------------------------------------------------------------------

    def association_requested(self, association: Association, request: pdu.AssociateRequest) -> None:
        """Decide, after a look at the peer's record."""

        def decided(peer: Peer | None) -> None:
            if association in self._connections:
                self._decide(association, request, peer)

        def failed(failure: object) -> None:
            log.error("peer-lookup-failed", peer=request.calling_ae, error=getattr(failure, "value", None))
            if known is not None:
                decided(known[1])  # the last that was known of it: a database away shouldn't hide us from a modality
            else:
                association.answer(negotiate.TEMPORARY_CONGESTION)

        known = self._peers.get(request.calling_ae)
        if known is not None and self._clock.seconds() - known[0] < PEER_RECORD_S:
            decided(known[1])
            return
        looking = self._lookups.run(self._find_peer, request.calling_ae)
        _as_deferred(looking).addCallback(self._remember, request.calling_ae).addCallbacks(decided, failed)

    def _remember(self, peer: Peer | None, calling_ae: str) -> Peer | None:
        if len(self._peers) > 1000:
            self._peers.clear()
        self._peers[calling_ae] = (self._clock.seconds(), peer)
        return peer

    def _decide(self, association: Association, request: pdu.AssociateRequest, peer: Peer | None) -> None:
        who = (request.calling_ae, association.peer_address)
        decision = negotiate.negotiate(request, self.policy(who, known=peer is not None))
        if isinstance(decision, negotiate.Reject):
            log.warning("association-rejected", peer=request.calling_ae, called=request.called_ae,
                        address=association.peer_address, cause=decision.cause)  # fmt: skip
            _ENDED.labels("rejected").inc()
            association.answer(decision.answer)
            return
        for context_id, negotiated in decision.contexts.items():
            association.contexts[context_id] = context_for(negotiated, "acceptor")
        association.extended = dict(decision.extended)
        association.user_identity = request.user_information.user_identity
        association.peer_max_pdu = request.user_information.max_pdu_length
        self._associated[association] = who
        self._per_peer[who] += 1
        _OPEN.inc()
        log.info("association-accepted", peer=request.calling_ae, called=request.called_ae,
                 address=association.peer_address, n_contexts=len(decision.contexts),
                 n_refused=len(request.presentation_contexts) - len(decision.contexts),
                 implementation=request.user_information.implementation_version)  # fmt: skip
        association.answer(decision.answer)
        self._tell_limit()

    def policy(self, who: tuple[str, str], *, known: bool) -> Policy:
        """What we offer to a calling title and address now."""
        admission = self.admission
        full = known or admission.unknown_peers == "accept"
        titles = admission.ae_titles
        return Policy(
            ae_titles=titles | {negotiate.ANY_AE_TITLE} if admission.any_called_ae else titles,
            calling_allowed=full or admission.unknown_peers == "echo",
            is_at_limit=(
                len(self._associated) >= admission.max_associations
                or self._per_peer[who] >= admission.max_associations_per_peer
            ),
            supported=SUPPORTED if full else ECHO_ONLY,
            storage_classes=admission.storage_classes if full else frozenset(),
            accept_any_storage=full and admission.accept_any_sop_class,
            max_pdu_length=admission.settings.max_pdu_length,
            async_window=(admission.async_operations, 1),
        )

    def association_open(self, association: Association, accept: pdu.AssociateAccept | None) -> None:
        """Nothing more to do: requests arrive by themselves."""

    def association_lost(self, association: Association, cause: Exception | None) -> None:
        """Forget it."""
        self._connections.discard(association)
        who = self._associated.pop(association, None)
        if who is None:
            return
        self._per_peer[who] -= 1
        if not self._per_peer[who]:
            del self._per_peer[who]
        _OPEN.dec()
        _ENDED.labels("released" if cause is None else "aborted").inc()
        if cause is None:
            log.info("association-released", peer=who[0], address=who[1])
        else:
            log.warning("association-lost", peer=who[0], address=who[1], cause=str(cause))
        self._tell_limit()

    def _tell_limit(self) -> None:
        self._at_limit(len(self._associated) >= self.admission.max_associations)

    # -- stop --------------------------------------------------------------------------------------------------------

    async def drain(self, limit_s: float) -> None:
        """Let associations finish within the limit, then abort what is left."""
        if self._associated:
            waiting = []
            for association in self._associated:
                over: Deferred[None] = Deferred()
                association.on_lost.append(partial(over.callback, None))
                waiting.append(over)
            timer = self._clock.callLater(limit_s, self._abort_all)
            await DeferredList(waiting)
            if timer.active():
                timer.cancel()
        self._abort_all()

    def _abort_all(self) -> None:
        for association in list(self._connections):
            association.abort()


def _as_deferred(awaitable: Awaitable[Peer | None]) -> Deferred[Peer | None]:
    if isinstance(awaitable, Deferred):
        return awaitable

    async def wait() -> Peer | None:
        return await awaitable

    return Deferred.fromCoroutine(wait())
