"""What `pacsd peer` promises: a register, calls that end with a status a script can act on, and answers as JSON."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from tests.live import Site, free_ports

CT = str(get_testdata_file("CT_small.dcm"))
JPEG2000 = str(get_testdata_file("JPEG2000.dcm"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running site that knows itself as a peer, and one that was never there."""
    with Site(tmp_path_factory.mktemp("peer") / "site", extra={"dicom": {"artim_s": 2.0}}) as running:
        running.add_peer("PACSD", running.dicom_port)
        running.add_peer("GONE", free_ports(1)[0])
        yield running


def peer(site: Site, *arguments: object) -> subprocess.CompletedProcess[str]:
    return site.run("peer", *arguments, "--config", site.config)


def answer(site: Site, *arguments: object) -> object:
    done = peer(site, *arguments, "--json")
    assert done.returncode == os.EX_OK, done.stderr
    return json.loads(done.stdout)


def study_of(path: str) -> str:
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def test_a_peer_is_listed_after_adding_it_changed_by_adding_it_again_and_gone_after_removing_it(site: Site) -> None:
    assert peer(site, "add", "CT1", "ct.example", 104, "--description", "room 3").returncode == os.EX_OK
    site.add_peer("CT1", 105, "ct.example", max_associations=2, bytes_per_s=1000)
    (kept,) = [one for one in answer(site, "list") if one["ae_title"] == "CT1"]  # type: ignore[attr-defined]
    assert (kept["host"], kept["port"], kept["max_associations"], kept["bytes_per_s"]) == ("ct.example", 105, 2, 1000)
    assert "CT1" in peer(site, "list").stdout
    assert peer(site, "remove", "CT1").returncode == os.EX_OK
    assert "CT1" not in peer(site, "list").stdout
    assert peer(site, "remove", "CT1").returncode == os.EX_USAGE


@pytest.mark.parametrize("arguments", [
    ("add", "bad\\title", "h", 104), ("add", "A", "h", 0), ("add", "A", "h"), ("echo", "NOBODY"), ("echo",),
    ("send", "PACSD"), ("find", "PACSD", "NoSuchKeyword=1"), ("find", "PACSD", "--level", "FRAME"), ("pull", "PACSD"),
])  # fmt: skip
def test_wrong_usage_ends_with_64_and_says_why(site: Site, arguments: tuple[object, ...]) -> None:
    done = peer(site, *arguments)
    assert done.returncode == os.EX_USAGE
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_echo_tells_whether_a_peer_is_alive(site: Site) -> None:
    assert answer(site, "echo", "PACSD")["status"] == 0  # type: ignore[index]
    gone = peer(site, "echo", "GONE")
    assert gone.returncode == os.EX_UNAVAILABLE
    assert "GONE" in gone.stderr


def test_a_listener_that_says_nothing_is_unavailable_and_not_waited_for_without_end(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        site.add_peer("MUTE", mute.getsockname()[1])
        done = site.run("peer", "echo", "MUTE", "--config", site.config, limit_s=90.0)
    assert done.returncode == os.EX_UNAVAILABLE


def test_files_that_were_sent_are_found_and_a_file_that_is_none_is_named(site: Site, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    done = peer(site, "send", "PACSD", CT, text, JPEG2000, "--json")
    assert done.returncode == os.EX_TEMPFAIL
    told = json.loads(done.stdout)
    assert told["stored"] == 2
    assert "notes.txt" in told["failed"][0]["cause"]
    uids = {one["StudyInstanceUID"] for one in answer(site, "find", "PACSD")}  # type: ignore[attr-defined]
    assert {study_of(CT), study_of(JPEG2000)} <= uids


def test_keys_may_stand_behind_options_and_narrow_the_answer(site: Site) -> None:
    assert peer(site, "send", "PACSD", CT).returncode == os.EX_OK
    keys = (f"StudyInstanceUID={study_of(CT)}", "Modality=", "NumberOfSeriesRelatedInstances=")
    (series,) = answer(site, "find", "PACSD", "--level", "SERIES", *keys)  # type: ignore[misc]
    assert series["Modality"] == "CT"
    assert str(series["NumberOfSeriesRelatedInstances"]) == "1"
    assert answer(site, "find", "PACSD", "PatientID=nobody has this") == []


def test_a_query_that_the_peer_refuses_ends_with_69_and_its_status(site: Site) -> None:
    done = peer(site, "find", "PACSD", "--level", "SERIES", "Modality=")
    assert done.returncode == os.EX_UNAVAILABLE
    assert "A900" in done.stderr


def test_studies_are_pulled_by_move_and_by_get_and_sent_on(site: Site, tmp_path: Path) -> None:
    assert peer(site, "send", "PACSD", CT, JPEG2000).returncode == os.EX_OK
    with Site(tmp_path / "other") as other:
        other.add_peer("PACSD", site.dicom_port)
        pulled = peer(other, "pull", "PACSD", "--get", "--study", study_of(CT), "--study", study_of(JPEG2000), "--json")
        assert pulled.returncode == os.EX_OK, pulled.stderr
        assert json.loads(pulled.stdout)["completed"] == 2
        sent = peer(other, "send", "PACSD", "--study", study_of(JPEG2000), "--json")
        assert json.loads(sent.stdout) == {"stored": 1, "failed": []}
    moved = peer(site, "pull", "PACSD", "--study", study_of(CT), "--json")
    assert moved.returncode == os.EX_OK, moved.stderr
    assert json.loads(moved.stdout)["completed"] == 1


def test_a_study_that_is_not_held_cannot_be_sent(site: Site) -> None:
    done = peer(site, "send", "PACSD", "--study", "1.2.3.4.5")
    assert done.returncode == os.EX_USAGE
    assert "held" in done.stderr


def test_a_peer_that_is_away_fails_everything_that_was_to_be_sent(site: Site) -> None:
    done = peer(site, "send", "GONE", CT, JPEG2000, "--json")
    assert done.returncode == os.EX_UNAVAILABLE
    assert len(json.loads(done.stdout)["failed"]) == 2
