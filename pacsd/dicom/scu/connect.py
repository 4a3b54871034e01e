"""Opening an association to a peer (PS3.8 §7.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory

from pacsd.dicom.acceptor import context_for
from pacsd.dicom.association import Association, AssociationSettings
from pacsd.dicom.dispatch import Services
from pacsd.dicom.wire import pdu
from pacsd.dicom.wire.association import AssociationMachine
from pacsd.dicom.wire.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from pacsd.dicom.wire.negotiate import accepted_contexts
from pacsd.model.errors import PacsError
from pacsd.workflow.ports import Offload

CONNECT_TIMEOUT_S: Final = 10.0


class ConnectFailed(PacsError):
    """The peer's host or port can't be reached."""

    retryable = True
    http_status = 502


@dataclass(frozen=True, slots=True)
class Target:
    """Where to call, and by which title."""

    host: str
    port: int
    called_ae: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """One presentation context to propose; `scu` and `scp` are the roles that we want (PS3.7 §D.3.3.4)."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    scu: bool = True
    scp: bool = False


@dataclass(frozen=True, slots=True)
class Network:
    """What every call needs of this process.

    Attributes:
        reactor: IReactorTime and IReactorTCP.
        offload: reads the files that are sent.
        services: what a peer may ask of us on an association that we opened (C-STORE during C-GET, N-EVENT-REPORT).
        endpoint_for: how to get to a target; None: TCP to its host and port.
    """

    reactor: Any
    offload: Offload
    settings: AssociationSettings = AssociationSettings()
    services: Services = Services()
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    endpoint_for: Callable[[Target], IStreamClientEndpoint] | None = None

    def endpoint(self, target: Target) -> IStreamClientEndpoint:
        """The way to a target."""
        if self.endpoint_for is not None:
            return self.endpoint_for(target)
        host = target.host.encode("idna")
        return HostnameEndpoint(self.reactor, host, target.port, timeout=self.connect_timeout_s)


async def connect(
    network: Network,
    target: Target,
    calling_ae: str,
    proposals: Sequence[Proposal],
    *,
    services: Services | None = None,
    extended: Mapping[str, bytes] | None = None,
) -> Association:
    """Open an association; it has at least one accepted context. Reactor's thread.

    Args:
        proposals: 1 to 128; contexts get odd ids in this order.
        services: instead of the network's.
        extended: SOP class extended negotiation, application information by SOP class (PS3.7 §D.3.3.5).

    Raises:
        ConnectFailed: no connection, none in time, or nothing of what we proposed is accepted.
        AssociationRejected: by the peer.
        AssociationLost: the peer closed or aborted instead of answering, or didn't answer within the ARTIM time.
    """
    request = _request(target, calling_ae, proposals, extended or {}, network.settings)
    opening = _Opening(request)
    machine = AssociationMachine("requestor", network.settings.max_pdu_length)
    association = Association(
        machine, opening, services or network.services, network.settings, network.reactor, network.offload
    )
    association.request_association(request)
    try:
        await network.endpoint(target).connect(Factory.forProtocol(lambda: association))
    except Exception as error:
        raise ConnectFailed(f"no connection to {target.called_ae}: {type(error).__name__}") from error
    # the standard's timer doesn't cover a peer that takes the connection and never answers
    timer = network.reactor.callLater(network.settings.artim_s, association.abort)
    try:
        await opening.opened
    finally:
        if timer.active():
            timer.cancel()
    if not association.contexts:
        await association.release()
        raise ConnectFailed(f"{target.called_ae} accepts nothing of what was proposed")
    return association


def _request(
    target: Target,
    calling_ae: str,
    proposals: Sequence[Proposal],
    extended: Mapping[str, bytes],
    settings: AssociationSettings,
) -> pdu.AssociateRequest:
    contexts = tuple(
        pdu.PresentationContextProposal(2 * number + 1, proposal.abstract_syntax, proposal.transfer_syntaxes)
        for number, proposal in enumerate(proposals)
    )
    roles = {
        proposal.abstract_syntax: pdu.RoleSelection(proposal.abstract_syntax, proposal.scu, proposal.scp)
        for proposal in proposals
        if (proposal.scu, proposal.scp) != (True, False)
    }
    user = pdu.UserInformation(
        max_pdu_length=settings.max_pdu_length,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version=IMPLEMENTATION_VERSION,
        role_selections=tuple(roles.values()),
        extended_negotiations=tuple(pdu.ExtendedNegotiation(uid, info) for uid, info in extended.items()),
    )
    return pdu.AssociateRequest(target.called_ae, calling_ae, contexts, user)


class _Opening:
    """The owner of an association that we open."""

    def __init__(self, request: pdu.AssociateRequest) -> None:
        self._request = request
        self.opened: Deferred[None] = Deferred()

    def association_requested(self, association: Association, request: pdu.AssociateRequest) -> None:
        """A requestor is never asked."""
        association.abort()

    def association_open(self, association: Association, accept: pdu.AssociateAccept | None) -> None:
        """Take over what was negotiated."""
        assert accept is not None
        for negotiated in accepted_contexts(self._request, accept).values():
            association.contexts[negotiated.id] = context_for(negotiated, "requestor")
        association.peer_max_pdu = accept.user_information.max_pdu_length
        for answer in accept.user_information.extended_negotiations:
            association.extended[answer.sop_class] = answer.information
        self.opened.callback(None)

    def association_lost(self, association: Association, cause: Exception | None) -> None:
        """Before it was open: that is the answer to who waits."""
        if not self.opened.called:
            self.opened.errback(cause or ConnectionError("closed"))
