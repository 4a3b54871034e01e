"""Received headers, read for the attributes that no column holds."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.engine import Connection

from pacsd.index.schema import INSTANCE, INSTANCE_HEAD, LEVEL_TABLES, SERIES, STUDY, UID
from pacsd.index.stored import BATCH
from pacsd.model.attributes import Level
from pacsd.model.dataset import Dataset, DatasetError, decode
from pacsd.model.syntax import transfer_syntax

MAX_HEAD_BYTES = 1 << 20
_NOTHING = Dataset()


def first_instance(level: Level, entity: ColumnElement[Any]) -> ColumnElement[Any]:
    """The number of the instance whose header speaks for an entity: its first one, found by indexes alone."""
    if level is Level.IMAGE:
        return entity
    own, study = LEVEL_TABLES[level], STUDY.alias("first_study")
    series, instance = SERIES.alias("first_series"), INSTANCE.alias("first_instance")
    if level is Level.PATIENT:
        found = select(func.min(study.c.id)).where(study.c.patient == entity)
        entity = found.correlate(own).scalar_subquery()
    if level <= Level.STUDY:
        entity = select(func.min(series.c.id)).where(series.c.study == entity).correlate(own).scalar_subquery()
    return select(func.min(instance.c.id)).where(instance.c.series == entity).correlate(own).scalar_subquery()


def load_heads(connection: Connection, instances: Iterable[int]) -> dict[int, Dataset]:
    """Decoded headers by instance; an empty data set for one that can't be decoded."""
    found: dict[int, Dataset] = {}
    numbers = sorted(set(instances))
    for start in range(0, len(numbers), BATCH):
        statement = (
            select(INSTANCE_HEAD.c.instance, UID.c.uid, INSTANCE_HEAD.c.head)
            .join_from(INSTANCE_HEAD, UID, INSTANCE_HEAD.c.syntax == UID.c.id)
            .where(INSTANCE_HEAD.c.instance.in_(numbers[start : start + BATCH]))
        )
        for number, syntax_uid, packed in connection.execute(statement):
            found[number] = _decoded(bytes(packed), syntax_uid)
    return found


def _decoded(packed: bytes, syntax_uid: str) -> Dataset:
    try:
        head = zlib.decompressobj().decompress(packed, MAX_HEAD_BYTES)
        return decode(head, transfer_syntax(syntax_uid).inflated)
    except (DatasetError, zlib.error):
        return _NOTHING
