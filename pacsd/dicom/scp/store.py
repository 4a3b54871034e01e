"""C-STORE SCP (PS3.4 Annex B): knows DIMSE, and nothing of disks or tables.

Whatever the data set holds it is taken; what is refused is refused by rule (no room, a conflict where the site says
so), and then with the status that PS3.4 Table B.2-1 or PS3.7 has for it.
"""

from __future__ import annotations

from collections.abc import Callable

from pacsd.dicom.association import Association, Context
from pacsd.dicom.dispatch import Sink
from pacsd.dicom.wire import part10
from pacsd.dicom.wire.dimse import Command, encode_store_response
from pacsd.model.errors import CannotUnderstand, PacsError
from pacsd.runtime.logs import get_logger
from pacsd.workflow.ingest import Ingest
from pacsd.workflow.intake import Intake, Origin, Receipt

log = get_logger("pacsd.dicom.store")

SUCCESS = 0x0000


class Store:
    """Receives objects for all associations of a process.

    Args:
        ingest: takes the objects in.
        admit: called before a byte is kept; returns a refusal or None.
    """

    def __init__(self, ingest: Ingest, admit: Callable[[Association, Context], PacsError | None]) -> None:
        self._ingest = ingest
        self._admit = admit

    def begin(self, association: Association, context: Context, command: Command) -> Sink:
        """See dispatch.StoreHandler."""
        sop_class_uid = command.AffectedSOPClassUID or context.abstract_syntax
        sop_instance_uid = command.AffectedSOPInstanceUID
        refusal = self._admit(association, context)
        if refusal is None and not sop_instance_uid:
            refusal = CannotUnderstand("no Affected SOP Instance UID", status=0xC000)
        if refusal is None:
            try:
                meta = part10.encode_file_meta(
                    sop_class_uid, sop_instance_uid, context.transfer_syntax, association.calling_ae
                )
                origin = Origin(association.calling_ae, association.peer_address, association.called_ae)
                intake = self._ingest.begin(sop_class_uid, sop_instance_uid, context.transfer_syntax, meta, origin)
            except PacsError as error:
                refusal = error
            else:
                return _Receiving(association, context.id, command, intake)
        return _Refusing(association, context.id, command, refusal)


class _Receiving:
    """One object that is being received."""

    __slots__ = ("_association", "_command", "_context_id", "_intake")

    def __init__(self, association: Association, context_id: int, command: Command, intake: Intake) -> None:
        self._association = association
        self._context_id = context_id
        self._command = command
        self._intake = intake

    def data(self, fragment: bytes | memoryview) -> None:
        if not self._intake.add(fragment):
            self._association.pause(self)
            self._intake.when_writable(self._resume)

    def end(self) -> None:
        self._intake.finish(self._answered)

    def abort(self) -> None:
        self._intake.abort()

    def _resume(self) -> None:
        self._association.resume(self)

    def _answered(self, answer: Receipt | PacsError) -> None:
        if isinstance(answer, Receipt):
            response = encode_store_response(self._command, SUCCESS)
        else:
            log.error("store-failed", peer=self._association.calling_ae, sop_class=self._command.AffectedSOPClassUID,
                      status=f"{answer.dicom_status:04X}", cause=answer.comment, error=answer.__cause__)  # fmt: skip
            response = encode_store_response(self._command, answer.dicom_status, answer.comment[:64])
        self._association.respond_encoded(self._context_id, response)
        self._association.stored(self)


class _Refusing:
    """An object that isn't taken: its bytes are dropped as they come, the answer follows the last."""

    __slots__ = ("_association", "_command", "_context_id", "_refusal")

    def __init__(self, association: Association, context_id: int, command: Command, refusal: PacsError) -> None:
        self._association = association
        self._command = command
        self._context_id = context_id
        self._refusal = refusal

    def data(self, fragment: bytes | memoryview) -> None:
        """Nothing is kept."""

    def end(self) -> None:
        refusal = self._refusal
        log.warning("store-refused", peer=self._association.calling_ae, status=f"{refusal.dicom_status:04X}",
                    cause=refusal.comment)  # fmt: skip
        response = encode_store_response(self._command, refusal.dicom_status, refusal.comment[:64])
        self._association.respond_encoded(self._context_id, response)
        self._association.stored(self)

    def abort(self) -> None:
        """Nothing to discard."""
