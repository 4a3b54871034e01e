"""C-ECHO as a requester (PS3.4 Annex A)."""

from __future__ import annotations

from typing import Final

from pacsd.dicom.association import Association
from pacsd.dicom.scu.connect import ConnectFailed, Proposal
from pacsd.dicom.wire import dimse
from pacsd.dicom.wire.dimse import Command
from pacsd.dicom.wire.sop_classes import VERIFICATION
from pacsd.model.syntax import EXPLICIT_LITTLE, IMPLICIT_LITTLE

PROPOSAL: Final = Proposal(VERIFICATION, (IMPLICIT_LITTLE, EXPLICIT_LITTLE))


async def echo(association: Association) -> int:
    """Ask whether the peer is alive; returns its status, 0 for yes.

    Raises:
        ConnectFailed: the association has no verification context.
        AssociationLost, DimseTimeout.
    """
    contexts = association.contexts_for(VERIFICATION)
    if not contexts:
        raise ConnectFailed("the peer does not accept verification")
    command = Command(
        AffectedSOPClassUID=VERIFICATION,
        CommandField=dimse.C_ECHO_RQ,
        MessageID=association.next_message_id(),
        CommandDataSetType=dimse.NO_DATASET,
    )
    response, _ = await association.request(contexts[0].id, command)
    return int(response.Status)
