"""Recording what was received: one transaction for a batch, however many associations it came by.

Every transaction takes its rows in one order (dictionaries, patient, study, series, instance as they are
made; then patient, study, series as they are counted; each sorted by key), so that no two can wait for
each other in a circle. Uniqueness is the database's: a row that someone else makes at the same moment is
found, not made twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.engine import Connection

from pacsd.index.ingest_parents import Parents
from pacsd.index.ingest_statements import IngestStatements
from pacsd.index.jobs import job_values
from pacsd.index.known import Known
from pacsd.index.rows import Prepared
from pacsd.index.statements import Script
from pacsd.index.stored import aside_with, load_stored
from pacsd.model.objects import Outcome, Recorded

NO_DIGEST = b""
"""In `location`: the file's digest is the instance's."""


def record_prepared(
    connection: Connection, statements: IngestStatements, known: Known, batch: Sequence[Prepared]
) -> tuple[list[Recorded], Parents]:
    """Write a batch; returns the answers in order and, for `known`, what was learned (valid once
    committed).
    """
    script = Script(connection)
    try:
        parents = Parents(script, statements, known)
        parents.resolve(batch)
        first = _first_of_each(batch)
        ids = _write_instances(script, statements, parents, first)
        answers = _answers(connection, parents, batch, first, ids)
        stored = [batch[i] for i, answer in enumerate(answers) if answer.outcome is Outcome.STORED]
        parents.count(stored)
        _write_rest(script, statements, parents, stored, ids)
        script.flush()
        return answers, parents
    finally:
        script.close()


def _first_of_each(batch: Sequence[Prepared]) -> dict[str, Prepared]:
    """By SOP Instance UID in sorted order; of several objects under one UID the first."""
    if len(batch) == 1:
        return {batch[0].sop_instance_uid: batch[0]}
    first: dict[str, Prepared] = {}
    for item in batch:
        first.setdefault(item.sop_instance_uid, item)
    return dict(sorted(first.items()))


def _write_instances(
    script: Script, statements: IngestStatements, parents: Parents, first: dict[str, Prepared]
) -> dict[str, int]:
    """Rows of those that weren't there; their numbers by SOP Instance UID."""
    rows = []
    for item in first.values():
        new = item.new
        header = new.header
        rows.append((
            parents.series_of(item).series,
            parents.uid(header.sop_class_uid),
            parents.uid(header.transfer_syntax_uid),
            parents.station(new),
            new.received_at,
            new.file.size_bytes,
            new.file.digest,
            *item.attributes,
        ))  # fmt: skip
    return {uid: number for number, uid in script.insert_returning(statements.add_instance, rows)}


def _answers(
    connection: Connection,
    parents: Parents,
    batch: Sequence[Prepared],
    first: dict[str, Prepared],
    ids: dict[str, int],
) -> list[Recorded]:
    answers = []
    for item in batch:
        number = ids.get(item.sop_instance_uid)
        if number is not None and first[item.sop_instance_uid] is item:
            answers.append(Recorded(Outcome.STORED, number))
        else:
            answers.append(_held(connection, parents, item, first, number))
    return answers


def _held(
    connection: Connection, parents: Parents, item: Prepared, first: dict[str, Prepared], number: int | None
) -> Recorded:
    """The answer for an object whose SOP Instance UID is held, by the database or by this very batch."""
    new = item.new
    if number is not None:
        existing = parents.as_stored(first[item.sop_instance_uid], number)
        digest = first[item.sop_instance_uid].new.file.digest
    else:
        existing, digest = load_stored(connection, item.sop_instance_uid)
    same = digest == new.file.digest or any(file.digest == new.file.digest for file in existing.files)
    if not same:
        aside = aside_with(connection, item.sop_instance_uid, new.file.digest)
        if aside:
            existing = replace(existing, files=aside)
            same = True
    return Recorded(Outcome.DUPLICATE if same else Outcome.CONFLICT, existing.instance_id, existing)


def _write_rest(
    script: Script,
    statements: IngestStatements,
    parents: Parents,
    stored: Sequence[Prepared],
    ids: dict[str, int],
) -> None:
    heads, locations, jobs = [], [], []
    for item in stored:
        new = item.new
        number = ids[item.sop_instance_uid]
        heads.append((number, parents.uid(new.header.transfer_syntax_uid), item.flags, item.head))
        locations.append((number, parents.directory(new.file), NO_DIGEST, 0))
        if new.outbox:
            jobs += [job_values(job, new.received_at) for job in new.outbox]
    script.insert(statements.add_head, heads)
    script.insert(statements.add_location, locations)
    script.insert(statements.add_job, jobs)
