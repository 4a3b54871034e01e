"""`pacsd import` as users run it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

from tests.cli.conftest import PACSD
from tests.cli.files_made import SAMPLES, dataset_bytes, dataset_digests, journal, made, medium, pool_files, samples
from tests.storage.conftest import dataset, file_meta

Site = Callable[..., Any]


@pytest.fixture
def site(pacsd, new_site) -> Site:
    """Call a verb over an empty site; with `--json` its result is parsed."""
    config = new_site()

    def call(verb: str, *arguments: object) -> Any:
        done = pacsd(verb, *arguments, "--config", config)
        done.result = json.loads(done.stdout) if "--json" in arguments else {}
        return done

    call.config = config
    call.state = config.parent
    return call


def test_every_kind_of_file_is_kept_with_its_data_set_as_it_was(site, tmp_path):
    files = samples(tmp_path / "cd")
    done = site("import", tmp_path / "cd", "--json")
    assert done.returncode == os.EX_OK, done.stderr
    assert (done.result["stored"], done.result["skipped"]) == (len(files), {})
    assert dataset_digests(pool_files(site.state)) == dataset_digests(files)
    assert all(file.read_bytes()[128:132] == b"DICM" for file in pool_files(site.state))


def test_the_transfer_syntax_and_source_of_a_file_are_kept(site, tmp_path):
    foreign = pydicom.dcmread(SAMPLES / "JPEG2000.dcm")
    foreign.file_meta.SourceApplicationEntityTitle = "OLDPACS"
    foreign.save_as(tmp_path / "a.dcm")
    site("import", tmp_path / "a.dcm")
    (kept,) = pool_files(site.state)
    meta = pydicom.dcmread(kept, stop_before_pixels=True).file_meta
    assert meta.TransferSyntaxUID == foreign.file_meta.TransferSyntaxUID
    assert meta.SourceApplicationEntityTitle == "OLDPACS"
    assert meta.ImplementationVersionName == "PACSD"


@pytest.mark.corpus
def test_the_corpus_is_kept_with_its_data_sets_as_they_were(site, corpus):
    done = site("import", corpus / "dicom", corpus / "derived", "--json")
    assert done.result["failed"] == 0
    skipped = {row["path"]: row["why"] for row in done.result["files"] if row["result"] == "skipped"}
    taken = [
        path
        for folder in ("dicom", "derived")
        for path in (corpus / folder).rglob("*")
        if path.is_file() and str(path) not in skipped
    ]
    assert len(taken) > 300
    assert dataset_digests(pool_files(site.state)) == dataset_digests(taken)
    again = site("import", corpus / "dicom", corpus / "derived", "--json")
    assert (again.result["stored"], again.result["held"]) == (0, len(taken))


def test_running_it_again_stores_nothing_twice(site, tmp_path):
    files = samples(tmp_path / "cd")
    site("import", tmp_path / "cd")
    before = pool_files(site.state)
    done = site("import", tmp_path / "cd", "--json")
    assert (done.returncode, done.result["stored"], done.result["held"]) == (os.EX_OK, 0, len(files))
    assert pool_files(site.state) == before
    assert journal(site.state) == []


def test_what_is_not_taken_is_counted_and_named_with_its_reason(site, tmp_path):
    folder = tmp_path / "cd"
    made(folder, 2)
    (folder / "readme.txt").write_text("This CD holds images.")
    (folder / "empty").touch()
    nameless = dataset("").replace(b"\x08\x00\x18\x00UI\x00\x00", b"")
    (folder / "nameless").write_bytes(file_meta("") + nameless)
    done = site("import", folder, "--json", "--report", tmp_path / "report")
    assert done.returncode == os.EX_OK, done.stderr
    assert done.result["stored"] == 2
    assert done.result["skipped"] == {"not-dicom": 2, "no-sop-instance-uid": 1}
    rows = [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()]
    assert {Path(row["path"]).name: row["why"] for row in rows} == {
        "readme.txt": "not-dicom",
        "empty": "not-dicom",
        "nameless": "no-sop-instance-uid",
    }
    assert rows == done.result["files"]


def test_a_dicomdir_brings_its_whole_medium_and_files_that_it_does_not_list(site, tmp_path):
    medium(tmp_path / "cd")
    unlisted = tmp_path / "cd" / "extra.dcm"
    shutil.copy(SAMPLES / "rtplan.dcm", unlisted)
    done = site("import", tmp_path / "cd" / "DICOMDIR", "--json")
    assert done.returncode == os.EX_OK, done.stdout + done.stderr
    assert done.result["skipped"] == {"dicomdir": 1}
    assert dataset_bytes(unlisted) in {dataset_bytes(file) for file in pool_files(site.state)}
    assert done.result["stored"] == 32


def test_files_that_a_dicomdir_lists_and_the_medium_lacks_are_told(site, tmp_path):
    medium(tmp_path / "cd")
    gone = tmp_path / "cd" / "77654033" / "CR1" / "6154"
    gone.unlink()
    done = site("import", tmp_path / "cd", "--json")
    assert done.returncode == os.EX_IOERR
    assert done.result["skipped"]["absent"] == 1
    assert {"path": str(gone), "result": "skipped", "why": "absent"} in done.result["files"]


def test_a_path_that_is_not_there_stops_it_before_anything_is_taken(site, tmp_path):
    made(tmp_path / "cd", 1)
    done = site("import", tmp_path / "cd", tmp_path / "typo")
    assert done.returncode == os.EX_NOINPUT
    assert str(tmp_path / "typo") in done.stderr
    assert pool_files(site.state) == []


def test_a_folder_with_nothing_to_import_is_told_by_the_exit_status(site, tmp_path):
    (tmp_path / "readme.txt").write_text("hello")
    assert site("import", tmp_path / "readme.txt").returncode == os.EX_DATAERR


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(site, tmp_path):
    made(tmp_path / "cd", 3)
    done = site("import", tmp_path / "cd", "--dry-run", "--json")
    assert (done.returncode, done.result["stored"]) == (os.EX_OK, 3)
    assert pool_files(site.state) == []


def test_other_bytes_under_a_held_uid_are_set_aside_and_listed(site, tmp_path):
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_bytes(file_meta("1.2.3") + dataset("1.2.3", 100))
    two.write_bytes(file_meta("1.2.3") + dataset("1.2.3", 200))
    site("import", one)
    done = site("import", two, "--json")
    assert (done.returncode, done.result["kept_aside"]) == (os.EX_OK, 1)
    listed = json.loads(site("conflicts", "list", "--json").stdout)
    assert (listed["sop_instance_uid"], listed["reason"]) == ("1.2.3", "kept-aside")
    shown = json.loads(site("conflicts", "show", listed["id"], "--json").stdout)
    assert dataset_bytes(Path(shown["served"][0])) == dataset("1.2.3", 100)
    assert site("conflicts", "show", 99).returncode == os.EX_NOINPUT


def test_when_no_pool_takes_objects_it_gives_up_and_can_be_run_again(site, tmp_path):
    files = made(tmp_path / "cd", 200)
    site("pool", "read-only", "images", "on")
    done = site("import", tmp_path / "cd", "--json")
    assert done.returncode == os.EX_TEMPFAIL
    assert done.result["trouble"]
    assert pool_files(site.state) == []
    site("pool", "read-only", "images", "off")
    assert site("import", tmp_path / "cd", "--json").result["stored"] == len(files)


def begin(site: Site, folder: Path) -> subprocess.Popen[str]:
    """An import that runs, with some of its files in the pool."""
    command = [*PACSD, "import", str(folder), "--json", "--workers", "1", "--config", str(site.config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 20
    while not pool_files(site.state):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.005)
    return process


@pytest.mark.crash
def test_an_import_killed_in_its_middle_is_completed_by_running_it_again(site, tmp_path):
    files = made(tmp_path / "cd", 600)
    with begin(site, tmp_path / "cd") as process:
        process.kill()
    assert process.returncode == -signal.SIGKILL
    n_before = len(pool_files(site.state))
    assert 0 < n_before < len(files)
    done = site("import", tmp_path / "cd", "--json")
    assert done.returncode == os.EX_OK, done.stderr
    assert done.result["held"] + done.result["stored"] == len(files)
    assert done.result["held"] >= n_before - 1
    assert len(pool_files(site.state)) == len(files)
    assert dataset_digests(pool_files(site.state)) == dataset_digests(files)
    assert journal(site.state) == []
    verified = site("verify", "--json")
    assert (verified.returncode, verified.result["n_files"]) == (os.EX_OK, len(files))


def test_ctrl_c_ends_it_behind_the_running_group_with_nothing_left_half_done(site, tmp_path):
    files = made(tmp_path / "cd", 600)
    with begin(site, tmp_path / "cd") as process:
        process.send_signal(signal.SIGINT)
        result = json.loads(process.communicate(timeout=30)[0])
    assert process.returncode == 130
    assert not result["complete"]
    assert 0 < result["stored"] < len(files)
    assert len(pool_files(site.state)) == result["stored"]
    assert journal(site.state) == []
    assert site("import", tmp_path / "cd", "--json").result["held"] == result["stored"]


def test_a_large_file_passes_in_pieces(site, tmp_path):
    large = tmp_path / "large.dcm"
    start = file_meta("1.2.9") + dataset("1.2.9", 0)[:-4] + (160 << 20).to_bytes(4, "little")
    with large.open("wb") as file:
        file.write(start)
        file.truncate(len(start) + (160 << 20))
    measure = "print(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])"
    code = f"import re, sys; from pacsd.cli.main import main; print(main(sys.argv[1:])); {measure}"
    command = [sys.executable, "-c", code, "import", str(large), "--config", str(site.config)]
    status, peak_kb = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[-3:-1]
    assert status == "0"
    assert int(peak_kb) < 140_000
    assert pool_files(site.state)[0].stat().st_size > 160 << 20


def test_it_shows_no_progress_when_piped(site, tmp_path):
    made(tmp_path / "cd", 3)
    done = site("import", tmp_path / "cd")
    assert done.stderr == ""
    assert "\r" not in done.stdout


def test_it_may_run_beside_a_server(site, tmp_path, run_site):
    server = run_site(site.config)
    assert server.wait_ready()
    files = made(tmp_path / "cd", 20)
    assert site("import", tmp_path / "cd", "--json").result["stored"] == len(files)
    assert site("verify").returncode == os.EX_OK
