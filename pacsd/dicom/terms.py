"""What an association is made of, as values: accepted contexts, bounds, and how it may end."""

from __future__ import annotations

from dataclasses import dataclass


class AssociationLost(Exception):
    """The association ended, by whatever cause, before an answer came."""


class DimseTimeout(Exception):
    """The peer did not answer in time; the association has been aborted."""


class AssociationRejected(Exception):
    """The peer refused the association (PS3.8 Table 9-21)."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        super().__init__(f"rejected: result {result}, source {source}, reason {reason}")
        self.result, self.source, self.reason = result, source, reason


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context; `scu` and `scp` say what we may be in it (PS3.7 §D.3.3.4)."""

    id: int
    abstract_syntax: str
    transfer_syntax: str
    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class AssociationSettings:
    """Bounds of one association; times in seconds.

    Attributes:
        dimse_timeout_s: for an answer to a request of ours.
        idle_timeout_s: without a byte from the peer while nothing is owed to it.
        min_rate_bytes_per_s: a peer within a PDU that stays below this for `dimse_timeout_s` is cut (slow-loris).
        read_bytes: asked of the kernel in one read.
    """

    max_pdu_length: int = 262_144
    artim_s: float = 30.0
    idle_timeout_s: float = 600.0
    dimse_timeout_s: float = 60.0
    min_rate_bytes_per_s: int = 512
    read_bytes: int = 262_144
