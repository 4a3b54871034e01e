"""C-FIND as a requester (PS3.4 C.4.1)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from pacsd.dicom.association import Association
from pacsd.dicom.scu.connect import ConnectFailed, Proposal
from pacsd.dicom.wire import dimse
from pacsd.dicom.wire.dimse import Command
from pacsd.dicom.wire.sop_classes import PATIENT_ROOT_FIND, STUDY_ROOT_FIND
from pacsd.dicom.wire.status import Category, categorise
from pacsd.model.dataset import Dataset, decode, encode
from pacsd.model.errors import PacsError
from pacsd.model.query import Root
from pacsd.model.syntax import EXPLICIT_LITTLE, IMPLICIT_LITTLE, transfer_syntax

SOP_CLASS: Final = {Root.PATIENT: PATIENT_ROOT_FIND, Root.STUDY: STUDY_ROOT_FIND}
UTF_8: Final = ("ISO_IR 192",)


class QueryFailed(PacsError):
    """The peer ended the query by a failure status."""

    http_status = 502


def proposal(root: Root) -> Proposal:
    """What to propose for queries on a root."""
    return Proposal(SOP_CLASS[root], (EXPLICIT_LITTLE, IMPLICIT_LITTLE))


async def matches(association: Association, root: Root, identifier: Dataset) -> AsyncGenerator[Dataset, None]:
    """The answers, as they come. Close it (`contextlib.aclosing`) to cancel.

    Args:
        identifier: with Query/Retrieve Level; goes out in UTF-8 where it isn't ASCII.

    Raises:
        ConnectFailed: the association has no context of the root.
        QueryFailed; AssociationLost, DimseTimeout.
    """
    contexts = association.contexts_for(SOP_CLASS[root])
    if not contexts:
        raise ConnectFailed("the peer does not accept queries on this root")
    context = contexts[0]
    syntax = transfer_syntax(context.transfer_syntax)
    command = Command(
        AffectedSOPClassUID=context.abstract_syntax,
        CommandField=dimse.C_FIND_RQ,
        MessageID=association.next_message_id(),
        Priority=dimse.PRIORITY_MEDIUM,
        CommandDataSetType=dimse.HAS_DATASET,
    )
    is_over = False
    try:
        async with aclosing(association.responses(context.id, command, encode(identifier, syntax, UTF_8))) as answers:  # type: ignore[type-var]
            async for response, dataset in answers:
                category = categorise(response.Status)
                if category is Category.PENDING:
                    if dataset:
                        yield decode(dataset, syntax)
                    continue
                is_over = True
                if category is not Category.SUCCESS:
                    raise QueryFailed(f"status {response.Status:04X} {response.ErrorComment or ''}".rstrip())
    finally:
        if not is_over and association.is_open:
            association.cancel(context.id, command.MessageID)


async def find(association: Association, root: Root, identifier: Dataset, *, limit: int | None = None) -> list[Dataset]:
    """All answers, or the first `limit`, after which the query is cancelled. Raises as `matches`."""
    found: list[Dataset] = []
    if limit == 0:
        return found
    async with aclosing(matches(association, root, identifier)) as answers:
        async for answer in answers:
            found.append(answer)
            if len(found) == limit:
                break
    return found
