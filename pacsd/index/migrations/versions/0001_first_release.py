"""The tables of the first release.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TEXT = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
EMPTY = sa.text("''")
ZERO = sa.text("0")
OTHER = sa.text("length(digest) > 0")


def upgrade() -> None:
    op.create_table(
        "directory",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("pool", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("path", TEXT, server_default=EMPTY, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_directory"),
        sa.UniqueConstraint("pool", "path", name="uq_directory_pool_path"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "job",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("key", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("run_at", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=ZERO, nullable=False),
        sa.Column("owner", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("lease_until", sa.Double(), server_default=ZERO, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.Column("progress_done", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.Column("progress_total", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.Column("error", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("payload", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_kind_key_id", "job", ["kind", "key", "id"])
    op.create_index("ix_job_kind_state_priority_run_at", "job", ["kind", "state", "priority", "run_at"])
    op.create_table(
        "patient",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("patient_id", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("issuer", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("name", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("birth_date", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("sex", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("scope", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("n_studies", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.Column("n_series", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.Column("n_instances", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_patient"),
        sa.UniqueConstraint("patient_id", "issuer", "scope", name="uq_patient_patient_id_issuer_scope"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "peer",
        sa.Column("ae_title", TEXT, nullable=False),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("description", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("max_associations", sa.Integer(), nullable=False),
        sa.Column("bytes_per_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ae_title", name="pk_peer"),
    )
    op.create_table(
        "station",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ae_title", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("address", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("called_ae", TEXT, server_default=EMPTY, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_station"),
        sa.UniqueConstraint("ae_title", "address", "called_ae", name="uq_station_ae_title_address_called_ae"),
    )
    op.create_table(
        "uid",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_uid"),
        sa.UniqueConstraint("uid", name="uq_uid_uid"),
    )
    op.create_table(
        "patient_name",
        sa.Column("form", TEXT, nullable=False),
        sa.Column("patient", BIG_ID, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["patient"], ["patient.id"], name="fk_patient_name_patient"),
        sa.PrimaryKeyConstraint("form", "patient", name="pk_patient_name"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_patient_name_patient", "patient_name", ["patient"])
    op.create_table(
        "patient_name_token",
        sa.Column("token", TEXT, nullable=False),
        sa.Column("patient", BIG_ID, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["patient"], ["patient.id"], name="fk_patient_name_token_patient"),
        sa.PrimaryKeyConstraint("token", "patient", name="pk_patient_name_token"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_patient_name_token_patient", "patient_name_token", ["patient"])
    op.create_table(
        "set_aside",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("sop_instance_uid", TEXT, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("directory", BIG_ID, nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("station", sa.Integer(), nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["directory"], ["directory.id"], name="fk_set_aside_directory"),
        sa.ForeignKeyConstraint(["station"], ["station.id"], name="fk_set_aside_station"),
        sa.PrimaryKeyConstraint("id", name="pk_set_aside"),
        sa.UniqueConstraint("sop_instance_uid", "digest", "directory", name="uq_set_aside_sop_instance_uid_digest_directory"),
    )
    op.create_index("ix_set_aside_digest", "set_aside", ["digest"])
    op.create_table(
        "study",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("patient", BIG_ID, nullable=False),
        sa.Column("study_uid", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("study_date", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("study_time", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("accession_number", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("study_id", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("description", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("referring_physician", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("modalities", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("sop_classes", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("n_series", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.Column("n_instances", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.ForeignKeyConstraint(["patient"], ["patient.id"], name="fk_study_patient"),
        sa.PrimaryKeyConstraint("id", name="pk_study"),
        sa.UniqueConstraint("study_uid", name="uq_study_study_uid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_study_accession_number", "study", ["accession_number"])
    op.create_index("ix_study_patient", "study", ["patient"])
    op.create_index("ix_study_study_date_id", "study", ["study_date", "id"])
    op.create_table(
        "series",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("study", BIG_ID, nullable=False),
        sa.Column("series_uid", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("modality", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("series_number", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("description", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("series_date", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("series_time", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("body_part", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("laterality", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("protocol_name", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("station_name", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("institution_name", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("performing_physician", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("pps_start_date", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("pps_start_time", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("n_instances", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.ForeignKeyConstraint(["study"], ["study.id"], name="fk_series_study"),
        sa.PrimaryKeyConstraint("id", name="pk_series"),
        sa.UniqueConstraint("study", "series_uid", name="uq_series_study_series_uid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_series_series_uid", "series", ["series_uid"])
    op.create_table(
        "study_modality",
        sa.Column("modality", TEXT, nullable=False),
        sa.Column("study_date", TEXT, nullable=False),
        sa.Column("study", BIG_ID, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["study"], ["study.id"], name="fk_study_modality_study"),
        sa.PrimaryKeyConstraint("modality", "study_date", "study", name="pk_study_modality"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_study_modality_study", "study_modality", ["study"])
    op.create_table(
        "instance",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("series", BIG_ID, nullable=False),
        sa.Column("sop_class", sa.Integer(), nullable=False),
        sa.Column("syntax", sa.Integer(), nullable=False),
        sa.Column("station", sa.Integer(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("sop_instance_uid", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("instance_number", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("content_date", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("content_time", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("n_frames", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("n_rows", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("n_columns", TEXT, server_default=EMPTY, nullable=False),
        sa.ForeignKeyConstraint(["series"], ["series.id"], name="fk_instance_series"),
        sa.ForeignKeyConstraint(["sop_class"], ["uid.id"], name="fk_instance_sop_class"),
        sa.ForeignKeyConstraint(["station"], ["station.id"], name="fk_instance_station"),
        sa.ForeignKeyConstraint(["syntax"], ["uid.id"], name="fk_instance_syntax"),
        sa.PrimaryKeyConstraint("id", name="pk_instance"),
        sa.UniqueConstraint("sop_instance_uid", name="uq_instance_sop_instance_uid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_instance_digest", "instance", ["digest"])
    op.create_index("ix_instance_series_id", "instance", ["series", "id"])
    op.create_table(
        "instance_head",
        sa.Column("instance", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("syntax", sa.Integer(), nullable=False),
        sa.Column("flags", TEXT, server_default=EMPTY, nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["instance"], ["instance.id"], name="fk_instance_head_instance"),
        sa.PrimaryKeyConstraint("instance", name="pk_instance_head"),
    )
    op.create_table(
        "location",
        sa.Column("instance", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("directory", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.ForeignKeyConstraint(["directory"], ["directory.id"], name="fk_location_directory"),
        sa.ForeignKeyConstraint(["instance"], ["instance.id"], name="fk_location_instance"),
        sa.PrimaryKeyConstraint("instance", "directory", "digest", name="pk_location"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_location_digest", "location", ["digest"], sqlite_where=OTHER, postgresql_where=OTHER)
