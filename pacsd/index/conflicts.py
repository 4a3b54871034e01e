"""Another object under a SOP Instance UID that is held: the site's rule, applied in one transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection

from pacsd.index.ingest import NO_DIGEST
from pacsd.index.ingest_parents import Parents
from pacsd.index.ingest_statements import INSTANCE_NAMES, IngestStatements
from pacsd.index.known import Known
from pacsd.index.rows import Prepared
from pacsd.index.schema import (
    INSTANCE,
    INSTANCE_HEAD,
    KEPT_ASIDE,
    LOCATION,
    PATIENT,
    PATIENT_NAME,
    PATIENT_NAME_TOKEN,
    SERIES,
    STUDY,
    STUDY_MODALITY,
    SUPERSEDED,
    UID,
)
from pacsd.index.statements import Script
from pacsd.index.stored import load_files
from pacsd.model.objects import Outcome, Recorded


def keep_both(connection: Connection, statements: IngestStatements, known: Known, item: Prepared) -> Recorded | None:
    """List the new file beside the first one; None when there is no first one any more."""
    row = _locked(connection, item.sop_instance_uid)
    if row is None:
        return None
    script = Script(connection)
    try:
        parents = Parents(script, statements, known)
        parents.resolve_dictionaries([item.new])
        new = item.new
        directory = parents.directory(new.file)
        if bytes(row.digest) == new.file.digest:
            script.insert(statements.add_location, [(row.id, directory, NO_DIGEST, 0)])
            outcome = Outcome.DUPLICATE
        else:
            values = (
                item.sop_instance_uid, new.file.digest, new.file.size_bytes, directory,
                new.received_at, parents.station(new), KEPT_ASIDE,
            )  # fmt: skip
            script.insert(statements.add_set_aside, [values])
            outcome = Outcome.KEPT_ASIDE
        script.flush()
    finally:
        script.close()
    return Recorded(outcome, row.id)


def replace(
    connection: Connection, statements: IngestStatements, known: Known, item: Prepared
) -> tuple[Recorded, Parents] | None:
    """Let the new object answer for the UID and list the old files; None when there is no old one any
    more.
    """
    script = Script(connection)
    try:
        parents = Parents(script, statements, known)
        parents.resolve([item])
        script.flush()
        old = _locked(connection, item.sop_instance_uid)
        if old is None:
            return None
        place = parents.series_of(item)
        _set_aside_files(connection, script, statements, item, old)
        connection.execute(delete(LOCATION).where(LOCATION.c.instance == old.id))
        connection.execute(
            update(INSTANCE).where(INSTANCE.c.id == old.id).values(
                series=place.series,
                sop_class=parents.uid(item.new.header.sop_class_uid),
                syntax=parents.uid(item.new.header.transfer_syntax_uid),
                station=parents.station(item.new),
                received_at=item.new.received_at,
                size_bytes=item.new.file.size_bytes,
                digest=item.new.file.digest,
                **dict(zip(INSTANCE_NAMES, item.attributes, strict=True)),
            )
        )  # fmt: skip
        connection.execute(
            update(INSTANCE_HEAD).where(INSTANCE_HEAD.c.instance == old.id).values(
                syntax=parents.uid(item.new.header.transfer_syntax_uid), flags=item.flags, head=item.head
            )
        )  # fmt: skip
        script.insert(statements.add_location, [(old.id, parents.directory(item.new.file), NO_DIGEST, 0)])
        parents.count([item])
        script.flush()
        leave_parents(connection, old.series)
    finally:
        script.close()
    return Recorded(Outcome.REPLACED, old.id), parents


def _locked(connection: Connection, sop_instance_uid: str) -> Any:
    return connection.execute(
        select(INSTANCE).where(INSTANCE.c.sop_instance_uid == sop_instance_uid).with_for_update()
    ).one_or_none()


def _set_aside_files(
    connection: Connection, script: Script, statements: IngestStatements, item: Prepared, old: Any
) -> None:
    parents = Parents(script, statements, Known())
    for file in load_files(connection, {old.id: (bytes(old.digest), old.size_bytes)}).get(old.id, ()):
        directory = parents.number_of_directory(file)
        values = (
            item.sop_instance_uid, file.digest, file.size_bytes, directory, old.received_at, old.station, SUPERSEDED,
        )  # fmt: skip
        script.insert(statements.add_set_aside, [values])
    script.flush()


def leave_parents(connection: Connection, series: int) -> None:
    """Take one instance off the counts above it, after its row has left the series; empty parents go with
    it.
    """
    study, patient = connection.execute(
        select(SERIES.c.study, STUDY.c.patient)
        .join_from(SERIES, STUDY, SERIES.c.study == STUDY.c.id)
        .where(SERIES.c.id == series)
    ).one()
    connection.execute(update(PATIENT).where(PATIENT.c.id == patient).values(n_instances=PATIENT.c.n_instances - 1))
    connection.execute(update(STUDY).where(STUDY.c.id == study).values(n_instances=STUDY.c.n_instances - 1))
    connection.execute(update(SERIES).where(SERIES.c.id == series).values(n_instances=SERIES.c.n_instances - 1))
    if connection.execute(delete(SERIES).where(SERIES.c.id == series, SERIES.c.n_instances <= 0)).rowcount:
        connection.execute(update(STUDY).where(STUDY.c.id == study).values(n_series=STUDY.c.n_series - 1))
        connection.execute(update(PATIENT).where(PATIENT.c.id == patient).values(n_series=PATIENT.c.n_series - 1))
    _relist(connection, study)
    if connection.scalar(select(STUDY.c.n_series).where(STUDY.c.id == study)) == 0:
        connection.execute(delete(STUDY_MODALITY).where(STUDY_MODALITY.c.study == study))
        connection.execute(delete(STUDY).where(STUDY.c.id == study))
        connection.execute(update(PATIENT).where(PATIENT.c.id == patient).values(n_studies=PATIENT.c.n_studies - 1))
    if connection.scalar(select(PATIENT.c.n_studies).where(PATIENT.c.id == patient)) == 0:
        connection.execute(delete(PATIENT_NAME).where(PATIENT_NAME.c.patient == patient))
        connection.execute(delete(PATIENT_NAME_TOKEN).where(PATIENT_NAME_TOKEN.c.patient == patient))
        connection.execute(delete(PATIENT).where(PATIENT.c.id == patient))


def _relist(connection: Connection, study: int) -> None:
    """Modalities and SOP classes of a study anew, in the order in which they came."""
    texts = connection.scalars(select(SERIES.c.modality).where(SERIES.c.study == study).order_by(SERIES.c.id)).all()
    modalities = list(dict.fromkeys(part for text in texts for part in text.split("\\") if part))
    classes = connection.scalars(
        select(UID.c.uid)
        .join_from(INSTANCE, SERIES, INSTANCE.c.series == SERIES.c.id)
        .join(UID, INSTANCE.c.sop_class == UID.c.id)
        .where(SERIES.c.study == study)
        .distinct()
    ).all()
    connection.execute(
        update(STUDY)
        .where(STUDY.c.id == study)
        .values(modalities="\\".join(modalities), sop_classes="\\".join(classes))
    )
    connection.execute(
        delete(STUDY_MODALITY).where(STUDY_MODALITY.c.study == study, STUDY_MODALITY.c.modality.not_in(modalities))
    )
