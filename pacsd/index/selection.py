"""Which instances a retrieve or a commitment names, page by page in the order of their series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.engine import Connection

from pacsd.index.schema import INSTANCE, PATIENT, SERIES, STUDY
from pacsd.index.stored import BATCH, instance_rows, load_instances
from pacsd.index.text import key
from pacsd.model.errors import DatasetMismatch
from pacsd.model.objects import StoredInstance
from pacsd.model.query import Selector


def instances(connection: Connection, selector: Selector, after_id: int, limit: int) -> list[StoredInstance]:
    """The next instances after the one numbered `after_id` (0: from the start); [] at the end.

    The order is by series, within it by number; `after_id` alone says where to go on, for an instance's series is
    known. An instance that moved to another series meanwhile ends the walk at its new place.

    Raises: errors.DatasetMismatch: the selector names nothing.
    """
    statement = instance_rows().order_by(INSTANCE.c.series, INSTANCE.c.id).limit(limit)
    statement = _named(statement, selector)
    if after_id:
        series = connection.scalar(select(INSTANCE.c.series).where(INSTANCE.c.id == after_id))
        if series is None:
            return []
        statement = statement.where(
            or_(INSTANCE.c.series > series, and_(INSTANCE.c.series == series, INSTANCE.c.id > after_id))
        )
    return load_instances(connection, statement)


def count_instances(connection: Connection, selector: Selector) -> int:
    """How many instances a selector names: from kept counts, unless single instances are named.

    Raises: errors.DatasetMismatch: the selector names nothing.
    """
    if selector.sop_instance_uids:
        statement = _named(
            select(func.count())
            .select_from(INSTANCE)
            .join(SERIES, INSTANCE.c.series == SERIES.c.id)
            .join(STUDY, SERIES.c.study == STUDY.c.id),
            selector,
        )
    elif selector.series_uids:
        statement = _named(
            select(func.sum(SERIES.c.n_instances)).join_from(SERIES, STUDY, SERIES.c.study == STUDY.c.id), selector
        )
    else:
        statement = _named(select(func.sum(STUDY.c.n_instances)), selector)
    return int(connection.scalar(statement) or 0)


def lookup(connection: Connection, sop_instance_uids: Sequence[str]) -> list[StoredInstance]:
    """Those of some instances that are held, in no promised order."""
    uids = sorted({key(uid.strip()) for uid in sop_instance_uids})
    found: list[StoredInstance] = []
    for start in range(0, len(uids), BATCH):
        part = INSTANCE.c.sop_instance_uid.in_(uids[start : start + BATCH])
        found += load_instances(connection, instance_rows().where(part))
    return found


def _named(statement: Select[Any], selector: Selector) -> Select[Any]:
    """With the selector's conditions; the statement joins what they need, save the patient."""
    conditions: list[ColumnElement[bool]] = []
    if selector.sop_instance_uids:
        conditions.append(INSTANCE.c.sop_instance_uid.in_(_keys(selector.sop_instance_uids)))
    if selector.series_uids:
        conditions.append(SERIES.c.series_uid.in_(_keys(selector.series_uids)))
    if selector.study_uids:
        conditions.append(STUDY.c.study_uid.in_(_keys(selector.study_uids)))
    if selector.patient_ids:
        patients = select(PATIENT.c.id).where(PATIENT.c.patient_id.in_(_keys(selector.patient_ids)))
        if selector.issuer:
            patients = patients.where(PATIENT.c.issuer == key(selector.issuer.strip()))
        conditions.append(STUDY.c.patient.in_(patients))
    if not conditions:
        raise DatasetMismatch("nothing is selected")
    return statement.where(*conditions)


def _keys(values: Sequence[str]) -> list[str]:
    return sorted({key(value.strip()) for value in values})
