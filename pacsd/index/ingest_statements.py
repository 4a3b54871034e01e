"""Every statement of an ingest transaction, compiled once for the database at hand."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Text, bindparam, case, delete, func, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from pacsd.index.rows import INSTANCE_COLUMNS, PATIENT_COLUMNS, SERIES_COLUMNS, STUDY_COLUMNS
from pacsd.index.schema import (
    DIRECTORY,
    INSTANCE,
    INSTANCE_HEAD,
    JOB,
    LOCATION,
    PATIENT,
    PATIENT_NAME,
    PATIENT_NAME_TOKEN,
    SERIES,
    SET_ASIDE,
    STATION,
    STUDY,
    STUDY_MODALITY,
    UID,
)
from pacsd.index.statements import Insert, Statement, positional

PATIENT_NAMES = tuple(name for _, name, _ in PATIENT_COLUMNS)
STUDY_NAMES = tuple(name for _, name, _ in STUDY_COLUMNS)
SERIES_NAMES = tuple(name for _, name, _ in SERIES_COLUMNS)
INSTANCE_NAMES = tuple(name for _, name, _ in INSTANCE_COLUMNS)
JOB_NAMES = ("kind", "key", "priority", "state", "run_at", "created_at", "changed_at", "payload")
SET_ASIDE_NAMES = (
    "sop_instance_uid",
    "digest",
    "size_bytes",
    "directory",
    "received_at",
    "station",
    "reason",
)

_BACKSLASH: Any = literal_column(r"'\'", Text())


def _appended(column: Column[str], item: Any) -> Any:
    """The list with `item` behind it, unless '' or in it already."""
    framed = _BACKSLASH + column + _BACKSLASH
    found = func.replace(framed, _BACKSLASH + item + _BACKSLASH, literal_column("''")) != framed
    return case(
        (column == literal_column("''"), item),
        (found, column),
        else_=column + _BACKSLASH + item,
    )


class IngestStatements:
    """Statements by what they do; parameters in the order that each line names."""

    def __init__(self, dialect: Dialect) -> None:
        d = positional(dialect)

        def one(clause: Any, *names: str) -> Statement:
            return Statement(clause, d, names)

        def p(name: str) -> Any:
            return bindparam(name)

        self.find_uid = one(select(UID.c.id).where(UID.c.uid == p("u")), "u")
        self.find_station = one(
            select(STATION.c.id).where(
                STATION.c.ae_title == p("a"), STATION.c.address == p("i"), STATION.c.called_ae == p("c")
            ),
            "a", "i", "c",
        )  # fmt: skip
        self.find_directory = one(
            select(DIRECTORY.c.id).where(DIRECTORY.c.pool == p("o"), DIRECTORY.c.path == p("f")), "o", "f"
        )
        self.add_uid = Insert(UID, d, ("uid",), ignore=True, returning=("id",))
        self.add_station = Insert(STATION, d, ("ae_title", "address", "called_ae"), ignore=True, returning=("id",))
        self.add_directory = Insert(DIRECTORY, d, ("pool", "path"), ignore=True, returning=("id",))

        self.find_patient = one(
            select(PATIENT.c.id, *[PATIENT.c[name] for name in PATIENT_NAMES]).where(
                PATIENT.c.patient_id == p("k"), PATIENT.c.issuer == p("i"), PATIENT.c.scope == p("s")
            ),
            "k", "i", "s",
        )  # fmt: skip
        self.load_patient = one(
            select(PATIENT.c.id, *[PATIENT.c[name] for name in PATIENT_NAMES]).where(PATIENT.c.id == p("k")),
            "k",
        )
        self.find_study = one(
            select(STUDY.c.id, STUDY.c.patient, *[STUDY.c[name] for name in STUDY_NAMES]).where(
                STUDY.c.study_uid == p("u")
            ),
            "u",
        )
        self.find_series = one(
            select(SERIES.c.id).where(SERIES.c.study == p("s"), SERIES.c.series_uid == p("u")), "s", "u"
        )
        self.add_patient = Insert(PATIENT, d, (*PATIENT_NAMES, "scope"), ignore=True, returning=("id",))
        self.add_study = Insert(STUDY, d, ("patient", *STUDY_NAMES), ignore=True, returning=("id",))
        self.add_series = Insert(SERIES, d, ("study", *SERIES_NAMES), ignore=True, returning=("id",))
        self.add_name = Insert(PATIENT_NAME, d, ("form", "patient"), ignore=True)
        self.add_token = Insert(PATIENT_NAME_TOKEN, d, ("token", "patient"), ignore=True)
        self.add_instance = Insert(
            INSTANCE, d,
            ("series", "sop_class", "syntax", "station", "received_at", "size_bytes", "digest", *INSTANCE_NAMES),
            ignore=True, returning=("id", "sop_instance_uid"),
        )  # fmt: skip
        self.add_head = Insert(INSTANCE_HEAD, d, ("instance", "syntax", "flags", "head"))
        self.add_location = Insert(LOCATION, d, ("instance", "directory", "digest", "size_bytes"), ignore=True)
        self.add_job = Insert(JOB, d, JOB_NAMES)
        self.add_set_aside = Insert(SET_ASIDE, d, SET_ASIDE_NAMES, ignore=True)

        self.count_patient = one(
            update(PATIENT).where(PATIENT.c.id == p("k")).values(
                n_studies=PATIENT.c.n_studies + p("s"),
                n_series=PATIENT.c.n_series + p("e"),
                n_instances=PATIENT.c.n_instances + p("n"),
            ),
            "s", "e", "n", "k",
        )  # fmt: skip
        self.count_study = one(
            update(STUDY).where(STUDY.c.id == p("k")).values(
                n_series=STUDY.c.n_series + p("e"), n_instances=STUDY.c.n_instances + p("n")
            ),
            "e", "n", "k",
        )  # fmt: skip
        self.count_series = one(
            update(SERIES).where(SERIES.c.id == p("k")).values(n_instances=SERIES.c.n_instances + p("n")),
            "n",
            "k",
        )
        item = bindparam("m", type_=Text())
        self.list_modality = one(
            update(STUDY).where(STUDY.c.id == p("k")).values(modalities=_appended(STUDY.c.modalities, item)),
            "m", "k",
        )  # fmt: skip
        self.list_sop_class = one(
            update(STUDY).where(STUDY.c.id == p("k")).values(sop_classes=_appended(STUDY.c.sop_classes, item)),
            "m", "k",
        )  # fmt: skip
        make = sqlite.insert if d.name == "sqlite" else postgresql.insert
        dated = select(item, STUDY.c.study_date, STUDY.c.id).where(STUDY.c.id == p("k"))
        self.add_study_modality = one(
            make(STUDY_MODALITY).from_select(["modality", "study_date", "study"], dated).on_conflict_do_nothing(),
            "m", "k",
        )  # fmt: skip
        self.date_study_modalities = one(
            update(STUDY_MODALITY)
            .where(STUDY_MODALITY.c.study == p("k"), STUDY_MODALITY.c.study_date == literal_column("''"))
            .values(study_date=p("v")),
            "v", "k",
        )  # fmt: skip
        self.drop_series = one(delete(SERIES).where(SERIES.c.id == p("k")), "k")
        self.drop_study = one(delete(STUDY).where(STUDY.c.id == p("k")), "k")
        self.drop_names = one(delete(PATIENT_NAME).where(PATIENT_NAME.c.patient == p("k")), "k")
        self.drop_tokens = one(delete(PATIENT_NAME_TOKEN).where(PATIENT_NAME_TOKEN.c.patient == p("k")), "k")
        self.drop_patient = one(delete(PATIENT).where(PATIENT.c.id == p("k")), "k")
        self.fill_patient = {
            name: one(_filling(PATIENT, name), "v", "k")
            for name in PATIENT_NAMES
            if name not in {"patient_id", "issuer"}
        }
        self.fill_study = {name: one(_filling(STUDY, name), "v", "k") for name in STUDY_NAMES if name != "study_uid"}


def _filling(table: Any, name: str) -> Any:
    column = table.c[name]
    return (
        update(table).where(table.c.id == bindparam("k"), column == literal_column("''")).values({name: bindparam("v")})
    )
