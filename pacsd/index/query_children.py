"""Relational queries: whether a row has a child that satisfies all keys of lower levels at once (PS3.4 C.4.1.2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from pacsd.index.query_answers import sql_column, stored_values
from pacsd.index.query_keys import Keys
from pacsd.index.query_narrow import is_decided, narrowed
from pacsd.index.query_plan import PARENT_COLUMNS, SOP_CLASS
from pacsd.index.schema import INSTANCE, LEVEL_TABLES
from pacsd.model.attributes import Level


def with_matching_child(connection: Connection, level: Level, keys: Keys, entities: Sequence[int]) -> set[int]:
    """Those of some rows, by number, that have one."""
    below = [key for key in keys.below if key.column is not None]
    deepest = max(key.level for key in below)
    first = Level(level + 1)
    joined: Any = LEVEL_TABLES[first]
    for lower in range(first + 1, deepest + 1):
        above = LEVEL_TABLES[Level(lower - 1)]
        joined = joined.join(LEVEL_TABLES[Level(lower)], PARENT_COLUMNS[Level(lower)][0] == above.c.id)
    if deepest is Level.IMAGE:
        joined = joined.join(SOP_CLASS, INSTANCE.c.sop_class == SOP_CLASS.c.id)
    parent = PARENT_COLUMNS[first][0]
    conditions = [condition for key in below if (condition := narrowed(key)) is not None]
    columns = [sql_column(key.column) for key in below if key.column is not None]
    statement = select(parent, *columns).select_from(joined).where(parent.in_(entities), *conditions).distinct()
    found: set[int] = set()
    for entity, *texts in connection.execute(statement):
        if entity not in found and all(
            key.matcher is None
            or key.column is None
            or is_decided(key)
            or key.matcher.matches(stored_values(key.column, text))
            for key, text in zip(below, texts, strict=True)
        ):
            found.add(entity)
    return found
