"""Answering a query, page by page: SQL narrows and orders, the compiled matchers decide (PS3.4 C.2.2.2, C.4.1).

A call looks at a bounded number of rows, so that a key which no index serves can't hold a thread for long: it may
return an empty page with a cursor. No file is opened, no child is counted, no page is skipped by counting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection

from pacsd.index.patient_names import name_forms
from pacsd.index.query_answers import answer, matches_columns, matches_head, selected
from pacsd.index.query_children import with_matching_child
from pacsd.index.query_heads import first_instance, load_heads
from pacsd.index.query_keys import Keys, sort_keys
from pacsd.index.query_plan import Plan, make_plan
from pacsd.index.schema import LEVEL_TABLES, PATIENT
from pacsd.model.dataset import Dataset
from pacsd.model.errors import DatasetMismatch
from pacsd.model.query import Page, Query

MAX_ROWS = 5_000
MAX_HEADS = 1_000
CHUNK = 500
_NO_HEAD = Dataset()
PATIENT_NAME_TAG = 0x00100010

Cursor = tuple[int | str, ...]


def search(connection: Connection, query: Query, cursor: Cursor | None, page_size: int) -> Page:
    """One page of at most `page_size` answers; `cursor` is the former page's.

    Raises: errors.DatasetMismatch: a unique key above the level is missing, or the cursor isn't of this query.
    """
    keys = sort_keys(query)
    plan = make_plan(query, keys)
    if cursor is not None and len(cursor) != len(plan.order):
        raise DatasetMismatch("the cursor isn't of this query")
    if query.limit is not None:
        page_size = min(page_size, query.limit)
    reading = _Reading(connection, query, keys, plan, page_size)
    return reading.page(cursor)


class _Reading:
    """One page's reading."""

    def __init__(self, connection: Connection, query: Query, keys: Keys, plan: Plan, page_size: int) -> None:
        self._connection = connection
        self._keys = keys
        self._plan = plan
        self._level = query.level
        self._page_size = max(1, page_size)
        columns = selected(keys)
        if plan.name_range is not None:
            columns[PATIENT_NAME_TAG] = PATIENT.c.name
        self._tags = list(columns)
        own = LEVEL_TABLES[query.level].c.id
        plan.columns = [*columns.values(), own.label("own_id")]
        if keys.heads:
            plan.columns.append(first_instance(query.level, own).label("head_instance"))
        self._bound = MAX_HEADS if any(key.matcher is not None for key in keys.heads) else MAX_ROWS

    def page(self, cursor: Cursor | None) -> Page:
        matches: list[Dataset] = []
        n_rows = 0
        while True:
            limit = min(CHUNK, max(50, self._page_size - len(matches) + 1))
            rows = self._connection.execute(self._plan.statement(cursor, limit)).all()
            for row, found in zip(rows, self._answers(rows), strict=True):
                if found is not None:
                    if len(matches) == self._page_size:
                        return Page(tuple(matches), self._keys.unsupported, cursor)
                    matches.append(found)
                cursor = tuple(row[-len(self._plan.order) :])
            n_rows += len(rows)
            if len(rows) < limit:
                return Page(tuple(matches), self._keys.unsupported, None)
            if n_rows >= self._bound:
                return Page(tuple(matches), self._keys.unsupported, cursor)

    def _answers(self, rows: Sequence[Any]) -> list[Dataset | None]:
        """For each row its answer, None where it doesn't match."""
        keys = self._keys
        n_tags = len(self._tags)
        values = [dict(zip(self._tags, row[:n_tags], strict=True)) for row in rows]
        good = [matches_columns(keys, one) and self._counts(one, row) for one, row in zip(values, rows, strict=True)]
        if keys.below and any(good):
            entities = [row[n_tags] for row, ok in zip(rows, good, strict=True) if ok]
            having = with_matching_child(self._connection, self._level, keys, entities)
            good = [ok and row[n_tags] in having for row, ok in zip(rows, good, strict=True)]
        heads: dict[int, Dataset] = {}
        if keys.heads:
            heads = load_heads(self._connection, [row[n_tags + 1] for row, ok in zip(rows, good, strict=True) if ok])
        found: list[Dataset | None] = []
        for one, row, ok in zip(values, rows, good, strict=True):
            head = heads.get(row[n_tags + 1], _NO_HEAD) if keys.heads else _NO_HEAD
            found.append(answer(keys, one, head) if ok and matches_head(keys, head) else None)
        return found

    def _counts(self, values: dict[int, Any], row: Any) -> bool:
        """Of a patient whose name matches by several groups only the first in the order counts."""
        if self._plan.name_range is None:
            return True
        low, high = self._plan.name_range
        within = [f for f in name_forms(values[PATIENT_NAME_TAG]) if f >= low and (high is None or f < high)]
        return bool(within) and row[-len(self._plan.order)] == min(within)
