"""Where the index says that given bytes lie, whoever names them: for recovery, `pacsd verify` and `pacsd pool`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from pacsd.index.ingest import NO_DIGEST
from pacsd.index.schema import DIRECTORY, HAS_OWN_DIGEST, INSTANCE, LOCATION, SET_ASIDE
from pacsd.index.stored import BATCH
from pacsd.model.objects import StoredFile


def places(connection: Connection, digests: Sequence[bytes]) -> dict[bytes, tuple[StoredFile, ...]]:
    """Every file that some row names, by digest; files set aside too. A digest that no row has isn't there."""
    found: dict[bytes, list[StoredFile]] = {}
    wanted = sorted(set(digests))
    for start in range(0, len(wanted), BATCH):
        part = wanted[start : start + BATCH]
        own = (
            select(DIRECTORY.c.pool, DIRECTORY.c.path, INSTANCE.c.digest, INSTANCE.c.size_bytes)
            .join_from(INSTANCE, LOCATION, (LOCATION.c.instance == INSTANCE.c.id) & (LOCATION.c.digest == NO_DIGEST))
            .join(DIRECTORY, LOCATION.c.directory == DIRECTORY.c.id)
            .where(INSTANCE.c.digest.in_(part))
        )
        other = (
            select(DIRECTORY.c.pool, DIRECTORY.c.path, LOCATION.c.digest, LOCATION.c.size_bytes)
            .join_from(LOCATION, DIRECTORY, LOCATION.c.directory == DIRECTORY.c.id)
            .where(LOCATION.c.digest.in_(part), HAS_OWN_DIGEST)
        )
        aside = (
            select(DIRECTORY.c.pool, DIRECTORY.c.path, SET_ASIDE.c.digest, SET_ASIDE.c.size_bytes)
            .join_from(SET_ASIDE, DIRECTORY, SET_ASIDE.c.directory == DIRECTORY.c.id)
            .where(SET_ASIDE.c.digest.in_(part))
        )
        for statement in (own, other, aside):
            for pool, path, digest, size in connection.execute(statement):
                found.setdefault(bytes(digest), []).append(StoredFile(pool, path, bytes(digest), size))
    return {digest: tuple(files) for digest, files in found.items()}


def n_files_by_pool(connection: Connection) -> dict[str, int]:
    """How many files rows name, by pool. Reads every location: for a person who asks, not for a daemon."""
    counts: Counter[str] = Counter()
    for table in (LOCATION, SET_ASIDE):
        statement = (
            select(DIRECTORY.c.pool, func.count())
            .join_from(table, DIRECTORY, table.c.directory == DIRECTORY.c.id)
            .group_by(DIRECTORY.c.pool)
        )
        for pool, number in connection.execute(statement):
            counts[pool] += number
    return dict(counts)
