"""Made-up objects for the tests of the index."""

from __future__ import annotations

import hashlib
import zlib

from pacsd.model.attributes import COLUMNS
from pacsd.model.objects import NewInstance, NewJob, ObjectHeader, StoredFile

TAGS = {column.keyword: column.tag for column in COLUMNS}
CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"


def new_instance(
    study: str = "1.2.3",
    series: str = "1.2.3.1",
    sop: str = "1.2.3.1.1",
    *,
    content: str = "",
    directory: str = "objects/2026/01/01/a-1",
    sop_class: str = CT,
    syntax: str = EXPLICIT,
    head: bytes = b"",
    source_ae: str = "CT1",
    outbox: tuple[NewJob, ...] = (),
    received_at: float = 1000.0,
    size_bytes: int | None = None,
    **values: str,
) -> NewInstance:
    """An object whose bytes are told apart by `content`; `values` by keyword."""
    given = {"PatientID": "P1", "PatientName": "Doe^Jane", "Modality": "CT", "StudyDate": "20260102", **values}
    header = ObjectHeader(
        sop_class,
        sop,
        syntax,
        study,
        series,
        {
            **{TAGS[keyword]: value for keyword, value in given.items()},
            TAGS["StudyInstanceUID"]: study,
            TAGS["SeriesInstanceUID"]: series,
            TAGS["SOPInstanceUID"]: sop,
            TAGS["SOPClassUID"]: sop_class,
        },
        head,
    )
    digest = hashlib.sha256(f"{sop}/{content}".encode("utf-8", "replace")).digest()
    size = 1000 + zlib.crc32(content.encode()) % 1000 if size_bytes is None else size_bytes
    return NewInstance(
        header, StoredFile("main", directory, digest, size), received_at, source_ae, "10.0.0.1", "PACSD", outbox
    )
