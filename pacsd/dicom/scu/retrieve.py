"""C-MOVE and C-GET as a requester (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from pacsd.dicom.association import Association
from pacsd.dicom.scu.connect import ConnectFailed, Proposal
from pacsd.dicom.wire import dimse, sop_classes
from pacsd.dicom.wire.dimse import Command
from pacsd.dicom.wire.status import Category, categorise
from pacsd.model.dataset import Dataset, decode, encode
from pacsd.model.query import Root
from pacsd.model.syntax import EXPLICIT_LITTLE, IMPLICIT_LITTLE, transfer_syntax

MOVE_CLASS: Final = {Root.PATIENT: sop_classes.PATIENT_ROOT_MOVE, Root.STUDY: sop_classes.STUDY_ROOT_MOVE}
GET_CLASS: Final = {Root.PATIENT: sop_classes.PATIENT_ROOT_GET, Root.STUDY: sop_classes.STUDY_ROOT_GET}
FAILED_SOP_INSTANCE_UID_LIST: Final = 0x00080058
_MESSAGE_SYNTAXES: Final = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)


@dataclass(frozen=True, slots=True)
class Retrieved:
    """How far a retrieve is, or how it ended; `comment` has the peer's Error Comment."""

    status: int
    n_remaining: int
    n_completed: int
    n_failed: int
    n_warning: int
    failed_uids: tuple[str, ...] = ()
    comment: str = ""

    @property
    def is_complete(self) -> bool:
        """Everything that matched has arrived."""
        return categorise(self.status) is Category.SUCCESS and not self.n_failed


OnProgress = Callable[[Retrieved], None]


def _ignore(progress: Retrieved) -> None:
    """Nobody watches."""


def move_proposal(root: Root) -> Proposal:
    """What to propose for C-MOVE on a root."""
    return Proposal(MOVE_CLASS[root], _MESSAGE_SYNTAXES)


def get_proposals(root: Root, storage_classes: Iterable[str], syntaxes: tuple[str, ...]) -> list[Proposal]:
    """What to propose for C-GET: the root, and each storage class with us as its SCP (PS3.4 C.5.3.2).

    Args:
        storage_classes: at most 127 are proposed.
        syntaxes: that we take, in order of preference.
    """
    storage = [Proposal(uid, syntaxes, scu=False, scp=True) for uid in storage_classes]
    return [Proposal(GET_CLASS[root], _MESSAGE_SYNTAXES), *storage[:127]]


async def move(
    association: Association,
    root: Root,
    identifier: Dataset,
    destination: str,
    on_progress: OnProgress = _ignore,
) -> Retrieved:
    """Have the peer send what an identifier names to a destination that it knows.

    Raises:
        ConnectFailed: the association has no context of the root.
        AssociationLost, DimseTimeout: no response at all within the association's limit.
    """
    return await _retrieve(association, MOVE_CLASS[root], dimse.C_MOVE_RQ, identifier, destination, on_progress)


async def get(
    association: Association, root: Root, identifier: Dataset, on_progress: OnProgress = _ignore
) -> Retrieved:
    """Have the peer send what an identifier names over this association, to its `services.store`. Raises as `move`."""
    return await _retrieve(association, GET_CLASS[root], dimse.C_GET_RQ, identifier, None, on_progress)


async def _retrieve(
    association: Association,
    sop_class: str,
    field: int,
    identifier: Dataset,
    destination: str | None,
    on_progress: OnProgress,
) -> Retrieved:
    contexts = association.contexts_for(sop_class)
    if not contexts:
        raise ConnectFailed("the peer does not accept this kind of retrieve")
    context = contexts[0]
    syntax = transfer_syntax(context.transfer_syntax)
    command = Command(
        AffectedSOPClassUID=sop_class,
        CommandField=field,
        MessageID=association.next_message_id(),
        MoveDestination=destination,
        Priority=dimse.PRIORITY_MEDIUM,
        CommandDataSetType=dimse.HAS_DATASET,
    )
    last = Retrieved(0, 0, 0, 0, 0)
    async with aclosing(association.responses(context.id, command, encode(identifier, syntax, None))) as answers:  # type: ignore[type-var]
        async for response, dataset in answers:
            failed = decode(dataset, syntax).texts(FAILED_SOP_INSTANCE_UID_LIST) if dataset else ()
            last = Retrieved(
                status=response.Status,
                n_remaining=response.NumberOfRemainingSuboperations or 0,
                n_completed=response.NumberOfCompletedSuboperations or 0,
                n_failed=response.NumberOfFailedSuboperations or 0,
                n_warning=response.NumberOfWarningSuboperations or 0,
                failed_uids=tuple(failed),
                comment=response.ErrorComment or "",
            )
            if categorise(response.Status) is Category.PENDING:
                on_progress(last)
    return last
