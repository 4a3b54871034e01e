"""DCMTK's movescu, storescp and getscu: retrieving as stored, and converted for receivers that take less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom.uid import generate_uid

from tests.interop import dcmtk
from tests.interop.objects import BIG, EXPLICIT, IMPLICIT, make_study, read_wire_object, wire_objects
from tests.interop.peers import store
from tests.live import free_ports

CONVERTED = {
    "implicit": IMPLICIT,
    "explicit": EXPLICIT,
    "big-endian": BIG,
    "deflated": "1.2.840.10008.1.2.1.99",
    "jpeg-baseline": "1.2.840.10008.1.2.4.50",
    "jpeg-lossless": "1.2.840.10008.1.2.4.70",
    "jpeg-ls-lossless": "1.2.840.10008.1.2.4.80",
    "jpeg-2000-lossless": "1.2.840.10008.1.2.4.90",
    "jpeg-2000": "1.2.840.10008.1.2.4.91",
    "rle": "1.2.840.10008.1.2.5",
}


@pytest.fixture(scope="module")
def study(site):
    made = make_study("MOVE1", 6, n_series=2)
    store(site, wire_objects(made))
    return made


def test_movescu_receives_a_study_on_its_own_port(site, study, new_peer, tmp_path):
    title, port = new_peer()
    wanted = dcmtk.keys(QueryRetrieveLevel="STUDY", StudyInstanceUID=study.uid)
    done = dcmtk.call("movescu", "-v", "-S", "+P", port, "-aem", title, "-aet", title, "-od", tmp_path, "+xa",
                      *dcmtk.at(site), *wanted)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Final Move Response (Success)" in done.stdout + done.stderr
    assert set(dcmtk.received(tmp_path)) == set(study.instances)


@pytest.mark.parametrize("root", ["-P", "-S", "-O"])
@pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
def test_movescu_and_a_storescp_elsewhere_at_each_level(site, study, new_peer, tmp_path, root, level):
    # Study Root has no PATIENT level, but Orthanc retrieves by it.
    if (root, level) in {("-O", "SERIES"), ("-O", "IMAGE")}:
        expected = None
    else:
        expected = {"PATIENT": study.instances, "STUDY": study.instances, "SERIES": study.instances[::2],
                    "IMAGE": study.instances[:1]}[level]  # fmt: skip
    wanted: dict[str, str | None] = {"QueryRetrieveLevel": level}
    if root != "-S" or level == "PATIENT":
        wanted["PatientID"] = study.patient_id
    if level in {"STUDY", "SERIES", "IMAGE"}:
        wanted["StudyInstanceUID"] = study.uid
    if level in {"SERIES", "IMAGE"}:
        wanted["SeriesInstanceUID"] = study.series[0]
    if level == "IMAGE":
        wanted["SOPInstanceUID"] = study.instances[0]
    title, port = new_peer()
    with dcmtk.storescp(tmp_path / "in", port, "+xa") as folder:
        done = dcmtk.call("movescu", "-v", root, "-aem", title, *dcmtk.at(site), *dcmtk.keys(**wanted))
        told = done.stdout + done.stderr
        if expected is None:
            assert "DataSetDoesNotMatchSOPClass" in told
            assert list(folder.iterdir()) == []
        else:
            assert "Final Move Response (Success)" in told
            assert set(dcmtk.received(folder)) == set(expected)


def test_a_destination_that_is_not_registered_is_named_as_the_cause(site, study):
    wanted = dcmtk.keys(QueryRetrieveLevel="STUDY", StudyInstanceUID=study.uid)
    done = dcmtk.call("movescu", "-v", "-S", "-aem", "NOWHERE", *dcmtk.at(site), *wanted)
    assert "MoveDestinationUnknown" in (done.stdout + done.stderr).replace(" ", "")


def test_movescu_that_cancels_gets_its_final_answer(site, study, new_peer, tmp_path):
    title, port = new_peer()
    wanted = dcmtk.keys(QueryRetrieveLevel="STUDY", StudyInstanceUID=study.uid)
    with dcmtk.storescp(tmp_path / "in", port, "--sleep-after", 1) as folder:
        done = dcmtk.call("movescu", "-v", "-S", "--cancel", 1, "-aem", title, *dcmtk.at(site), *wanted)
        told = done.stdout + done.stderr
        assert "Cancel" in told.split("Final Move Response")[-1], told
        assert len(list(folder.iterdir())) < len(study.instances)


@pytest.mark.parametrize("accepted", ["+xi", "+xe"], ids=["implicit-only", "explicit-preferred"])
@pytest.mark.parametrize("kind", CONVERTED)
def test_a_receiver_that_takes_less_gets_the_same_pixels(site, samples, new_peer, tmp_path, kind, accepted):
    paths = samples.get(CONVERTED[kind]) or pytest.skip(f"no sample that is {kind} without the corpus")
    originals = {}
    for path in paths[:6]:
        original = dcmtk.decoded(path, tmp_path / "decoded")
        # Of big endian pixels of more than 16 bits nobody knows what their sender meant: they aren't converted.
        if original is not None and not (original.BitsAllocated > 16 and kind == "big-endian"):
            # Published files share UIDs in several syntaxes; here each one is an object of its own.
            item = replace(read_wire_object(path), sop_instance=generate_uid())
            originals[item.sop_instance] = item, original
    assert originals
    assert store(site, [item for item, _ in originals.values()]) == [0] * len(originals)
    title, port = new_peer()
    with dcmtk.storescp(tmp_path / "in", port, accepted) as folder:
        for item, original in originals.values():
            above = {name: str(original[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID")}
            wanted = dcmtk.keys(QueryRetrieveLevel="IMAGE", SOPInstanceUID=item.sop_instance, **above)
            done = dcmtk.call("movescu", "-v", "-S", "-aem", title, *dcmtk.at(site), *wanted)
            assert "Final Move Response (Success)" in done.stdout + done.stderr, (item.name, done.stderr)
        arrived = dcmtk.received(folder)
    assert set(arrived) == set(originals)
    for uid, (item, original) in originals.items():
        found = arrived[uid]
        kept = item.syntax if item.syntax in {IMPLICIT, EXPLICIT, BIG} else EXPLICIT
        assert found.file_meta.TransferSyntaxUID == (IMPLICIT if accepted == "+xi" else kept)
        _same_pixels(item, found, original)


def _same_pixels(item, found, original):
    """Equal values; only those of a lossy JPEG may differ, by what decoders round."""
    names = ("Rows", "Columns", "NumberOfFrames", "PhotometricInterpretation", "BitsStored")
    assert [found.get(name) for name in names] == [original.get(name) for name in names], item.name
    difference = np.abs(found.pixel_array.astype(int) - original.pixel_array.astype(int)).max()
    assert difference <= (2 if item.syntax in {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.91"} else 0), item.name


@pytest.mark.parametrize("preferred", ["+x=", "+xi", "+xs", "+xd", "+xr"])
def test_getscu_gets_a_study_whatever_it_prefers(site, study, tmp_path, preferred):
    wanted = dcmtk.keys(QueryRetrieveLevel="STUDY", StudyInstanceUID=study.uid)
    done = dcmtk.call("getscu", "-v", "-S", preferred, "-od", tmp_path, *dcmtk.at(site), *wanted)
    assert done.returncode == 0, done.stdout + done.stderr
    arrived = dcmtk.received(tmp_path)
    assert set(arrived) == set(study.instances)
    for image in study.images:
        assert np.array_equal(arrived[str(image.SOPInstanceUID)].pixel_array, image.pixel_array)


def test_getscu_at_series_and_image_level(site, study, tmp_path):
    series = dcmtk.keys(StudyInstanceUID=study.uid, SeriesInstanceUID=study.series[1])
    (tmp_path / "series").mkdir()
    done = dcmtk.call("getscu", "-S", "-od", tmp_path / "series", "-k", "QueryRetrieveLevel=SERIES",
                      *dcmtk.at(site), *series)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(dcmtk.received(tmp_path / "series")) == set(study.instances[1::2])
    (tmp_path / "image").mkdir()
    one = dcmtk.keys(SOPInstanceUID=study.instances[1])
    done = dcmtk.call("getscu", "-S", "-od", tmp_path / "image", "-k", "QueryRetrieveLevel=IMAGE",
                      *dcmtk.at(site), *series, *one)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(dcmtk.received(tmp_path / "image")) == {study.instances[1]}


def test_a_receiver_that_is_not_there_fails_every_object(site, study):
    (port,) = free_ports(1)
    site.add_peer("GONE", port)
    wanted = dcmtk.keys(QueryRetrieveLevel="STUDY", StudyInstanceUID=study.uid)
    done = dcmtk.call("movescu", "-d", "-S", "-aem", "GONE", *dcmtk.at(site), *wanted)
    told = done.stdout + done.stderr
    assert "Refused: OutOfResourcesSubOperations" in told, told[-2000:]
