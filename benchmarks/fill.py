"""A PACS index of any size, filled with made-up rows: `python -m benchmarks.fill URL N_STUDIES`.

The population is laid out so that a query has the same number of answers whatever the size: each day has 100 studies,
ten of each modality; each group of four patients, of one family name, has ten studies. What belongs together in one
order is scattered in every other one, as in a hospital: a patient's studies over all days, the names over all numbers.

Only rows are made, no files: such a site answers queries, it can't give anything back.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from pydicom.dataset import Dataset
from sqlalchemy import Table, insert, text
from sqlalchemy.engine import Connection

from benchmarks.wire import encode
from pacsd.index.database import Database, create_or_upgrade
from pacsd.index.patient_names import name_forms, name_tokens
from pacsd.index.schema import (
    DIRECTORY,
    INSTANCE,
    INSTANCE_HEAD,
    LOCATION,
    PATIENT,
    PATIENT_NAME,
    PATIENT_NAME_TOKEN,
    SERIES,
    STATION,
    STUDY,
    STUDY_MODALITY,
    UID,
)

MODALITIES = ("CT", "MR", "CR", "DX", "US", "NM", "PT", "XA", "MG", "RF")
STUDIES_A_DAY = 100
ANSWERS_A_DAY_AND_MODALITY = STUDIES_A_DAY // len(MODALITIES)
STUDIES_OF_PATIENTS = (1, 2, 3, 4)
"""How many studies the four patients of a group have."""

GROUP = len(STUDIES_OF_PATIENTS)
STUDIES_A_GROUP = sum(STUDIES_OF_PATIENTS)
SERIES_A_STUDY = 2
CHUNK = 10_000
FIRST_DAY = date(1990, 1, 1)
_FAMILIES = ("SMITH", "MUELLER", "GARCIA", "ROSSI", "DUBOIS", "JANSEN", "NOVAK", "SILVA", "KIM", "TANAKA")
_GIVEN = ("ANNA", "JOHN", "MARIA", "PETER", "SARA", "PAUL", "LENA", "MARK")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_N_LETTERS = 5
_MEMBER = tuple(member for member, n in enumerate(STUDIES_OF_PATIENTS) for _ in range(n))
_CT_IMAGE, _EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
_SIZE_BYTES = 526_000


@dataclass(frozen=True, slots=True)
class Population:
    """Who was examined when, by arithmetic alone. Numbers count from 0.

    Args:
        n_studies: a multiple of `STUDIES_A_DAY`.
    """

    n_studies: int

    def __post_init__(self) -> None:
        if self.n_studies <= 0 or self.n_studies % STUDIES_A_DAY:
            raise ValueError(f"not a multiple of {STUDIES_A_DAY}: {self.n_studies}")

    @property
    def n_days(self) -> int:
        """Days with studies."""
        return self.n_studies // STUDIES_A_DAY

    @property
    def n_groups(self) -> int:
        """Families; one name prefix each."""
        return self.n_studies // STUDIES_A_GROUP

    @property
    def n_patients(self) -> int:
        """Patients, `GROUP` of each family."""
        return self.n_groups * GROUP

    def patient_id(self, patient: int) -> str:
        """Unique, in no order."""
        return f"P{patient * 61_803_399 % 10**8:08d}"

    def n_studies_of(self, patient: int) -> int:
        """How many studies a patient has."""
        return STUDIES_OF_PATIENTS[patient % GROUP]

    def family(self, group: int) -> str:
        """The family name that the patients of a group share with nobody else, and which begins no other one."""
        scattered = _scatter(group, self.n_groups)
        letters = scattered // len(_FAMILIES)
        code = "".join(_LETTERS[letters // len(_LETTERS) ** at % len(_LETTERS)] for at in reversed(range(_N_LETTERS)))
        return _FAMILIES[scattered % len(_FAMILIES)] + code

    def patient_name(self, patient: int) -> str:
        """A PN value."""
        return f"{self.family(patient // GROUP)}^{_GIVEN[patient % len(_GIVEN)]}"

    def patient_of(self, study: int) -> int:
        """Whose study it is."""
        slot = _scatter(study, self.n_studies)
        return slot // STUDIES_A_GROUP * GROUP + _MEMBER[slot % STUDIES_A_GROUP]

    def day(self, number: int) -> str:
        """A DA value."""
        return (FIRST_DAY + timedelta(days=number)).strftime("%Y%m%d")

    def modality_of(self, study: int) -> str:
        """Each has a tenth of each day."""
        return MODALITIES[study % len(MODALITIES)]


def fill(url: str, n_studies: int, say: Callable[[str], None] = lambda _: None) -> Population:
    """Bring a database without studies to this release's schema and fill it.

    Args:
        url: as of `Database`.
        n_studies: a multiple of `STUDIES_A_DAY`.
    """
    population = Population(n_studies)
    create_or_upgrade(url)
    database = Database(url)
    try:
        database.write(_dictionaries)
        _in_chunks(database, population.n_patients, lambda part: _patients(population, part), say, "patients")
        _in_chunks(database, n_studies, lambda part: _studies(population, part), say, "studies")
        database.write(lambda connection: _finish(connection, population))
    finally:
        database.close()
    return population


Rows = Iterator[tuple[Table, list[dict[str, Any]]]]


def _in_chunks(
    database: Database, n: int, rows: Callable[[range], Rows], say: Callable[[str], None], what: str
) -> None:
    def write(connection: Connection, part: range) -> None:
        for table, values in rows(part):
            connection.execute(insert(table), values)

    for start in range(0, n, CHUNK):
        part = range(start, min(n, start + CHUNK))
        database.write(lambda connection, part=part: write(connection, part))  # type: ignore[misc]
        if part.stop == n or start % (CHUNK * 10) == 0:
            say(f"{part.stop} of {n} {what}")


def _dictionaries(connection: Connection) -> None:
    connection.execute(insert(UID), [{"id": 1, "uid": _CT_IMAGE}, {"id": 2, "uid": _EXPLICIT}])
    connection.execute(insert(STATION), [{"id": 1, "ae_title": "FILL", "address": "127.0.0.1", "called_ae": "PACSD"}])
    connection.execute(insert(DIRECTORY), [{"id": 1, "pool": "images", "path": "none"}])


def _patients(population: Population, part: range) -> Rows:
    """Patients and the forms of their names. The number of a row is that of its patient and 1."""
    patients, forms, tokens = [], [], []
    for patient in part:
        name = population.patient_name(patient)
        n_studies = population.n_studies_of(patient)
        patients.append({
            "id": patient + 1, "patient_id": population.patient_id(patient), "name": name,
            "birth_date": f"{1930 + patient % 80}0615", "sex": "FM"[patient % 2], "n_studies": n_studies,
            "n_series": n_studies * SERIES_A_STUDY, "n_instances": n_studies * SERIES_A_STUDY,
        })  # fmt: skip
        forms += [{"form": form, "patient": patient + 1} for form in name_forms(name)]
        tokens += [{"token": token, "patient": patient + 1} for token in name_tokens(name)]
    yield PATIENT, patients
    yield PATIENT_NAME, sorted(forms, key=lambda row: row["form"])
    yield PATIENT_NAME_TOKEN, sorted(tokens, key=lambda row: row["token"])


def _studies(population: Population, part: range) -> Rows:
    """Studies of two series with an image each, and what is under them."""
    head = zlib.compress(_head(), 1)
    studies, modalities, series, instances, heads, locations = [], [], [], [], [], []
    for study in part:
        number, day = study + 1, population.day(study // STUDIES_A_DAY)
        modality = population.modality_of(study)
        studies.append({
            "id": number, "patient": population.patient_of(study) + 1, "study_uid": _uid(1, study),
            "study_date": day, "study_time": f"{8 + study % 10:02d}3000", "accession_number": f"A{number:09d}",
            "study_id": str(number), "description": f"{modality} THORAX ABDOMEN", "referring_physician": "WELBY^MARCUS",
            "modalities": modality, "sop_classes": _CT_IMAGE,
            "n_series": SERIES_A_STUDY, "n_instances": SERIES_A_STUDY,
        })  # fmt: skip
        modalities.append({"modality": modality, "study_date": day, "study": number})
        for at in range(study * SERIES_A_STUDY, (study + 1) * SERIES_A_STUDY):
            series.append({
                "id": at + 1, "study": number, "series_uid": _uid(2, at), "modality": modality,
                "series_number": str(at % SERIES_A_STUDY + 1), "description": "1.25 mm axial", "series_date": day,
                "body_part": "CHEST", "station_name": "ROOM1", "n_instances": 1,
            })  # fmt: skip
            uid = _uid(3, at)
            instances.append({
                "id": at + 1, "series": at + 1, "sop_class": 1, "syntax": 2, "station": 1, "received_at": 1.7e9 + at,
                "size_bytes": _SIZE_BYTES, "digest": hashlib.sha256(uid.encode()).digest(), "sop_instance_uid": uid,
                "instance_number": "1", "content_date": day, "n_rows": "512", "n_columns": "512",
            })  # fmt: skip
            heads.append({"instance": at + 1, "syntax": 2, "head": head})
            locations.append({"instance": at + 1, "directory": 1, "digest": b""})
    yield from (
        (STUDY, studies), (STUDY_MODALITY, modalities), (SERIES, series),
        (INSTANCE, instances), (INSTANCE_HEAD, heads), (LOCATION, locations),
    )  # fmt: skip


def _finish(connection: Connection, population: Population) -> None:
    """PostgreSQL numbers new rows after ours and plans by what is there, as autovacuum sees to in a running site."""
    if connection.dialect.name == "sqlite":
        return
    n_instances = population.n_studies * SERIES_A_STUDY
    numbers = {
        PATIENT: population.n_patients, STUDY: population.n_studies, SERIES: n_instances, INSTANCE: n_instances,
        UID: 2, STATION: 1, DIRECTORY: 1,
    }  # fmt: skip
    for table, last in numbers.items():
        sequence = text("SELECT setval(pg_get_serial_sequence(:table, 'id'), :last)")
        connection.execute(sequence, {"table": table.name, "last": last})
    connection.execute(text("ANALYZE"))


def _head() -> bytes:
    head = Dataset()
    head.SOPClassUID, head.Manufacturer, head.PatientAge = _CT_IMAGE, "ACME MEDICAL", "067Y"
    head.SoftwareVersions, head.BodyPartExamined, head.KVP = "v12.3.4a", "CHEST", "120"
    return encode(head)


def _uid(kind: int, number: int) -> str:
    """Unique, in no order, as long as devices make them."""
    return f"1.2.826.0.1.3680043.2.1143.{kind}.{number * 2_654_435_761 % 2**32}.{number}.20240311100512"


def _scatter(number: int, n: int) -> int:
    """A permutation of the numbers below `n`."""
    step = int(n * 0.618) | 1
    while math.gcd(step, n) != 1:
        step += 2
    return number * step % n


def main() -> None:
    """Fill the database of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fill", description=__doc__)
    parser.add_argument("url", metavar="URL", help="sqlite:///FILE or postgresql://…")
    parser.add_argument("n_studies", metavar="N_STUDIES", type=int, help=f"a multiple of {STUDIES_A_DAY}")
    args = parser.parse_args()
    begun = time.monotonic()
    fill(args.url, args.n_studies, print)
    print(f"{args.n_studies} studies in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
