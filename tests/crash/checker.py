"""The proof after a fault: what was acknowledged is found, given back bit by bit, kept once; files and rows agree."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import sqlalchemy

from tests.crash.sender import Account, Scu
from tests.live import Site, wait_until

_FILES = """
    SELECT directory.pool, directory.path, instance.digest, location.digest, instance.size_bytes, location.size_bytes
    FROM location JOIN instance ON instance.id = location.instance JOIN directory ON directory.id = location.directory
"""
_ASIDE = """
    SELECT directory.pool, directory.path, set_aside.digest, set_aside.size_bytes
    FROM set_aside JOIN directory ON directory.id = set_aside.directory
"""
_COUNTS = {
    "series": """
        SELECT series.id, series.n_instances, count(instance.id) FROM series
        LEFT JOIN instance ON instance.series = series.id GROUP BY series.id, series.n_instances
    """,
    "series of studies": """
        SELECT study.id, study.n_series, count(series.id) FROM study
        LEFT JOIN series ON series.study = study.id GROUP BY study.id, study.n_series
    """,
    "instances of studies": """
        SELECT study.id, study.n_instances, count(instance.id) FROM study
        LEFT JOIN series ON series.study = study.id LEFT JOIN instance ON instance.series = series.id
        GROUP BY study.id, study.n_instances
    """,
    "studies of patients": """
        SELECT patient.id, patient.n_studies, count(study.id) FROM patient
        LEFT JOIN study ON study.patient = patient.id GROUP BY patient.id, patient.n_studies
    """,
    "series of patients": """
        SELECT patient.id, patient.n_series, count(series.id) FROM patient
        LEFT JOIN study ON study.patient = patient.id LEFT JOIN series ON series.study = study.id
        GROUP BY patient.id, patient.n_series
    """,
    "instances of patients": """
        SELECT patient.id, patient.n_instances, count(instance.id) FROM patient
        LEFT JOIN study ON study.patient = patient.id LEFT JOIN series ON series.study = study.id
        LEFT JOIN instance ON instance.series = series.id GROUP BY patient.id, patient.n_instances
    """,
}


class Index:
    """The site's database, read by plain SQL beside the product's own code."""

    def __init__(self, url: str) -> None:
        self._engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)

    def rows(self, statement: str, **values: object) -> list[tuple]:
        """Give all rows of a query."""
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sqlalchemy.text(statement), values)]

    def n_rows(self, uid: str) -> int:
        """How many instances have this SOP Instance UID."""
        return self.rows("SELECT count(*) FROM instance WHERE sop_instance_uid = :uid", uid=uid)[0][0]


def index_of(site: Site, database: str | None = None) -> Index:
    """The database of a site; SQLite in its state folder unless a URL is given."""
    return Index(database or f"sqlite:///{site.state / 'index.sqlite'}")


def check(
    site: Site, account: Account, *, database: str | None = None, pools: Mapping[str, Path] | None = None
) -> None:
    """Prove everything of a running site that nobody sends to now. AssertionError with what is wrong."""
    index = index_of(site, database)
    check_rows(index, account)
    check_files(index, pools or {"images": site.pool})
    check_found(site, account)
    check_retrieved(site, account)


def check_rows(index: Index, account: Account) -> None:
    """Each acknowledged object has one row, each row's parents count it, and no UID has two rows."""
    numbers = dict(index.rows("SELECT sop_instance_uid, count(*) FROM instance GROUP BY sop_instance_uid"))
    lost = [uid for uid in account.acknowledged if uid not in numbers]
    assert not lost, f"{len(lost)} of {len(account.acknowledged)} acknowledged objects have no row: {lost[:5]}"
    assert set(numbers.values()) <= {1}
    for what, statement in _COUNTS.items():
        wrong = [row for row in index.rows(statement) if row[1] != row[2]]
        assert not wrong, f"the {what} count otherwise than there are: {wrong[:5]}"
    patients = index.rows("SELECT patient_id, count(*) FROM patient GROUP BY patient_id, issuer, scope")
    assert {n for _, n in patients} <= {1}, "a patient is there twice"


def check_files(index: Index, pools: Mapping[str, Path]) -> None:
    """Every row has its file with the bytes of its name, every file its row, and nothing half-written is left."""
    named = set()
    for pool, path, digest, own, size, own_size in index.rows(_FILES):
        named.add(_prove(pools[pool] / path, bytes(own) or bytes(digest), own_size or size))
    for pool, path, digest, size in index.rows(_ASIDE):
        named.add(_prove(pools[pool] / path, bytes(digest), size))
    for pool in pools.values():
        files = [file for file in (pool / "objects").rglob("*") if file.is_file()]
        parts = [file.name for file in files if file.suffix != ".dcm"]
        assert not parts, f"half-written files are left: {parts[:5]}"
        unnamed = set(files) - named
        assert not unnamed, f"{len(unnamed)} files are in no row: {sorted(map(str, unnamed))[:5]}"
        aside = list((pool / "quarantine").iterdir())
        assert not aside, f"no disk failed, yet files are in quarantine: {aside[:5]}"


def _prove(folder: Path, digest: bytes, size: int) -> Path:
    path = folder / f"{digest.hex()}.dcm"
    assert path.is_file(), f"a row names a file that isn't there: {path}"
    raw = path.read_bytes()
    assert (hashlib.sha256(raw).digest(), len(raw)) == (digest, size), f"its bytes are not those of its name: {path}"
    return path


def check_found(site: Site, account: Account) -> None:
    """Each acknowledged object is an answer to C-FIND at IMAGE level, once."""
    wanted: dict[tuple[str, str], set[str]] = defaultdict(set)
    for uid in account.acknowledged:
        wanted[account.places[uid]].add(uid)
    with Scu((site.host, site.dicom_port)) as scu:
        for (study, series), uids in wanted.items():
            answers = scu.find("IMAGE", StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID="")
            found = [answer.SOPInstanceUID for answer in answers]
            assert len(found) == len(set(found)), "C-FIND gives an object twice"
            assert uids <= set(found), f"{len(uids - set(found))} acknowledged objects are not found"
        scu.release()


def check_retrieved(site: Site, account: Account) -> None:
    """Each acknowledged object comes back by C-GET with the bytes that were sent, once."""
    for study in sorted({study for study, _ in account.places.values()}):
        got: dict[str, bytes] = {}
        with Scu((site.host, site.dicom_port), max_pdu=1 << 20) as scu:
            for uid, data in scu.get("STUDY", StudyInstanceUID=study):
                assert uid not in got, "C-GET gives an object twice"
                got[uid] = hashlib.sha256(data).digest()
            scu.release()
        for uid, digest in account.acknowledged.items():
            if account.places[uid][0] == study:
                assert got.get(uid) == digest, f"C-GET does not give back what was sent: {uid}"


def wait_until_no_parts(site: Site, limit_s: float = 10.0) -> None:
    """Wait until no half-written file is in the site's pool."""
    wait_until(lambda: not list((site.pool / "objects").rglob(".*")), limit_s, "the removal of half-written files")
