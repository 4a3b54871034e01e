"""Whether a database fits together: kept counts against the rows, instances against their files."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.engine import Connection

from pacsd.index.schema import INSTANCE, LOCATION, PATIENT, SERIES, STUDY


def wrong_rows(connection: Connection) -> dict[str, int]:
    """How many rows contradict others, by what is wrong with them; only what is wrong is there.

    Reads every instance row: for a person who asks, not for a daemon.
    """
    found = {what: int(connection.scalar(statement) or 0) for what, statement in _statements().items()}
    return {what: number for what, number in found.items() if number}


def _statements() -> dict[str, Select[Any]]:
    in_series = select(func.count()).where(INSTANCE.c.series == SERIES.c.id).scalar_subquery()
    series_in_study = select(func.count()).where(SERIES.c.study == STUDY.c.id).scalar_subquery()
    in_study = (
        select(func.coalesce(func.sum(SERIES.c.n_instances), 0)).where(SERIES.c.study == STUDY.c.id).scalar_subquery()
    )
    of_patient = STUDY.c.patient == PATIENT.c.id
    studies_of = select(func.count()).where(of_patient).scalar_subquery()
    in_patient = select(func.coalesce(func.sum(STUDY.c.n_instances), 0)).where(of_patient).scalar_subquery()
    has_file = select(LOCATION.c.instance).where(LOCATION.c.instance == INSTANCE.c.id).exists()
    count = func.count
    return {
        "series with another number of instances than counted": (
            select(count()).select_from(SERIES).where(SERIES.c.n_instances != in_series)
        ),
        "studies with another number of series than counted": (
            select(count()).select_from(STUDY).where(STUDY.c.n_series != series_in_study)
        ),
        "studies with another number of instances than counted": (
            select(count()).select_from(STUDY).where(STUDY.c.n_instances != in_study)
        ),
        "patients with another number of studies than counted": (
            select(count()).select_from(PATIENT).where(PATIENT.c.n_studies != studies_of)
        ),
        "patients with another number of instances than counted": (
            select(count()).select_from(PATIENT).where(PATIENT.c.n_instances != in_patient)
        ),
        "instances without a file": select(count()).select_from(INSTANCE).where(~has_file),
    }
