"""The error tree: each failure that a peer may meet, with what it is called in each protocol.

A role's adapter never invents a status: it answers `error.dicom_status`, `error.http_status` or `error.hl7_ack`.
The text of an error may leave the machine, so it never holds patient data.
"""

from __future__ import annotations


class PacsError(Exception):
    """A failure with a defined answer in every protocol.

    Class attributes:
        dicom_status: DIMSE status (PS3.7 Annex C, PS3.4 for each service class).
        http_status: status of the RFC 9457 problem document.
        hl7_ack: acknowledgement code of HL7 v2 (original mode).
        retryable: True when the same request may succeed later without being changed.
    """

    dicom_status = 0x0110
    http_status = 500
    hl7_ack = "AE"
    retryable = False

    def __init__(self, comment: str, *, status: int | None = None) -> None:
        """Args: comment: cause in a few words; DICOM's Error Comment carries its first 64 characters."""
        super().__init__(comment)
        self.comment = comment
        if status is not None:
            self.dicom_status = status


class OutOfResources(PacsError):
    """No pool or database can take it now: disk full, I/O error, database locked or away (PS3.4 Table B.2-1)."""

    dicom_status = 0xA700
    http_status = 503
    retryable = True


class CommitUndecided(OutOfResources):
    """The database was lost while committing: whether the change took place isn't known."""


class Busy(OutOfResources):
    """A bounded queue is full; nothing was done."""


class DatasetMismatch(PacsError):
    """The data set or identifier does not fit the SOP class (PS3.4 Table B.2-1, C.4-1)."""

    dicom_status = 0xA900
    http_status = 400


class CannotUnderstand(PacsError):
    """The data set can't be parsed far enough to be acted upon (PS3.4 Table B.2-1: Cxxx)."""

    dicom_status = 0xC000
    http_status = 400


class UnableToProcess(PacsError):
    """A query or retrieve failed for a reason that isn't the peer's (PS3.4 Table C.4-1: Cxxx)."""

    dicom_status = 0xC001
    http_status = 500


class DestinationUnknown(PacsError):
    """C-MOVE names a destination that isn't registered (PS3.4 Table C.4-2)."""

    dicom_status = 0xA801
    http_status = 400


class NotAuthorised(PacsError):
    """The peer or person may not do this (PS3.7 Annex C.4.10)."""

    dicom_status = 0x0124
    http_status = 403
    hl7_ack = "AR"


class DuplicateInstance(PacsError):
    """Another object with this SOP Instance UID is held and the site's rule is to refuse (PS3.7 C.5.6)."""

    dicom_status = 0x0111
    http_status = 409


class NoSuchInstance(PacsError):
    """The SOP instance isn't held (PS3.7 C.5.16)."""

    dicom_status = 0x0112
    http_status = 404


class Cancelled(PacsError):
    """The peer asked to stop (C-CANCEL, PS3.7 §9.3.2.3)."""

    dicom_status = 0xFE00
    http_status = 499


class IntegrityError(PacsError):
    """A stored file's bytes differ from its digest, or the file is gone."""

    dicom_status = 0xC002
    http_status = 500


class CannotConvert(PacsError):
    """The object can't become any transfer syntax that the receiver takes."""

    dicom_status = 0xC003
    http_status = 406
