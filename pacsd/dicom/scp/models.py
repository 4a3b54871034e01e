"""The information model that each SOP class of query and retrieve works on (PS3.4 C.6)."""

from __future__ import annotations

from typing import Final

from pacsd.dicom.wire import sop_classes
from pacsd.model.query import Root

ROOT_OF: Final[dict[str, Root]] = {
    sop_classes.PATIENT_ROOT_FIND: Root.PATIENT,
    sop_classes.PATIENT_ROOT_MOVE: Root.PATIENT,
    sop_classes.PATIENT_ROOT_GET: Root.PATIENT,
    sop_classes.STUDY_ROOT_FIND: Root.STUDY,
    sop_classes.STUDY_ROOT_MOVE: Root.STUDY,
    sop_classes.STUDY_ROOT_GET: Root.STUDY,
    sop_classes.PATIENT_STUDY_ONLY_FIND: Root.PATIENT_STUDY_ONLY,
    sop_classes.PATIENT_STUDY_ONLY_MOVE: Root.PATIENT_STUDY_ONLY,
    sop_classes.PATIENT_STUDY_ONLY_GET: Root.PATIENT_STUDY_ONLY,
}

STORAGE_COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
"""The well-known instance of the Storage Commitment Push Model (PS3.4 J.3.5)."""
