"""Reading instances with their files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.engine import Connection

from pacsd.index.schema import DIRECTORY, INSTANCE, LOCATION, SERIES, SET_ASIDE, STUDY, UID
from pacsd.model.objects import StoredFile, StoredInstance

_SOP_CLASS = UID.alias("sop_class_uid")
_SYNTAX = UID.alias("syntax_uid")

BATCH = 500
"""Rows of one IN list."""


def instance_rows() -> Select[Any]:
    """Instances with their parents' UIDs; the caller adds conditions, order and limit."""
    return (
        select(
            INSTANCE.c.id,
            _SOP_CLASS.c.uid,
            INSTANCE.c.sop_instance_uid,
            SERIES.c.series_uid,
            STUDY.c.study_uid,
            _SYNTAX.c.uid,
            INSTANCE.c.digest,
            INSTANCE.c.size_bytes,
            INSTANCE.c.n_frames,
        )
        .join_from(INSTANCE, SERIES, INSTANCE.c.series == SERIES.c.id)
        .join(STUDY, SERIES.c.study == STUDY.c.id)
        .join(_SOP_CLASS, INSTANCE.c.sop_class == _SOP_CLASS.c.id)
        .join(_SYNTAX, INSTANCE.c.syntax == _SYNTAX.c.id)
    )


def load_instances(connection: Connection, statement: Select[Any]) -> list[StoredInstance]:
    """What `instance_rows` with conditions selects, with all files, the first written first."""
    rows = connection.execute(statement).all()
    files = load_files(connection, {row[0]: (bytes(row[6]), row[7]) for row in rows})
    return [
        StoredInstance(row[0], row[1], row[2], row[3], row[4], row[5], files.get(row[0], ()), n_frames(row[8]))
        for row in rows
    ]


def load_stored(connection: Connection, sop_instance_uid: str) -> tuple[StoredInstance, bytes]:
    """One instance that is known to be there, and its digest."""
    named = INSTANCE.c.sop_instance_uid == sop_instance_uid
    digest = connection.scalar(select(INSTANCE.c.digest).where(named))
    return load_instances(connection, instance_rows().where(named))[0], bytes(digest or b"")


def load_files(connection: Connection, instances: dict[int, tuple[bytes, int]]) -> dict[int, tuple[StoredFile, ...]]:
    """Files by instance. Args: instances: number -> the instance's own digest and size."""
    found: dict[int, list[StoredFile]] = {}
    numbers = sorted(instances)
    for start in range(0, len(numbers), BATCH):
        statement = (
            select(
                LOCATION.c.instance,
                DIRECTORY.c.pool,
                DIRECTORY.c.path,
                LOCATION.c.digest,
                LOCATION.c.size_bytes,
            )
            .join_from(LOCATION, DIRECTORY, LOCATION.c.directory == DIRECTORY.c.id)
            .where(LOCATION.c.instance.in_(numbers[start : start + BATCH]))
            .order_by(LOCATION.c.instance, LOCATION.c.directory)
        )
        for number, pool, path, digest, size in connection.execute(statement):
            own_digest, own_size = instances[number]
            file = StoredFile(pool, path, bytes(digest) or own_digest, size if digest else own_size)
            found.setdefault(number, []).append(file)
    return {number: tuple(files) for number, files in found.items()}


def aside_with(connection: Connection, sop_instance_uid: str, digest: bytes) -> tuple[StoredFile, ...]:
    """Files with these bytes that were set aside under this SOP Instance UID."""
    rows: Sequence[Any] = connection.execute(
        select(DIRECTORY.c.pool, DIRECTORY.c.path, SET_ASIDE.c.size_bytes)
        .join_from(SET_ASIDE, DIRECTORY, SET_ASIDE.c.directory == DIRECTORY.c.id)
        .where(SET_ASIDE.c.sop_instance_uid == sop_instance_uid, SET_ASIDE.c.digest == digest)
    ).all()
    return tuple(StoredFile(pool, path, digest, size) for pool, path, size in rows)


def n_frames(text: str) -> int:
    """Number of Frames (IS) as a number; 1 when absent or senseless."""
    text = text.strip()
    return max(1, int(text)) if text.isascii() and text.isdecimal() and len(text) < 10 else 1
