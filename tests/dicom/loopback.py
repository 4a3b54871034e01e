"""An association of ours joined to a bare machine of the wire layer, in memory, with a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from pacsd.dicom.acceptor import Acceptor, Admission
from pacsd.dicom.association import Association, AssociationSettings
from pacsd.dicom.dispatch import Services
from pacsd.dicom.wire import dimse, events, pdu
from pacsd.dicom.wire.association import AssociationMachine
from pacsd.model.objects import Peer

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"


class Now:
    """Port Offload: runs at once."""

    def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        from twisted.internet.defer import execute

        return execute(fn, *args)


class Transport(StringTransport):
    """Counts pauses; knows that it was asked to close."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def abortConnection(self) -> None:
        self.disconnecting = True


class Peers:
    def __init__(self, *titles: str) -> None:
        self.titles = titles

    def __call__(self, title: str) -> Peer | None:
        return Peer(title, "127.0.0.1", 104) if title in self.titles else None


class Site:
    """An acceptor and its clock."""

    def __init__(
        self, services: Services | None = None, *, known: tuple[str, ...] = ("CT1",), **admission: Any
    ) -> None:
        self.clock = Clock()
        admission.setdefault("settings", AssociationSettings(max_pdu_length=16384))
        self.limits: list[bool] = []
        self.acceptor = Acceptor(
            Admission(frozenset({"PACSD"}), frozenset({CT}), **admission),
            services or Services(),
            Peers(*known),
            Now(),
            Now(),
            self.clock,
            self.limits.append,
        )

    def connect(self) -> Link:
        return Link(self)


class Link:
    """One connection: `ours` is the association, `peer` the machine at the other end."""

    def __init__(self, site: Site) -> None:
        self.site = site
        ours = site.acceptor.buildProtocol(None)
        assert isinstance(ours, Association)
        self.ours = ours
        self.transport = Transport()
        self.peer = AssociationMachine("requestor", 16384)
        self.peer_events: list[events.Event] = []
        ours.makeConnection(self.transport)

    def associate(self, *abstract_syntaxes: str, calling: str = "CT1", called: str = "PACSD", **info: Any) -> None:
        proposals = tuple(
            pdu.PresentationContextProposal(2 * i + 1, uid, (IMPLICIT,))
            for i, uid in enumerate(abstract_syntaxes or (VERIFICATION,))
        )
        user = pdu.UserInformation(max_pdu_length=16384, **info)
        self.peer.request(pdu.AssociateRequest(called, calling, proposals, user))
        self.peer.transport_connected()
        self.exchange()

    def exchange(self) -> list[events.Event]:
        """Carry bytes both ways until nobody has more to say; returns what the peer saw."""
        seen: list[events.Event] = []
        while True:
            towards_us, towards_peer = self.peer.data_to_send(), self.transport.value()
            self.transport.clear()
            if not towards_us and not towards_peer:
                break
            if towards_us:
                self.ours.dataReceived(towards_us)
            if towards_peer:
                seen += self.peer.receive(towards_peer)
        self.peer_events += seen
        return seen

    def send(self, command: dimse.Command, dataset: bytes | None = None, context_id: int = 1) -> None:
        self.peer.send_data(dimse.message(context_id, dimse.encode_command(command), dataset, 16384))

    def answers(self) -> list[dimse.Command]:
        """The responses that came since the last call."""
        assembler = dimse.MessageAssembler()
        found = []
        for event in self.exchange():
            if isinstance(event, events.DataFragment):
                got = assembler.receive(event)
                if isinstance(got, dimse.CommandReceived):
                    found.append(got.command)
        return found

    def lose(self) -> None:
        from twisted.internet.error import ConnectionLost
        from twisted.python.failure import Failure

        self.ours.connectionLost(Failure(ConnectionLost()))

    def saw(self, kind: type) -> bool:
        return any(isinstance(event, kind) for event in self.peer_events)
