"""The attributes that the index holds as columns, and the level to which each attribute belongs.

One table: the schema's columns, what ingest reads from a data set, what queries match in SQL and what the conformance
statement says all come from `COLUMNS`. An attribute that isn't here is still answered and matched: from the received
header that the index keeps for each instance (see `index`).

Levels follow the modules of PS3.3 (Patient, General Study, Patient Study, General Series, General Equipment, Frame of
Reference) and PS3.4 Tables C.6-1 to C.6-4; whatever no set names belongs to the instance.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """Query/retrieve level (PS3.4 C.3), ordered from the top."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    IMAGE = 3


@dataclass(frozen=True, slots=True)
class Column:
    """One attribute held as a text column of its level's table (absent or empty: '')."""

    tag: int
    keyword: str
    vr: str
    level: Level
    name: str
    unique_key: bool = False


P, S, E, I = Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE  # noqa: E741 - reads as a table

COLUMNS: tuple[Column, ...] = (
    Column(0x00100020, "PatientID", "LO", P, "patient_id", True),
    Column(0x00100021, "IssuerOfPatientID", "LO", P, "issuer"),
    Column(0x00100010, "PatientName", "PN", P, "name"),
    Column(0x00100030, "PatientBirthDate", "DA", P, "birth_date"),
    Column(0x00100040, "PatientSex", "CS", P, "sex"),
    Column(0x0020000D, "StudyInstanceUID", "UI", S, "study_uid", True),
    Column(0x00080020, "StudyDate", "DA", S, "study_date"),
    Column(0x00080030, "StudyTime", "TM", S, "study_time"),
    Column(0x00080050, "AccessionNumber", "SH", S, "accession_number"),
    Column(0x00200010, "StudyID", "SH", S, "study_id"),
    Column(0x00081030, "StudyDescription", "LO", S, "description"),
    Column(0x00080090, "ReferringPhysicianName", "PN", S, "referring_physician"),
    Column(0x0020000E, "SeriesInstanceUID", "UI", E, "series_uid", True),
    Column(0x00080060, "Modality", "CS", E, "modality"),
    Column(0x00200011, "SeriesNumber", "IS", E, "series_number"),
    Column(0x0008103E, "SeriesDescription", "LO", E, "description"),
    Column(0x00080021, "SeriesDate", "DA", E, "series_date"),
    Column(0x00080031, "SeriesTime", "TM", E, "series_time"),
    Column(0x00180015, "BodyPartExamined", "CS", E, "body_part"),
    Column(0x00200060, "Laterality", "CS", E, "laterality"),
    Column(0x00181030, "ProtocolName", "LO", E, "protocol_name"),
    Column(0x00081010, "StationName", "SH", E, "station_name"),
    Column(0x00080080, "InstitutionName", "LO", E, "institution_name"),
    Column(0x00081050, "PerformingPhysicianName", "PN", E, "performing_physician"),
    Column(0x00400244, "PerformedProcedureStepStartDate", "DA", E, "pps_start_date"),
    Column(0x00400245, "PerformedProcedureStepStartTime", "TM", E, "pps_start_time"),
    Column(0x00080018, "SOPInstanceUID", "UI", I, "sop_instance_uid", True),
    Column(0x00080016, "SOPClassUID", "UI", I, "sop_class_uid"),
    Column(0x00200013, "InstanceNumber", "IS", I, "instance_number"),
    Column(0x00080023, "ContentDate", "DA", I, "content_date"),
    Column(0x00080033, "ContentTime", "TM", I, "content_time"),
    Column(0x00280008, "NumberOfFrames", "IS", I, "n_frames"),
    Column(0x00280010, "Rows", "US", I, "n_rows"),
    Column(0x00280011, "Columns", "US", I, "n_columns"),
)

BY_TAG: dict[int, Column] = {column.tag: column for column in COLUMNS}

SPECIFIC_CHARACTER_SET = 0x00080005
TIMEZONE_OFFSET_FROM_UTC = 0x00080201
QUERY_RETRIEVE_LEVEL = 0x00080052
RETRIEVE_AE_TITLE = 0x00080054
INSTANCE_AVAILABILITY = 0x00080056
MODALITIES_IN_STUDY = 0x00080061
SOP_CLASSES_IN_STUDY = 0x00080062
AVAILABLE_TRANSFER_SYNTAX_UID = 0x00083002
N_PATIENT_STUDIES = 0x00201200
N_PATIENT_SERIES = 0x00201202
N_PATIENT_INSTANCES = 0x00201204
N_STUDY_SERIES = 0x00201206
N_STUDY_INSTANCES = 0x00201208
N_SERIES_INSTANCES = 0x00201209

COMPUTED: dict[int, tuple[str, str, Level]] = {
    MODALITIES_IN_STUDY: ("ModalitiesInStudy", "CS", S),
    SOP_CLASSES_IN_STUDY: ("SOPClassesInStudy", "UI", S),
    N_PATIENT_STUDIES: ("NumberOfPatientRelatedStudies", "IS", P),
    N_PATIENT_SERIES: ("NumberOfPatientRelatedSeries", "IS", P),
    N_PATIENT_INSTANCES: ("NumberOfPatientRelatedInstances", "IS", P),
    N_STUDY_SERIES: ("NumberOfStudyRelatedSeries", "IS", S),
    N_STUDY_INSTANCES: ("NumberOfStudyRelatedInstances", "IS", S),
    N_SERIES_INSTANCES: ("NumberOfSeriesRelatedInstances", "IS", E),
    AVAILABLE_TRANSFER_SYNTAX_UID: ("AvailableTransferSyntaxUID", "UI", I),
    INSTANCE_AVAILABILITY: ("InstanceAvailability", "CS", P),
    RETRIEVE_AE_TITLE: ("RetrieveAETitle", "AE", P),
}
"""Answered from kept counts and lists, never from a received attribute: tag -> keyword, VR, topmost level."""

_PATIENT_TAGS = frozenset(
    {0x00100022, 0x00100024, 0x00100026, 0x00100027, 0x00100032, 0x00100033,
     0x00100034, 0x00100035, 0x00100212, 0x00101000, 0x00101001, 0x00101002, 0x00101005, 0x00101040,
     0x00101060, 0x00101080, 0x00101081, 0x00101090, 0x00102150, 0x00102152, 0x00102154, 0x00102160, 0x001021F0,
     0x00102201, 0x00102202, 0x00102203, 0x00102292, 0x00102293, 0x00102294, 0x00102295, 0x00102296, 0x00102297,
     0x00102298, 0x00102299, 0x00104000, 0x00120062, 0x00120063, 0x00120064}
)  # fmt: skip
_STUDY_TAGS = frozenset(
    {0x00080051, 0x00081032, 0x00081048, 0x00081049, 0x00081060, 0x00081062, 0x00081080, 0x00081084, 0x00081110,
     0x00081120, 0x00080092, 0x00080094, 0x00080096, 0x0008009C, 0x0008009D, 0x00101010, 0x00101020, 0x00101021,
     0x00101022, 0x00101023, 0x00101024, 0x00101030, 0x00102000, 0x00102110, 0x00102180, 0x001021A0, 0x001021B0,
     0x001021C0, 0x001021D0, 0x00120010, 0x00120020, 0x00120021, 0x00120030, 0x00120031, 0x00120040,
     0x00120042, 0x00120050, 0x00120051, 0x00120060, 0x0032000A, 0x00321030, 0x00321032,
     0x00321033, 0x00321060, 0x00321064, 0x00324000, 0x00380008, 0x00380010, 0x00380014, 0x00380060, 0x00380062,
     0x00380064, 0x00380300, 0x00380400, 0x00380500, 0x00401012}
)  # fmt: skip
_SERIES_TAGS = frozenset(
    {0x00080068, 0x00080070, 0x00080081, 0x00080082, 0x0008103F, 0x00081040, 0x00081041, 0x00081052,
     0x00081070, 0x00081072, 0x00081090, 0x00081111, 0x00081250, 0x00181000,
     0x00181002, 0x00181008, 0x00181016, 0x00181018, 0x00181019, 0x00181020, 0x00181050, 0x00181200, 0x00181201,
     0x00185100, 0x00200052, 0x00201040, 0x00400250, 0x00400251, 0x00400252, 0x00400253, 0x00400254, 0x00400255,
     0x00400260, 0x00400275, 0x00400280, 0x00120071, 0x00120072}
)  # fmt: skip


def level_of(tag: int) -> Level:
    """The level at which PS3.3's modules place an attribute; IMAGE for all that no set names."""
    column = BY_TAG.get(tag)
    if column is not None:
        return column.level
    computed = COMPUTED.get(tag)
    if computed is not None:
        return computed[2]
    if tag in _PATIENT_TAGS:
        return Level.PATIENT
    if tag in _STUDY_TAGS:
        return Level.STUDY
    if tag in _SERIES_TAGS:
        return Level.SERIES
    return Level.IMAGE
