"""What findscu can't ask for: queries with extended negotiation, by pynetdicom."""

from __future__ import annotations

import pytest
from pydicom.uid import UID
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from tests.interop.objects import EXPLICIT, make_study, wire_objects
from tests.interop.peers import FIND, PATIENT_FIND, associate, find_over, identifier, store


def negotiated(information: bytes, model: str = FIND) -> SOPClassExtendedNegotiation:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid, item.service_class_application_information = UID(model), information
    return item


def ask(site, asked, information: bytes, model: str = FIND):
    with associate(site, [(model, [EXPLICIT])], ext_neg=[negotiated(information, model)]) as association:
        agreed = association.acceptor.sop_class_extended[UID(model)]
        return *find_over(association, asked, model), agreed


@pytest.fixture(scope="module")
def studies(site):
    found = {
        "EXT1": make_study("EXT1", 2, PatientName="Grün^Jörg", StudyDate="20240301", StudyTime="230000"),
        "EXT2": make_study("EXT2", 2, PatientName="Gruen^Anna", StudyDate="20240302", StudyTime="010000"),
        "EXT3": make_study("EXT3", 2, PatientName="Meier^Zoe", StudyDate="20240302", StudyTime="230000"),
    }
    for study in found.values():
        store(site, wire_objects(study))
    return found


def ids(answers) -> set[str]:
    return {answer.PatientID for answer in answers}


def test_a_relational_query_needs_no_keys_above_its_level(site, studies):
    asked = identifier("IMAGE", PatientID="EXT1", SOPInstanceUID=None)
    answers, status, agreed = ask(site, asked, b"\1\0\0\0")
    assert (status, agreed) == (0, b"\1\0\0\0")
    assert {answer.SOPInstanceUID for answer in answers} == set(studies["EXT1"].instances)


def test_a_combined_date_and_time_range_is_one_range_where_negotiated(site, studies):
    asked = identifier("STUDY", PatientID="EXT*", StudyDate="20240301-20240302", StudyTime="220000-020000")
    answers, _, _ = ask(site, asked, b"\0\1\0\0")
    assert ids(answers) == {"EXT1", "EXT2"}


def test_fuzzy_names_are_found_where_negotiated(site, studies):
    asked = identifier("STUDY", PatientID="EXT*", PatientName="Maier^Zoe")
    answers, _, agreed = ask(site, asked, b"\0\0\1\0")
    assert agreed == b"\0\0\1\0"
    assert ids(answers) == {"EXT3"}
    answers, _, _ = ask(site, asked, b"\0\0\0\0")
    assert ids(answers) == set()


def test_fuzzy_names_ignore_diacritics_and_order(site, studies):
    for name in ("Grun^Jorg", "Jörg Grün"):
        answers, _, _ = ask(site, identifier("PATIENT", PatientName=name, PatientID="EXT*"), b"\0\0\1", PATIENT_FIND)
        assert "EXT1" in ids(answers)


def test_several_queries_on_one_association_are_each_answered(site, studies):
    with associate(site, [(FIND, [EXPLICIT]), (PATIENT_FIND, [EXPLICIT])]) as association:
        for _ in range(20):
            answers, status = find_over(association, identifier("STUDY", PatientID="EXT2"))
            assert (status, ids(answers)) == (0, {"EXT2"})
        answers, _ = find_over(association, identifier("PATIENT", PatientID="EXT?", PatientName=None), PATIENT_FIND)
        assert ids(answers) == set(studies)


def test_an_unsupported_key_is_answered_by_ff01(site, studies):
    asked = identifier("STUDY", StudyInstanceUID=studies["EXT1"].uid)
    asked.add_new(0x00091001, "LO", "")
    with associate(site, [(FIND, [EXPLICIT])]) as association:
        statuses = [response.Status for response, _ in association.send_c_find(asked, FIND)]
    assert statuses == [0xFF01, 0]
