"""What an association tells its owner. Handle them in order, after sending what the machine has to send."""

from __future__ import annotations

from dataclasses import dataclass

from pacsd.dicom.wire.pdu import AssociateAccept, AssociateRequest
from pacsd.dicom.wire.receive import DataFragment


@dataclass(frozen=True, slots=True)
class AssociationRequested:
    """A peer asks for an association; answer by `accept` or `reject`. No timer runs meanwhile."""

    request: AssociateRequest


@dataclass(frozen=True, slots=True)
class AssociationAccepted:
    """The peer took our request; data may flow. What it took says `negotiate.accepted_contexts`."""

    accept: AssociateAccept


@dataclass(frozen=True, slots=True)
class AssociationRejected:
    """The peer refused our request: `result` 1 for good, 2 for now. `CloseTransport` follows."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """The peer is done. Send what is still owed, then `accept_release`. In a collision we asked too."""


@dataclass(frozen=True, slots=True)
class ReleaseConfirmed:
    """The peer agreed to our release; `CloseTransport` follows.

    In a collision it doesn't: the acceptor still owes `accept_release`.
    """


@dataclass(frozen=True, slots=True)
class Aborted:
    """The association is gone and nothing more may be sent; drop what is unfinished.

    Source 0 is the peer's application, 2 its or our upper layer; `reason` as in PS3.8 Table 9-26. With
    `by_peer=False` we found the peer at fault and told it so. With `connection_lost` nobody said anything.
    """

    source: int
    reason: int
    by_peer: bool
    connection_lost: bool = False


@dataclass(frozen=True, slots=True)
class ArtimStart:
    """Start the association timer (PS3.8 §9.1.4), anew if it runs; on its end call `artim_expired`."""


@dataclass(frozen=True, slots=True)
class ArtimStop:
    """Stop that timer, if it runs."""


@dataclass(frozen=True, slots=True)
class OpenTransport:
    """Connect to the peer, then call `transport_connected`."""


@dataclass(frozen=True, slots=True)
class CloseTransport:
    """Close the connection, once all that was to be sent is sent."""


Event = (
    AssociationRequested
    | AssociationAccepted
    | AssociationRejected
    | ReleaseRequested
    | ReleaseConfirmed
    | Aborted
    | DataFragment
    | ArtimStart
    | ArtimStop
    | OpenTransport
    | CloseTransport
)
