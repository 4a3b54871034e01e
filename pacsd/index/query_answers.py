"""From a row and a header to what is matched and what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement

from pacsd.index.query_keys import Key, Keys
from pacsd.index.query_narrow import is_decided
from pacsd.index.query_plan import SOP_CLASS, SYNTAX
from pacsd.index.schema import LEVEL_TABLES, PATIENT, SERIES, STUDY
from pacsd.model.attributes import (
    AVAILABLE_TRANSFER_SYNTAX_UID,
    BY_TAG,
    COMPUTED,
    INSTANCE_AVAILABILITY,
    MODALITIES_IN_STUDY,
    N_PATIENT_INSTANCES,
    N_PATIENT_SERIES,
    N_PATIENT_STUDIES,
    N_SERIES_INSTANCES,
    N_STUDY_INSTANCES,
    N_STUDY_SERIES,
    SOP_CLASSES_IN_STUDY,
    Column,
)
from pacsd.model.dataset import Dataset, Element, split_text

ONLINE = "ONLINE"
_SEVERAL_VALUES = frozenset({"performing_physician"})
"""Columns of attributes with VM 1-n; a backslash in any other is part of its one value."""

_KEPT: dict[int, ColumnElement[Any]] = {
    MODALITIES_IN_STUDY: STUDY.c.modalities,
    SOP_CLASSES_IN_STUDY: STUDY.c.sop_classes,
    N_PATIENT_STUDIES: PATIENT.c.n_studies,
    N_PATIENT_SERIES: PATIENT.c.n_series,
    N_PATIENT_INSTANCES: PATIENT.c.n_instances,
    N_STUDY_SERIES: STUDY.c.n_series,
    N_STUDY_INSTANCES: STUDY.c.n_instances,
    N_SERIES_INSTANCES: SERIES.c.n_instances,
    AVAILABLE_TRANSFER_SYNTAX_UID: SYNTAX.c.uid,
}
_LISTS = frozenset({MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY})


def sql_column(column: Column) -> ColumnElement[Any]:
    """Where an attribute's text comes from."""
    return SOP_CLASS.c.uid if column.name == "sop_class_uid" else LEVEL_TABLES[column.level].c[column.name]


def selected(keys: Keys) -> dict[int, ColumnElement[Any]]:
    """What is to be selected for the keys, by tag."""
    found = {key.tag: sql_column(key.column) for key in keys.columns if key.column is not None}
    found.update({key.tag: _KEPT[key.tag] for key in keys.computed if key.tag in _KEPT})
    return found


def column_values(column: Column, text: str) -> tuple[Any, ...]:
    """An attribute's values as they are matched: of a US too, texts."""
    if column.name in _SEVERAL_VALUES:
        return split_text(text, column.vr)
    return (text,) if text else ()


def computed_values(tag: int, kept: object) -> tuple[str, ...]:
    """The values of a key that is answered from counts and lists."""
    if tag == INSTANCE_AVAILABILITY:
        return (ONLINE,)
    if tag in _LISTS:
        return tuple(str(kept).split("\\")) if kept else ()
    return () if kept is None else (str(kept),)


def matches_columns(keys: Keys, row: Mapping[int, Any]) -> bool:
    """True when a row's columns and lists satisfy their keys."""
    for key in keys.columns:
        if key.matcher is None or key.column is None or is_decided(key):
            continue
        if not key.matcher.matches(stored_values(key.column, row[key.tag])):
            return False
    for pair in keys.pairs:
        dates, times = (stored_values(BY_TAG[tag], row[tag]) for tag in (pair.date, pair.time))
        if not pair.matcher.matches(dates, times):
            return False
    for key in keys.computed:
        if key.matcher is not None and not key.matcher.matches(computed_values(key.tag, row.get(key.tag))):
            return False
    return True


def stored_values(column: Column, text: str) -> tuple[Any, ...]:
    """An attribute's values in the Python type of its VR."""
    values = column_values(column, text)
    if column.vr != "US":
        return values
    return tuple(int(value) for value in values if value.isascii() and value.isdecimal())


def matches_head(keys: Keys, head: Dataset) -> bool:
    """True when a header satisfies the keys that no column holds."""
    for key in keys.heads:
        if key.matcher is not None:
            element = head.get(key.tag)
            if not key.matcher.matches(element.value if element is not None else ()):
                return False
    return True


def answer(keys: Keys, row: Mapping[int, Any], head: Dataset) -> Dataset:
    """One match: every key with what is held, absent ones empty."""
    found: dict[int, Element] = {}
    for key in keys.columns:
        if key.column is not None:
            found[key.tag] = Element(key.column.vr, stored_values(key.column, row[key.tag]))
    for key in keys.computed:
        found[key.tag] = Element(COMPUTED[key.tag][1], computed_values(key.tag, row.get(key.tag)))
    for key in keys.heads:
        found[key.tag] = _asked(key, head)
    for key in keys.empty:
        found[key.tag] = Element(key.element.vr)
    return Dataset(sorted(found.items()))


def _asked(key: Key, head: Dataset) -> Element:
    """An attribute of the header; of a sequence only what the key's item asks for (PS3.4 C.2.2.2.6)."""
    held = head.get(key.tag)
    if held is None:
        return Element(key.element.vr)
    if held.vr != "SQ" or not key.element.value or not isinstance(key.element.value[0], Dataset):
        return held
    wanted = key.element.value[0]
    if not wanted:
        return held
    items = [
        Dataset({tag: item[tag] if tag in item else Element(element.vr) for tag, element in wanted.items()})
        for item in held.value
        if isinstance(item, Dataset)
    ]
    return Element("SQ", tuple(items))
