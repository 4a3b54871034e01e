"""Values that travel along one image's way: what was received, where its file lies, what the index answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Where one sealed Part 10 file lies and what its bytes are.

    Attributes:
        pool: name of the pool.
        directory: folder below the pool's root, '/'-separated, never made of attributes.
        digest: SHA-256 of the whole file (32 bytes); the file's name is its lower-case hex followed by '.dcm'.
        size_bytes: size of the whole file.
    """

    pool: str
    directory: str
    digest: bytes
    size_bytes: int

    @property
    def path(self) -> str:
        """Path below the pool's root."""
        return f"{self.directory}/{self.digest.hex()}.dcm"


HEAD_CUT = "head-cut"
"""Flag of a header read from a head that ended before all indexed attributes; never recorded."""


@dataclass(slots=True)
class ObjectHeader:
    """What the index needs of one object, read from its head without decoding the rest.

    Attributes:
        sop_class_uid, sop_instance_uid, transfer_syntax_uid: as the file meta has them (the request's values).
        study_uid, series_uid: the data set's, or derived ones (see `flags`) where it has none.
        values: text of each attribute of `attributes.COLUMNS` that was present, decoded to Unicode, by tag;
            several values are joined by a backslash.
        head: the received top-level elements before the pixel data that are small enough, in the encoding of
            `transfer_syntax_uid` (explicit little endian where that one is deflated), see `scan.packed_head`.
        flags: what was odd about it ('odd-length', 'missing-study-uid', 'wrong-charset', …); never a reason to refuse.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    study_uid: str
    series_uid: str
    values: dict[int, str]
    head: bytes = b""
    flags: frozenset[str] = frozenset()


@dataclass(slots=True)
class NewInstance:
    """One sealed object on its way into the index.

    Attributes:
        received_at: seconds since the epoch, UTC.
        source_ae: calling AE title; for an import or a rebuild the one in the file's meta.
        source_address: the peer's IP address or ''.
        called_ae: the AE title that was called.
        outbox: jobs written in the same transaction.
    """

    header: ObjectHeader
    file: StoredFile
    received_at: float
    source_ae: str = ""
    source_address: str = ""
    called_ae: str = ""
    outbox: tuple[NewJob, ...] = ()


class Outcome(Enum):
    """What became of a new object in the index."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    """The same file is held already (equal digest)."""
    CONFLICT = "conflict"
    """Another file is held under this SOP Instance UID; nothing was written yet."""
    KEPT_ASIDE = "kept-aside"
    REPLACED = "replaced"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """One instance as the index holds it."""

    instance_id: int
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    transfer_syntax_uid: str
    files: tuple[StoredFile, ...]
    n_frames: int = 1


@dataclass(frozen=True, slots=True)
class Recorded:
    """The index's answer for one object. `existing` is set for DUPLICATE and CONFLICT."""

    outcome: Outcome
    instance_id: int = 0
    existing: StoredInstance | None = None


class ConflictRule(Enum):
    """What happens when a SOP Instance UID arrives again with other bytes."""

    KEEP_BOTH = "keep-both"
    REPLACE = "replace"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be written with a change (the outbox) or by itself.

    Attributes:
        kind: what is to be done ('storage-commitment-report', …).
        payload: JSON-able values.
        key: jobs of one kind with equal non-empty key run in order.
        run_at: not before, seconds since the epoch; 0: at once.
        priority: smaller first.
    """

    kind: str
    payload: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    run_at: float = 0.0
    priority: int = 100


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job; `attempts` counts this one."""

    job_id: int
    kind: str
    payload: dict[str, Any]
    key: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Peer:
    """A registered DICOM peer.

    Attributes:
        ae_title: 1 to 16 characters, spaces stripped.
        max_associations: towards it, at once; 0: no limit of its own.
        bytes_per_s: throttle of what is sent to it; 0: none.
    """

    ae_title: str
    host: str
    port: int
    description: str = ""
    max_associations: int = 4
    bytes_per_s: int = 0
