"""Which files the index knows: further copies, forgotten ones, the search for what is missing, the walk
over all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection

from pacsd.index.ingest import NO_DIGEST
from pacsd.index.schema import DIRECTORY, HAS_OWN_DIGEST, INSTANCE, LOCATION, SET_ASIDE, STATION
from pacsd.index.stored import BATCH
from pacsd.model.errors import NoSuchInstance
from pacsd.model.objects import StoredFile


@dataclass(frozen=True, slots=True)
class LocatedFile:
    """A file of an instance."""

    instance_id: int
    file: StoredFile


@dataclass(frozen=True, slots=True)
class SetAside:
    """A file under a SOP Instance UID that another file answers for.

    Attributes: reason: 'kept-aside' (came later with other bytes) or 'superseded' (was replaced).
    """

    set_aside_id: int
    sop_instance_uid: str
    file: StoredFile
    received_at: float
    source_ae: str
    source_address: str
    reason: str


FilesCursor = tuple[int, int, bytes]
"""Instance, directory number and digest of the last file seen; START for all."""

START: FilesCursor = (0, 0, b"")


def add_location(connection: Connection, instance_id: int, file: StoredFile, directory: int) -> None:
    """A further file of an instance; one that was set aside with these bytes is found in its new place
    instead.

    Raises: errors.NoSuchInstance.
    """
    row = connection.execute(
        select(INSTANCE.c.digest, INSTANCE.c.sop_instance_uid).where(INSTANCE.c.id == instance_id)
    ).one_or_none()
    if row is None:
        raise NoSuchInstance("the instance isn't held")
    own, uid = bytes(row[0]), row[1]
    if own != file.digest:
        same_bytes = (SET_ASIDE.c.sop_instance_uid == uid) & (SET_ASIDE.c.digest == file.digest)
        found = connection.scalar(select(SET_ASIDE.c.id).where(same_bytes).order_by(SET_ASIDE.c.id).limit(1))
        if found is not None:
            connection.execute(update(SET_ASIDE).where(SET_ASIDE.c.id == found).values(directory=directory))
            return
    digest, size = (NO_DIGEST, 0) if own == file.digest else (file.digest, file.size_bytes)
    place = (LOCATION.c.instance == instance_id) & (LOCATION.c.directory == directory) & (LOCATION.c.digest == digest)
    if connection.scalar(select(LOCATION.c.instance).where(place)) is None:
        connection.execute(
            LOCATION.insert().values(instance=instance_id, directory=directory, digest=digest, size_bytes=size)
        )


def forget_location(connection: Connection, instance_id: int, file: StoredFile) -> bool:
    """A file of an instance is gone; False if the index didn't name it. The instance stays."""
    directory = (
        select(DIRECTORY.c.id)
        .where(DIRECTORY.c.pool == file.pool, DIRECTORY.c.path == file.directory)
        .scalar_subquery()
    )
    own = connection.scalar(select(INSTANCE.c.digest).where(INSTANCE.c.id == instance_id))
    digest = NO_DIGEST if own is not None and bytes(own) == file.digest else file.digest
    gone = connection.execute(
        delete(LOCATION).where(
            LOCATION.c.instance == instance_id, LOCATION.c.directory == directory, LOCATION.c.digest == digest
        )
    )
    return gone.rowcount > 0


def missing(connection: Connection, digests: Sequence[bytes]) -> set[bytes]:
    """Those of some digests that no file of an instance and none set aside has."""
    wanted = set(digests)
    left = sorted(wanted)
    for start in range(0, len(left), BATCH):
        part = left[start : start + BATCH]
        located = (
            select(INSTANCE.c.digest)
            .where(INSTANCE.c.digest.in_(part))
            .where(
                select(LOCATION.c.instance)
                .where(LOCATION.c.instance == INSTANCE.c.id, LOCATION.c.digest == NO_DIGEST)
                .exists()
            )
        )
        for statement in (
            located,
            select(LOCATION.c.digest).where(LOCATION.c.digest.in_(part), HAS_OWN_DIGEST),
            select(SET_ASIDE.c.digest).where(SET_ASIDE.c.digest.in_(part)),
        ):
            wanted -= {bytes(digest) for digest in connection.scalars(statement)}
    return wanted


def files(connection: Connection, after: FilesCursor, limit: int) -> tuple[list[LocatedFile], FilesCursor | None]:
    """The next files of all instances and the cursor to go on with; None at the end."""
    instance, directory, digest = after
    beyond = (LOCATION.c.instance > instance) | (
        (LOCATION.c.instance == instance)
        & ((LOCATION.c.directory > directory) | ((LOCATION.c.directory == directory) & (LOCATION.c.digest > digest)))
    )
    rows = connection.execute(
        select(
            LOCATION.c.instance, LOCATION.c.directory, LOCATION.c.digest, LOCATION.c.size_bytes,
            INSTANCE.c.digest, INSTANCE.c.size_bytes, DIRECTORY.c.pool, DIRECTORY.c.path,
        )
        .join_from(LOCATION, INSTANCE, LOCATION.c.instance == INSTANCE.c.id)
        .join(DIRECTORY, LOCATION.c.directory == DIRECTORY.c.id)
        .where(LOCATION.c.instance >= instance, beyond)
        .order_by(LOCATION.c.instance, LOCATION.c.directory, LOCATION.c.digest)
        .limit(limit)
    ).all()  # fmt: skip
    found = [
        LocatedFile(
            row[0],
            StoredFile(row[6], row[7], bytes(row[2]) or bytes(row[4]), row[3] if row[2] else row[5]),
        )
        for row in rows
    ]
    if len(rows) < limit:
        return found, None
    return found, (rows[-1][0], rows[-1][1], bytes(rows[-1][2]))


def set_aside(connection: Connection, after_id: int, limit: int) -> list[SetAside]:
    """Files set aside, oldest first, keyset-paged; [] at the end."""
    rows = connection.execute(
        select(
            SET_ASIDE.c.id, SET_ASIDE.c.sop_instance_uid, DIRECTORY.c.pool, DIRECTORY.c.path, SET_ASIDE.c.digest,
            SET_ASIDE.c.size_bytes, SET_ASIDE.c.received_at, STATION.c.ae_title, STATION.c.address, SET_ASIDE.c.reason,
        )
        .join_from(SET_ASIDE, DIRECTORY, SET_ASIDE.c.directory == DIRECTORY.c.id)
        .join(STATION, SET_ASIDE.c.station == STATION.c.id)
        .where(SET_ASIDE.c.id > after_id)
        .order_by(SET_ASIDE.c.id)
        .limit(limit)
    )  # fmt: skip
    return [
        SetAside(row[0], row[1], StoredFile(row[2], row[3], bytes(row[4]), row[5]), row[6], row[7], row[8], row[9])
        for row in rows
    ]
