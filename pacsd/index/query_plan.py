"""The SQL of one query: which rows to look at, narrowed by an index, in an order that an index gives and keysets page.

The conditions here never leave out a row that matches; the compiled matchers decide afterwards. One of a few ways in
is taken: unique keys and accession number (few rows, sorted); then a name's prefix, a modality with dates, a range of
dates, an ID's prefix, each read in the order of its index, so that the first page costs the same however many follow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, select, tuple_

from pacsd.index.query_keys import Keys
from pacsd.index.query_narrow import (
    between,
    date_bounds,
    exact_values,
    fuzzy_patients,
    indexed,
    name_prefix,
    narrowed,
    prefix_range,
)
from pacsd.index.schema import (
    INSTANCE,
    LEVEL_TABLES,
    PATIENT,
    PATIENT_NAME,
    SERIES,
    STUDY,
    STUDY_MODALITY,
    UID,
)
from pacsd.model.attributes import MODALITIES_IN_STUDY, Level
from pacsd.model.query import Query

SOP_CLASS = UID.alias("sop_class_uid")
SYNTAX = UID.alias("syntax_uid")

SHORT_PREFIX_CHARS = 3
"""A name's prefix shorter than this narrows less than a range of dates."""

PARENT_COLUMNS: dict[Level, tuple[ColumnElement[Any], ...]] = {
    Level.PATIENT: (),
    Level.STUDY: (STUDY.c.patient,),
    Level.SERIES: (SERIES.c.study,),
    Level.IMAGE: (INSTANCE.c.series,),
}


@dataclass(slots=True)
class Plan:
    """A query's rows. `order` ends in the number of the query's level, so that it is unique, save that a patient may
    come once for each group of the name: `name_range` then says which group counts (the first one within).
    """

    level: Level
    top: Level
    order: list[ColumnElement[Any]]
    conditions: list[ColumnElement[bool]]
    through: FromClause | None = None
    name_range: tuple[str, str | None] | None = None
    columns: list[ColumnElement[Any]] = field(default_factory=list)

    def statement(self, cursor: tuple[int | str, ...] | None, limit: int) -> Select[Any]:
        """The next rows: the columns asked for, then the order's values."""
        statement = select(*self.columns, *self.order).select_from(self._joined())
        statement = statement.where(*self.conditions).order_by(*self.order).limit(limit)
        if cursor is not None:
            if len(self.order) == 1:
                statement = statement.where(self.order[0] > cursor[0])
            else:
                statement = statement.where(tuple_(*self.order) > tuple_(*cursor))
        return statement

    def _joined(self) -> FromClause:
        joined: Any = LEVEL_TABLES[self.top]
        if self.through is PATIENT_NAME:
            joined = PATIENT_NAME.join(PATIENT, PATIENT_NAME.c.patient == PATIENT.c.id)
        elif self.through is STUDY_MODALITY:
            joined = STUDY_MODALITY.join(STUDY, STUDY_MODALITY.c.study == STUDY.c.id)
            if self.top is Level.PATIENT:
                joined = joined.join(PATIENT, STUDY.c.patient == PATIENT.c.id)
        if self.top < Level.STUDY <= self.level and self.through is not STUDY_MODALITY:
            joined = joined.join(STUDY, STUDY.c.patient == PATIENT.c.id)
        if self.top < Level.SERIES <= self.level:
            joined = joined.join(SERIES, SERIES.c.study == STUDY.c.id)
        if self.top < Level.IMAGE <= self.level:
            joined = joined.join(INSTANCE, INSTANCE.c.series == SERIES.c.id)
        if self.level is Level.IMAGE:
            joined = joined.join(SOP_CLASS, INSTANCE.c.sop_class == SOP_CLASS.c.id)
            joined = joined.join(SYNTAX, INSTANCE.c.syntax == SYNTAX.c.id)
        from_: FromClause = joined
        return from_


def make_plan(query: Query, keys: Keys) -> Plan:
    """Choose the way in and collect conditions."""
    conditions = [condition for key in keys.columns if (condition := narrowed(key)) is not None]
    conditions += _lists(keys)
    conditions += _below(query.level, keys)
    if query.fuzzy and (name := keys.column("name", Level.PATIENT)) is not None:
        conditions += fuzzy_patients(name)
    plan = Plan(query.level, query.level, [LEVEL_TABLES[query.level].c.id], conditions)
    levels = [key.level for key in (*keys.columns, *keys.computed)]
    plan.top = min([query.level, *levels])
    if _few(keys):
        # by parent and number: PostgreSQL must not think of walking all rows by number until enough have matched
        plan.order = [*PARENT_COLUMNS[query.level], *plan.order]
    else:
        _way_in(plan, query, keys)
    return plan


def _few(keys: Keys) -> bool:
    """A key whose values have few rows each."""
    named = ("study_uid", "series_uid", "sop_instance_uid", "accession_number", "patient_id")
    for key in (*keys.columns, *keys.below):
        if key.matcher is not None and key.column is not None and key.column.name in named and exact_values(key):
            return True
    return False


def _way_in(plan: Plan, query: Query, keys: Keys) -> None:
    """Let the order be that of the index that narrows best."""
    name = keys.column("name", Level.PATIENT)
    prefix = name_prefix(name) if name is not None and not query.fuzzy else ""
    dates = _dates(keys) if plan.level >= Level.STUDY else None
    modality = _one_modality(keys) if plan.level >= Level.STUDY else None
    below_study = [LEVEL_TABLES[level].c.id for level in (Level.SERIES, Level.IMAGE) if level <= plan.level]
    narrow_dates = dates is not None and all(dates)
    if prefix and (len(prefix) >= SHORT_PREFIX_CHARS or not narrow_dates):
        low, high = prefix_range(prefix)
        form = PATIENT_NAME.c.form
        plan.conditions.append(form >= low)
        if high is not None:
            plan.conditions.append(form < high)
        plan.name_range = low, high
        plan.through, plan.top = PATIENT_NAME, Level.PATIENT
        tail = [LEVEL_TABLES[level].c.id for level in Level if Level.STUDY <= level <= plan.level]
        plan.order = [form, PATIENT_NAME.c.patient, *tail]
    elif modality is not None:
        plan.through, plan.top = STUDY_MODALITY, min(plan.top, Level.STUDY)
        plan.conditions.append(STUDY_MODALITY.c.modality == modality)
        plan.conditions += between(STUDY_MODALITY.c.study_date, dates or (None, None))
        plan.order = [STUDY_MODALITY.c.study_date, STUDY_MODALITY.c.study, *below_study]
    elif dates is not None:
        plan.top = min(plan.top, Level.STUDY)
        plan.order = [STUDY.c.study_date, STUDY.c.id, *below_study]
    elif (patient := keys.column("patient_id", Level.PATIENT)) is not None and indexed(patient):
        plan.top = Level.PATIENT
        tail = [LEVEL_TABLES[level].c.id for level in Level if Level.STUDY <= level <= plan.level]
        plan.order = [PATIENT.c.patient_id, PATIENT.c.issuer, PATIENT.c.scope, *tail]


def _dates(keys: Keys) -> tuple[str | None, str | None] | None:
    key = keys.column("study_date", Level.STUDY)
    bounds = (None, None) if key is None else date_bounds(key)
    return bounds if any(bounds) else None


def _one_modality(keys: Keys) -> str | None:
    key = keys.computed_key(MODALITIES_IN_STUDY)
    values = exact_values(key) if key is not None else ()
    return values[0] if len(values) == 1 else None


def _lists(keys: Keys) -> list[ColumnElement[bool]]:
    """Studies by several modalities; a single one is a way in of its own, and harmless twice."""
    key = keys.computed_key(MODALITIES_IN_STUDY)
    values = exact_values(key) if key is not None else ()
    if not values:
        return []
    listed = STUDY_MODALITY.alias("listed")
    found = select(listed.c.study).where(listed.c.modality.in_(values), listed.c.study == STUDY.c.id)
    return [found.correlate(STUDY).exists()]


def _below(level: Level, keys: Keys) -> list[ColumnElement[bool]]:
    """Rows that have a child which may match all keys of lower levels."""
    if not keys.below:
        return []
    deepest = max(key.level for key in keys.below)
    own = LEVEL_TABLES[level]
    joined: Any = LEVEL_TABLES[Level(level + 1)]
    for lower in range(level + 2, deepest + 1):
        above = LEVEL_TABLES[Level(lower - 1)]
        joined = joined.join(LEVEL_TABLES[Level(lower)], PARENT_COLUMNS[Level(lower)][0] == above.c.id)
    conditions = [condition for key in keys.below if (condition := narrowed(key)) is not None]
    children = select(PARENT_COLUMNS[Level(level + 1)][0]).select_from(joined).where(*conditions)
    return [own.c.id.in_(children)] if conditions else []
