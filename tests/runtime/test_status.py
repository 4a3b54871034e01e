from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pacsd.runtime.status import find_sockets, remove_stale


@pytest.fixture
def gone() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_later_of_two_processes_of_one_name_counts(tmp_path):
    for at, pid in enumerate((900, 20)):
        path = tmp_path / f"dicom-1.{pid}.status"
        path.touch()
        os.utime(path, (at, at))
    (tmp_path / "web.7.status").touch()
    assert {name: path.name for name, path in find_sockets(tmp_path).items()} == {
        "dicom-1": "dicom-1.20.status",
        "web": "web.7.status",
    }


def test_a_folder_that_is_not_there_holds_no_sockets(tmp_path):
    assert find_sockets(tmp_path / "none") == {}


def test_only_sockets_of_processes_that_are_gone_are_removed(tmp_path, gone):
    names = {f"dicom-1.{gone}.status", "dicom-1.1.status", f"dicom-2.{gone}.status", "other"}
    for name in names:
        (tmp_path / name).touch()
    remove_stale(tmp_path, "dicom-1")
    assert {path.name for path in tmp_path.iterdir()} == names - {f"dicom-1.{gone}.status"}
    remove_stale(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"dicom-1.1.status", "other"}
