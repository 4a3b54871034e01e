"""The rows above an instance, within one ingest transaction: found, made, filled, counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pacsd.index.ingest_statements import PATIENT_NAMES, SERIES_NAMES, STUDY_NAMES, IngestStatements
from pacsd.index.known import Known, KnownSeries, SeriesKey
from pacsd.index.patient_names import name_forms, name_tokens
from pacsd.index.rows import PATIENT_COLUMNS, SERIES_COLUMNS, STUDY_COLUMNS, Prepared
from pacsd.index.statements import Insert, Script, Statement
from pacsd.index.text import clean, key
from pacsd.model.objects import NewInstance, StoredFile, StoredInstance

K = TypeVar("K")
NO_SOP_CLASSES: frozenset[int] = frozenset()


@dataclass(slots=True)
class _Made:
    """Rows that this transaction made: they are counted in their parents, or dropped if nothing came to
    lie in them.
    """

    patients: set[int] = field(default_factory=set)
    studies: dict[int, int] = field(default_factory=dict)
    series: dict[int, Prepared] = field(default_factory=dict)


@dataclass(slots=True)
class _Study:
    """A study's row as this transaction found or made it."""

    study: int
    patient: int
    values: dict[str, str]
    patient_values: dict[str, str] | None = None


@dataclass(slots=True)
class _Tally:
    """What a study and its patient gain."""

    n_studies: int = 0
    n_series: int = 0
    n_instances: int = 0


class Parents:
    """Dictionaries, patients, studies and series of one batch. One transaction, one thread."""

    def __init__(self, script: Script, statements: IngestStatements, known: Known) -> None:
        self._script = script
        self._sql = statements
        self._known = known
        self._uids: dict[str, int] = {}
        self._directories: dict[tuple[str, str], int] = {}
        self._stations: dict[tuple[str, str, str], int] = {}
        self._series: dict[SeriesKey, KnownSeries] = {}
        self._new_uids: dict[str, int] = {}
        self._new_directories: dict[tuple[str, str], int] = {}
        self._new_stations: dict[tuple[str, str, str], int] = {}
        self._studies: dict[str, _Study] = {}
        self._made = _Made()
        self._patient_fills: dict[int, dict[str, str]] = {}
        self._study_fills: dict[int, dict[str, str]] = {}

    def uid(self, uid: str) -> int:
        """The number of a SOP class or transfer syntax of the batch."""
        return self._uids[uid]

    def directory(self, file: StoredFile) -> int:
        """The number of a file's directory."""
        return self._directories[file.pool, file.directory]

    def station(self, new: NewInstance) -> int:
        """The number of the station that an object came from."""
        return self._stations[new.source_ae, new.source_address, new.called_ae]

    def series_of(self, item: Prepared) -> KnownSeries:
        """The series of an object."""
        return self._series[item.series_key]

    def as_stored(self, item: Prepared, number: int) -> StoredInstance:
        """An object of this batch as it will be found."""
        header = item.new.header
        study_uid, series_uid = item.series_key
        return StoredInstance(
            number, header.sop_class_uid, item.sop_instance_uid, series_uid, study_uid,
            header.transfer_syntax_uid, (item.new.file,),
        )  # fmt: skip

    def learn(self) -> None:
        """Remember what this transaction found and made. To be called once it is committed."""
        known = self._known
        if self._new_uids:
            known.uids.update(self._new_uids)
        if self._new_directories:
            known.directories.update(self._new_directories)
        if self._new_stations:
            known.stations.update(self._new_stations)
        if self._series:
            known.series.update(self._series)

    def resolve(self, batch: Sequence[Prepared]) -> None:
        """Find or make every row that the objects of a batch refer to."""
        self.resolve_dictionaries([item.new for item in batch])
        unknown: dict[SeriesKey, Prepared] = {}
        for item in batch:
            series_key = item.series_key
            if series_key not in self._series and series_key not in unknown:
                found = self._known.series.get(series_key)
                if found is None:
                    unknown[series_key] = item
                else:
                    self._series[series_key] = found
        if unknown:
            self._resolve_series(dict(sorted(unknown.items())))

    def resolve_dictionaries(self, news: Iterable[NewInstance]) -> None:
        """Find or make the numbers of UIDs, stations and directories."""
        uids: set[str] = set()
        stations: set[tuple[str, str, str]] = set()
        directories: set[tuple[str, str]] = set()
        for new in news:
            uids.add(new.header.sop_class_uid)
            uids.add(new.header.transfer_syntax_uid)
            stations.add((new.source_ae, new.source_address, new.called_ae))
            directories.add((new.file.pool, new.file.directory))
        for uid in sorted(uids):
            number = self._known.uids.get(uid)
            if number is None:
                number = self._new_uids[uid] = self._number(self._sql.find_uid, self._sql.add_uid, (key(uid),))
            self._uids[uid] = number
        for station in sorted(stations):
            number = self._known.stations.get(station)
            if number is None:
                values = tuple(key(value) for value in station)
                number = self._number(self._sql.find_station, self._sql.add_station, values)
                self._new_stations[station] = number
            self._stations[station] = number
        for directory in sorted(directories):
            number = self._known.directories.get(directory)
            if number is None:
                number = self._number(self._sql.find_directory, self._sql.add_directory, directory)
                self._new_directories[directory] = number
            self._directories[directory] = number

    def number_of_directory(self, file: StoredFile) -> int:
        """Find or make the number of one file's directory."""
        place = (file.pool, file.directory)
        return self._known.directories.get(place) or self._number(
            self._sql.find_directory, self._sql.add_directory, place
        )

    def _number(self, find: Statement, add: Insert, values: tuple[str, ...]) -> int:
        """The number of a row, which is made if need be."""
        rows = (
            self._script.query(find, *values)
            or self._script.insert_returning(add, [values])
            or self._script.query(find, *values)
        )
        return int(rows[0][0])

    # -- patient, study, series: found or made -------------------------------------------------------------------

    def _resolve_series(self, unknown: dict[SeriesKey, Prepared]) -> None:
        by_study: dict[str, Prepared] = {}
        for item in unknown.values():
            by_study.setdefault(item.series_key[0], item)
        missing = {study_uid: item for study_uid, item in by_study.items() if not self._find_study(study_uid)}
        if missing:
            self._make_studies(missing)
        for (study_uid, series_uid), item in unknown.items():
            study = self._studies[study_uid]
            number, made = self._series_number(study.study, series_uid, item)
            self._series[study_uid, series_uid] = KnownSeries(number, study.study, study.patient, NO_SOP_CLASSES)
            if made:
                self._made.series[number] = item
                self._note_blanks(study, item)

    def _find_study(self, study_uid: str) -> bool:
        rows = self._script.query(self._sql.find_study, study_uid)
        if not rows:
            return False
        number, patient, *values = rows[0]
        self._studies[study_uid] = _Study(number, patient, dict(zip(STUDY_NAMES, values, strict=True)))
        return True

    def _make_studies(self, missing: dict[str, Prepared]) -> None:
        """Patients first, all in the order of their keys, then the studies in the order of theirs."""
        patients: dict[tuple[str, str, str], tuple[int, dict[str, str]]] = {}
        keys: dict[str, tuple[str, str, str]] = {}
        wanted: dict[tuple[str, str, str], dict[str, str]] = {}
        for study_uid, item in missing.items():
            values = item.values(PATIENT_COLUMNS)
            scope = "" if values["patient_id"] else study_uid
            keys[study_uid] = values["patient_id"], values["issuer"], scope
            wanted.setdefault(keys[study_uid], values)
        for patient_key in sorted(wanted):
            patients[patient_key] = self._patient(patient_key, wanted[patient_key])
        for study_uid, item in missing.items():
            patient, patient_values = patients[keys[study_uid]]
            values = item.values(STUDY_COLUMNS)
            row = (patient, *[values[name] for name in STUDY_NAMES])
            made = self._script.insert_returning(self._sql.add_study, [row])
            if made:
                number = int(made[0][0])
                self._made.studies[number] = patient
                self._studies[study_uid] = _Study(number, patient, values, patient_values)
            else:
                self._find_study(study_uid)

    def _patient(self, patient_key: tuple[str, str, str], values: dict[str, str]) -> tuple[int, dict[str, str]]:
        rows = self._script.query(self._sql.find_patient, *patient_key)
        if not rows:
            row = (*[values[name] for name in PATIENT_NAMES], patient_key[2])
            made = self._script.insert_returning(self._sql.add_patient, [row])
            if made:
                number = int(made[0][0])
                self._made.patients.add(number)
                self._write_name(number, values["name"])
                return number, values
            rows = self._script.query(self._sql.find_patient, *patient_key)
        number, *found = rows[0]
        return int(number), dict(zip(PATIENT_NAMES, found, strict=True))

    def _series_number(self, study: int, series_uid: str, item: Prepared) -> tuple[int, bool]:
        rows = self._script.query(self._sql.find_series, study, series_uid)
        if rows:
            return int(rows[0][0]), False
        values = item.values(SERIES_COLUMNS)
        row = (study, *[values[name] for name in SERIES_NAMES])
        made = self._script.insert_returning(self._sql.add_series, [row])
        if made:
            return int(made[0][0]), True
        return int(self._script.query(self._sql.find_series, study, series_uid)[0][0]), False

    def _note_blanks(self, study: _Study, item: Prepared) -> None:
        """What a new series knows of its study and patient that they lack."""
        _note(self._study_fills, study.study, study.values, item.values(STUDY_COLUMNS), self._sql.fill_study)
        if study.patient_values is None:
            _, *values = self._script.query(self._sql.load_patient, study.patient)[0]
            study.patient_values = dict(zip(PATIENT_NAMES, values, strict=True))
        given = item.values(PATIENT_COLUMNS)
        if given["patient_id"] == study.patient_values["patient_id"]:
            _note(self._patient_fills, study.patient, study.patient_values, given, self._sql.fill_patient)

    def _write_name(self, patient: int, name: str) -> None:
        self._script.insert(self._sql.add_name, [(form, patient) for form in sorted(name_forms(name))])
        self._script.insert(self._sql.add_token, [(token, patient) for token in sorted(name_tokens(name))])

    # -- counts and lists ----------------------------------------------------------------------------------------

    def count(self, stored: Sequence[Prepared]) -> None:
        """Drop made rows that stayed empty, then bring counts and lists of all others up to date."""
        patients: dict[int, _Tally] = {}
        studies: dict[int, _Tally] = {}
        series: dict[int, int] = {}
        used_series: dict[int, KnownSeries] = {}
        for item in stored:
            place = self._series[item.series_key]
            series[place.series] = series.get(place.series, 0) + 1
            used_series[place.series] = place
            _tally(studies, place.study).n_instances += 1
            _tally(patients, place.patient).n_instances += 1
        made = self._made
        if made.series or made.studies or made.patients:
            for number in made.series.keys() & used_series.keys():
                _tally(studies, used_series[number].study).n_series += 1
                _tally(patients, used_series[number].patient).n_series += 1
            for study in made.studies.keys() & studies.keys():
                _tally(patients, made.studies[study]).n_studies += 1
            self._drop_empty(series, studies, patients)
        self._count_patients(patients)
        self._count_studies(studies, stored)
        for number in sorted(series):
            self._script.later(self._sql.count_series, series[number], number)

    def _drop_empty(self, series: dict[int, int], studies: dict[int, _Tally], patients: dict[int, _Tally]) -> None:
        script, sql = self._script, self._sql
        for number in self._made.series.keys() - series.keys():
            script.later(sql.drop_series, number)
        for study in self._made.studies.keys() - studies.keys():
            script.later(sql.drop_study, study)
        for patient in self._made.patients - patients.keys():
            script.later(sql.drop_names, patient)
            script.later(sql.drop_tokens, patient)
            script.later(sql.drop_patient, patient)
        self._series = {
            place: known
            for place, known in self._series.items()
            if known.series not in self._made.series or known.series in series
        }

    def _count_patients(self, patients: dict[int, _Tally]) -> None:
        script, sql = self._script, self._sql
        for number in sorted(patients):
            tally = patients[number]
            script.later(sql.count_patient, tally.n_studies, tally.n_series, tally.n_instances, number)
            for name, value in self._patient_fills.get(number, {}).items():
                script.later(sql.fill_patient[name], value, number)
                if name == "name":
                    self._write_name(number, value)

    def _count_studies(self, studies: dict[int, _Tally], stored: Sequence[Prepared]) -> None:
        script, sql = self._script, self._sql
        sop_classes, modalities = self._new_in_lists(stored)
        for number in sorted(studies):
            tally = studies[number]
            script.later(sql.count_study, tally.n_series, tally.n_instances, number)
            for name, value in self._study_fills.get(number, {}).items():
                script.later(sql.fill_study[name], value, number)
                if name == "study_date":
                    script.later(sql.date_study_modalities, value, number)
            for sop_class in sorted(sop_classes.get(number, ())):
                script.later(sql.list_sop_class, key(sop_class), number)
            for modality in sorted(modalities.get(number, ())):
                script.later(sql.list_modality, modality, number)
                script.later(sql.add_study_modality, modality, number)

    def _new_in_lists(self, stored: Sequence[Prepared]) -> tuple[dict[int, set[str]], dict[int, set[str]]]:
        """By study: SOP classes not yet known to be in its list, modalities of its new series."""
        sop_classes: dict[int, set[str]] = {}
        modalities: dict[int, set[str]] = {}
        for item in stored:
            place = self._series[item.series_key]
            sop_class = item.new.header.sop_class_uid
            number = self._uids[sop_class]
            if number not in place.sop_classes:
                sop_classes.setdefault(place.study, set()).add(sop_class)
                self._series[item.series_key] = KnownSeries(
                    place.series, place.study, place.patient, place.sop_classes | {number}
                )
            made = self._made.series.get(place.series)
            if made is not None:
                listed = made.new.header.values.get(MODALITY, "").split("\\")
                modalities.setdefault(place.study, set()).update(
                    key(text) for text in map(clean, listed) if text.strip()
                )
        return sop_classes, modalities


MODALITY = 0x00080060


def _tally(tallies: dict[int, _Tally], number: int) -> _Tally:
    found = tallies.get(number)
    if found is None:
        found = tallies[number] = _Tally()
    return found


def _note(
    fills: dict[int, dict[str, str]],
    number: int,
    held: dict[str, str],
    given: dict[str, str],
    fillable: Iterable[str],
) -> None:
    for name in fillable:
        if given[name] and not held[name]:
            fills.setdefault(number, {}).setdefault(name, given[name])
