"""The tables of the PACS database.

Rows that grow with the number of images (`instance`, `instance_head`, `location`) are narrow: what
repeats is a small number into a dictionary table (`uid`, `station`, `directory`), what few queries ask
for lies in `instance_head` as received. Only indexes that a query uses exist;
`tests/index/test_query_plans.py` shows which.

Attribute columns come from `pacsd.model.attributes.COLUMNS`: text, '' when absent. On PostgreSQL every
text compares by code point (COLLATE "C"), as SQLite does, so that an index serves equality, prefixes and
ranges of dates alike.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects import postgresql

from pacsd.model.attributes import COLUMNS, Level

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BigId = BigInteger().with_variant(Integer, "sqlite")
"""SQLite gives numbers by itself only to a column that is exactly INTEGER; there it holds 64 bits as well."""

CodePointText = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")

KEPT_ASIDE = "kept-aside"
SUPERSEDED = "superseded"

_OWN_TABLE = frozenset({"sop_class_uid"})
"""Attributes of the instance that are numbers into `uid`."""


def _text(name: str) -> Column[str]:
    return Column(name, CodePointText, nullable=False, server_default=text("''"))


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _attributes(level: Level) -> list[Column[str]]:
    return [_text(column.name) for column in COLUMNS if column.level is level and column.name not in _OWN_TABLE]


def _reference(name: str, target: str, type_: BigInteger | Integer = BigId) -> Column[int]:
    return Column(name, type_, ForeignKey(f"{target}.id"), nullable=False)


UID = Table(
    "uid",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("uid", CodePointText, nullable=False),
    UniqueConstraint("uid"),
)
"""SOP classes and transfer syntaxes in use."""

STATION = Table(
    "station",
    METADATA,
    Column("id", Integer, primary_key=True),
    _text("ae_title"),
    _text("address"),
    _text("called_ae"),
    UniqueConstraint("ae_title", "address", "called_ae"),
)
"""Whom objects were received from: calling AE title, IP address, the title called."""

DIRECTORY = Table(
    "directory",
    METADATA,
    Column("id", BigId, primary_key=True),
    _text("pool"),
    _text("path"),
    UniqueConstraint("pool", "path"),
    sqlite_autoincrement=True,
)

PATIENT = Table(
    "patient",
    METADATA,
    Column("id", BigId, primary_key=True),
    *_attributes(Level.PATIENT),
    _text("scope"),
    _count("n_studies"),
    _count("n_series"),
    _count("n_instances"),
    UniqueConstraint("patient_id", "issuer", "scope"),
    sqlite_autoincrement=True,
)
"""`scope` is '' for a patient with an ID; else the study's UID, so that nameless patients never become
one.
"""

PATIENT_NAME = Table(
    "patient_name",
    METADATA,
    Column("form", CodePointText, primary_key=True),
    Column("patient", BigId, ForeignKey("patient.id"), primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Each group of a name, folded (`pacsd.model.names.search_forms`) and cut to `MAX_FORM_CHARS`: a search
by prefix is one range of the primary key, in its order."""

MAX_FORM_CHARS = 100

STUDY = Table(
    "study",
    METADATA,
    Column("id", BigId, primary_key=True),
    _reference("patient", "patient"),
    *_attributes(Level.STUDY),
    _text("modalities"),
    _text("sop_classes"),
    _count("n_series"),
    _count("n_instances"),
    UniqueConstraint("study_uid"),
    sqlite_autoincrement=True,
)
"""`modalities` and `sop_classes` are lists with backslashes, as they are answered."""

SERIES = Table(
    "series",
    METADATA,
    Column("id", BigId, primary_key=True),
    _reference("study", "study"),
    *_attributes(Level.SERIES),
    _count("n_instances"),
    UniqueConstraint("study", "series_uid"),
    sqlite_autoincrement=True,
)
"""A series is one within its study: devices that copy studies keep the series' UIDs."""

INSTANCE = Table(
    "instance",
    METADATA,
    Column("id", BigId, primary_key=True),
    _reference("series", "series"),
    _reference("sop_class", "uid", Integer()),
    _reference("syntax", "uid", Integer()),
    _reference("station", "station", Integer()),
    Column("received_at", Double, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    *_attributes(Level.IMAGE),
    UniqueConstraint("sop_instance_uid"),
    sqlite_autoincrement=True,
)

INSTANCE_HEAD = Table(
    "instance_head",
    METADATA,
    Column("instance", BigId, ForeignKey("instance.id"), primary_key=True, autoincrement=False),
    Column("syntax", Integer, nullable=False),
    _text("flags"),
    Column("head", LargeBinary, nullable=False),
)
"""The received elements before the pixel data (`scan.packed_head`), zlib-compressed; `flags` with commas.
`syntax` is a number of `uid`, the instance's own."""

LOCATION = Table(
    "location",
    METADATA,
    Column("instance", BigId, ForeignKey("instance.id"), primary_key=True, autoincrement=False),
    Column("directory", BigId, ForeignKey("directory.id"), primary_key=True, autoincrement=False),
    Column("digest", LargeBinary(32), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False, server_default=text("0")),
    sqlite_with_rowid=False,
)
"""Files of an instance.

`digest` is empty when it is the instance's; else the file holds the same data set with another file meta,
and has its own `size_bytes`.
"""

SET_ASIDE = Table(
    "set_aside",
    METADATA,
    Column("id", BigId, primary_key=True),
    Column("sop_instance_uid", CodePointText, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    _reference("directory", "directory"),
    Column("received_at", Double, nullable=False),
    _reference("station", "station", Integer()),
    Column("reason", CodePointText, nullable=False),
    UniqueConstraint("sop_instance_uid", "digest", "directory"),
)
"""Files under a SOP Instance UID that another one answers for: later ones with other bytes, or replaced
ones.
"""

STUDY_MODALITY = Table(
    "study_modality",
    METADATA,
    Column("modality", CodePointText, primary_key=True),
    Column("study_date", CodePointText, primary_key=True),
    Column("study", BigId, ForeignKey("study.id"), primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""For the day's list of a modality: studies by modality and date in one range of the primary key."""

PATIENT_NAME_TOKEN = Table(
    "patient_name_token",
    METADATA,
    Column("token", CodePointText, primary_key=True),
    Column("patient", BigId, ForeignKey("patient.id"), primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Words of names, folded, and their phonetic codes (`pacsd.model.names.tokens`), for fuzzy matching."""

JOB = Table(
    "job",
    METADATA,
    Column("id", BigId, primary_key=True),
    Column("kind", CodePointText, nullable=False),
    _text("key"),
    Column("priority", Integer, nullable=False),
    Column("state", CodePointText, nullable=False),
    Column("run_at", Double, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    _text("owner"),
    Column("lease_until", Double, nullable=False, server_default=text("0")),
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    _count("progress_done"),
    _count("progress_total"),
    _text("error"),
    Column("payload", CodePointText, nullable=False),
    sqlite_autoincrement=True,
)
"""Outbox and queue. `state`: 'ready', 'running', 'dead', 'cancelled'; finished ones are deleted."""

PEER = Table(
    "peer",
    METADATA,
    Column("ae_title", CodePointText, primary_key=True),
    Column("host", CodePointText, nullable=False),
    Column("port", Integer, nullable=False),
    _text("description"),
    Column("max_associations", Integer, nullable=False),
    Column("bytes_per_s", BigInteger, nullable=False),
)

Index(None, PATIENT_NAME.c.patient)
Index(None, STUDY.c.patient)
Index(None, STUDY.c.study_date, STUDY.c.id)
Index(None, STUDY.c.accession_number)
Index(None, SERIES.c.series_uid)
Index(None, INSTANCE.c.series, INSTANCE.c.id)
Index(None, INSTANCE.c.digest)
HAS_OWN_DIGEST = func.length(LOCATION.c.digest) > literal_column("0")
"""Of a location; to be said in a query by its digest, word for word, for the index to be used."""
Index(None, LOCATION.c.digest, sqlite_where=HAS_OWN_DIGEST, postgresql_where=HAS_OWN_DIGEST)
Index(None, SET_ASIDE.c.digest)
Index(None, STUDY_MODALITY.c.study)
Index(None, PATIENT_NAME_TOKEN.c.patient)
Index(None, JOB.c.kind, JOB.c.state, JOB.c.priority, JOB.c.run_at)
Index(None, JOB.c.kind, JOB.c.key, JOB.c.id)

LEVEL_TABLES: dict[Level, Table] = {
    Level.PATIENT: PATIENT,
    Level.STUDY: STUDY,
    Level.SERIES: SERIES,
    Level.IMAGE: INSTANCE,
}
