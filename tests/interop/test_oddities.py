"""What devices really send: stored with Success, flagged, counted, found where it can be, and given back as it came."""

from __future__ import annotations

import struct

import pytest
from pydicom.uid import generate_uid

from tests.interop.objects import (
    BIG,
    CT,
    EXPLICIT,
    IMPLICIT,
    WireObject,
    element,
    made,
    make_study,
    nested,
    wire_objects,
)
from tests.interop.peers import Inbox, find, get, identifier, store
from tests.live import Site

STUDY, SERIES, PATIENT_ID, NAME = 0x0020000D, 0x0020000E, 0x00100020, 0x00100010


def flags(site) -> dict[str, float]:
    return {
        name.removeprefix('flag="').removesuffix('"'): value
        for name, value in site.metrics("pacsd_dicom_stored_flags_total").items()
    }


def plain(study_uid=None, **changed: tuple[int, bytes, bytes] | None):
    """The elements of a small object; None leaves one out."""
    study_uid = study_uid or generate_uid()
    elements = {
        "charset": (0x00080005, b"CS", b"ISO_IR 100"),
        "sop_class": (0x00080016, b"UI", CT.encode() + b"\0"),
        "date": (0x00080020, b"DA", b"20240229"),
        "modality": (0x00080060, b"CS", b"CT"),
        "name": (NAME, b"PN", b"Odd^One "),
        "patient": (PATIENT_ID, b"LO", b"ODD1"),
        "study": (STUDY, b"UI", study_uid.encode() + b"\0" * (len(study_uid) % 2)),
        "series": (SERIES, b"UI", study_uid[:60].encode() + b".1" + b"\0" * (len(study_uid[:60]) % 2)),
        "number": (0x00200013, b"IS", b"1 "),
        "pixels": (0x7FE00010, b"OW", bytes(32)),
    }
    return [value for value in (elements | changed).values() if value is not None]


ODD = {
    "no patient id": (plain(patient=None), "missing-patient-id"),
    "empty patient id": (plain(patient=(PATIENT_ID, b"LO", b"")), "missing-patient-id"),
    "no study uid": (plain(study=(STUDY, b"UI", b"")), "missing-study-uid"),
    "no series uid": (plain(series=None), "missing-series-uid"),
    "nothing but pixels": ([(0x7FE00010, b"OW", bytes(8))], "missing-study-uid"),
    "odd length": (plain(name=(NAME, b"PN", b"Odd^Boy")), "odd-length"),
    "padded uid": (plain(study=(STUDY, b"UI", b"1.2.826.0.1.777 ")), "padded-uid"),
    "bad uid": (plain(study=(STUDY, b"UI", b"STUDY-1")), "bad-uid"),
    "bad date": (plain(date=(0x00080020, b"DA", b"29.02.24")), None),
    "wrong vr": (plain(date=(0x00080020, b"LO", b"20240229")), None),
    "wrong charset": (plain(charset=(0x00080005, b"CS", b"ISO_IR 192"), name=(NAME, b"PN", b"M\xfcller^A")), None),
    "unknown charset": (plain(charset=(0x00080005, b"CS", b"KLINGON ")), None),
    "several values": (plain(number=(0x00200013, b"IS", b"1\\2 ")), None),
    "text for a number": (plain(number=(0x00200013, b"IS", b"first ")), None),
    "not in order": (list(reversed(plain())), None),
    "an element twice": ([*plain(), (PATIENT_ID, b"LO", b"ODD2")], None),
    "group lengths": ([(0x00080000, b"UL", struct.pack("<L", 66)), *plain()], None),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_object_is_stored_flagged_and_given_back_as_it_came(site, kind):
    elements, flag = ODD[kind]
    item = made(f"odd {kind}", elements)
    before = flags(site)
    assert store(site, [item]) == [0]
    if flag is not None:
        assert flags(site).get(flag, 0) == before.get(flag, 0) + 1, flags(site)
    _given_back(site, item)


def _given_back(site, item):
    answers, status = find(site, identifier("IMAGE", SOPInstanceUID=item.sop_instance), relational=True)
    assert (status, len(answers)) == (0, 1)
    inbox = Inbox()
    asked = identifier("IMAGE", SOPInstanceUID=item.sop_instance)
    get(site, asked, [(item.sop_class, item.syntax)], inbox, relational=True)
    assert [arrival.data for arrival in inbox.arrivals] == [item.data]


def _length_past_the_end() -> bytes:
    return b"".join(element(*part) for part in plain()[:-1]) + struct.pack("<HH2sxxL", 0x7FE0, 0x10, b"OW", 1 << 30)


BODIES = {
    "cut in an element's head": b"".join(element(*part) for part in plain()) + b"\xe1\x7f",
    "a length past the end": _length_past_the_end(),
    "a sequence without an end": b"".join(element(*part) for part in plain()[:-1]) + nested(3)[:40],
    "zeros": bytes(4096),
    "noise": bytes((number * 167 + 13) % 256 for number in range(5000)),
    "text": b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n",
    "one byte": b"\x08",
    "nothing": b"",
    "1,200 levels": nested(1200),
    "30,000 levels": nested(30_000),
    "30,000 levels before the study": nested(30_000) + b"".join(element(*part) for part in plain()),
    "a data set after the pixels": b"".join(element(*part) for part in [*plain(), *plain()]),
}


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.70"])
@pytest.mark.parametrize("kind", BODIES)
def test_bytes_that_are_no_data_set_are_kept_all_the_same(site, kind, syntax):
    item = WireObject(kind, CT, generate_uid(entropy_srcs=[kind, syntax]), syntax, BODIES[kind])
    assert store(site, [item]) == [0]
    answers, _ = find(site, identifier("IMAGE", SOPInstanceUID=item.sop_instance), relational=True)
    assert len(answers) == 1


def test_objects_without_a_study_stay_apart_from_each_other(site):
    for number in (1, 2):
        assert store(site, [made(f"apart {number}", [(0x7FE00010, b"OW", bytes([number, 0]))])]) == [0]
    found = []
    for number in (1, 2):
        uid = made(f"apart {number}", []).sop_instance
        (answer,), _ = find(site, identifier("IMAGE", SOPInstanceUID=uid, StudyInstanceUID=None), relational=True)
        found.append(answer.StudyInstanceUID)
    assert found[0]
    assert found[0] != found[1]


def test_one_study_in_several_character_sets_is_one_study_with_readable_names(site, patient_id):
    study = make_study(patient_id, 3)
    names = [
        ("ISO_IR 100", b"M\xfcller^J\xf6rg "),
        ("ISO_IR 192", "Müller^Jörg".encode()),
        ("", b"Mueller^Joerg "),
    ]
    items = []
    for item, (charset, name) in zip(wire_objects(study), names, strict=True):
        elements = plain(
            study.uid,
            charset=(0x00080005, b"CS", charset.encode()) if charset else None,
            name=(NAME, b"PN", name + b" " * (len(name) % 2)),
            patient=(PATIENT_ID, b"LO", patient_id.encode() + b" " * (len(patient_id) % 2)),
        )
        data = b"".join(element(*part) for part in elements)
        items.append(WireObject(item.name, CT, item.sop_instance, EXPLICIT, data))
    assert store(site, items) == [0, 0, 0]
    asked = identifier("STUDY", PatientID=patient_id, PatientName=None, NumberOfStudyRelatedInstances=None,
                       StudyInstanceUID=None, SpecificCharacterSet="ISO_IR 192")  # fmt: skip
    answers, _ = find(site, asked)
    assert len(answers) == 1
    assert answers[0].NumberOfStudyRelatedInstances == 3
    assert str(answers[0].PatientName) in {"Müller^Jörg", "Mueller^Joerg"}


CONFLICTS = {"keep-both": (0, "first", 2), "replace": (0, "second", 2), "refuse": (0x0111, "first", 1)}


@pytest.mark.parametrize("rule", CONFLICTS)
def test_other_bytes_under_the_same_uid_follow_the_rule_of_the_site(tmp_path, rule):
    status, served, n_kept = CONFLICTS[rule]
    uid, study_uid = generate_uid(), generate_uid()
    other = plain(study_uid, pixels=(0x7FE00010, b"OW", b"\1" * 32))
    objects = {
        "first": WireObject("first", CT, uid, EXPLICIT, b"".join(element(*part) for part in plain(study_uid))),
        "second": WireObject("second", CT, uid, EXPLICIT, b"".join(element(*part) for part in other)),
    }
    with Site(tmp_path / "site", extra={"dicom": {"on_conflict": rule}}) as site:
        assert store(site, [objects["first"]]) == [0]
        assert store(site, [objects["second"]]) == [status]
        # What is held already, served or set aside, is no conflict any more.
        assert store(site, list(objects.values())) == [0, status]
        inbox = Inbox()
        get(site, identifier("STUDY", StudyInstanceUID=study_uid), [(CT, EXPLICIT)], inbox)
        assert [arrival.data for arrival in inbox.arrivals] == [objects[served].data]
        assert len({file.name for file in (site.pool / "objects").rglob("*.dcm")}) == n_kept
