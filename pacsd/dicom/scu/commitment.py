"""Storage commitment as a requester: ask a peer to be responsible, and take its report (PS3.4 Annex J)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pacsd.dicom.association import Association
from pacsd.dicom.dispatch import Request
from pacsd.dicom.inbound import response_to
from pacsd.dicom.scu.connect import ConnectFailed, Proposal
from pacsd.dicom.wire import dimse, status
from pacsd.dicom.wire.dimse import Command
from pacsd.dicom.wire.sop_classes import STORAGE_COMMITMENT_PUSH
from pacsd.model.dataset import Dataset, DatasetError, Element, decode, encode
from pacsd.model.errors import CannotUnderstand, PacsError
from pacsd.model.syntax import EXPLICIT_LITTLE, IMPLICIT_LITTLE, transfer_syntax
from pacsd.workflow.commitment import (
    FAILED_SOP_SEQUENCE,
    FAILURE_REASON,
    REFERENCED_SOP_CLASS_UID,
    REFERENCED_SOP_INSTANCE_UID,
    REFERENCED_SOP_SEQUENCE,
    TRANSACTION_UID,
    Reference,
)

WELL_KNOWN_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
MAX_REPORT_ELEMENTS: Final = 200_000
PROPOSAL: Final = Proposal(STORAGE_COMMITMENT_PUSH, (EXPLICIT_LITTLE, IMPLICIT_LITTLE))


class CommitmentRefused(PacsError):
    """The peer did not take the request."""

    http_status = 502


@dataclass(frozen=True, slots=True)
class Report:
    """What a peer says of a transaction; `failed` has each reference with its Failure Reason."""

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: tuple[tuple[Reference, int], ...]


async def request_commitment(association: Association, transaction_uid: str, references: Sequence[Reference]) -> None:
    """Send the N-ACTION; returns when the peer has taken it. The report comes to `ReportReceiver`, perhaps days later.

    Raises:
        ConnectFailed: the association has no storage commitment context.
        CommitmentRefused; AssociationLost, DimseTimeout.
    """
    contexts = association.contexts_for(STORAGE_COMMITMENT_PUSH)
    if not contexts:
        raise ConnectFailed("the peer does not accept storage commitment")
    items = tuple(
        Dataset(
            {
                REFERENCED_SOP_CLASS_UID: Element("UI", (reference.sop_class_uid,)),
                REFERENCED_SOP_INSTANCE_UID: Element("UI", (reference.sop_instance_uid,)),
            }
        )
        for reference in references
    )
    action = Dataset(
        {
            TRANSACTION_UID: Element("UI", (transaction_uid,)),
            REFERENCED_SOP_SEQUENCE: Element("SQ", items),
        }
    )
    command = Command(
        RequestedSOPClassUID=STORAGE_COMMITMENT_PUSH,
        CommandField=dimse.N_ACTION_RQ,
        MessageID=association.next_message_id(),
        CommandDataSetType=dimse.HAS_DATASET,
        RequestedSOPInstanceUID=WELL_KNOWN_INSTANCE,
        ActionTypeID=1,
    )
    dataset = encode(action, transfer_syntax(contexts[0].transfer_syntax), None)
    response, _ = await association.request(contexts[0].id, command, dataset)
    if response.Status != status.SUCCESS:
        raise CommitmentRefused(f"status {response.Status:04X} {response.ErrorComment or ''}".rstrip())


def report_from(information: Dataset) -> Report:
    """Read the event information of an N-EVENT-REPORT (PS3.4 Table J.3-2)."""
    return Report(
        transaction_uid=information.text(TRANSACTION_UID),
        committed=tuple(_reference(item) for item in information.sequence(REFERENCED_SOP_SEQUENCE)),
        failed=tuple((_reference(item), _reason(item)) for item in information.sequence(FAILED_SOP_SEQUENCE)),
    )


def _reference(item: Dataset) -> Reference:
    return Reference(item.text(REFERENCED_SOP_CLASS_UID), item.text(REFERENCED_SOP_INSTANCE_UID))


def _reason(item: Dataset) -> int:
    element = item.get(FAILURE_REASON)
    value = element.value[0] if element is not None and element.value else status.PROCESSING_FAILURE
    return value if isinstance(value, int) else status.PROCESSING_FAILURE


class ReportReceiver:
    """The handler of N-EVENT-REPORT requests for storage commitment.

    Args:
        received: told who reports what; when it raises, the peer is answered by a failure and reports again.
    """

    def __init__(self, received: Callable[[str, Report], None]) -> None:
        self._received = received

    async def __call__(self, request: Request) -> None:
        """Answer one report. Raises errors.PacsError."""
        if request.context.abstract_syntax != STORAGE_COMMITMENT_PUSH:
            raise PacsError("not storage commitment", status=status.NO_SUCH_SOP_CLASS)
        if request.command.EventTypeID not in (1, 2):
            raise PacsError("unknown event", status=status.NO_SUCH_EVENT_TYPE)
        try:
            information = decode(
                request.dataset, transfer_syntax(request.context.transfer_syntax), max_elements=MAX_REPORT_ELEMENTS
            )
        except DatasetError:
            raise CannotUnderstand("the report can't be decoded", status=status.PROCESSING_FAILURE) from None
        peer = request.association
        self._received(peer.called_ae if peer.role == "requestor" else peer.calling_ae, report_from(information))
        response = response_to(request.command, status.SUCCESS)
        response.EventTypeID = request.command.EventTypeID
        peer.respond(request.context.id, response)
