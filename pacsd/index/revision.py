"""Which schema a database has and which this release wants; without Alembic, which only an upgrade needs in memory."""

from __future__ import annotations

from typing import Final

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

SCHEMA_REVISION: Final = "0001"
"""The newest of `migrations/versions`."""


def current(connection: Connection) -> str | None:
    """The revision of a database, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision
