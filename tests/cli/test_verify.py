"""`pacsd verify` as users run it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pacsd.config.load import load
from tests.cli.files_made import made, pool_files
from tests.storage.conftest import dataset, file_meta


class Archive:
    """A site with five objects."""

    def __init__(self, pacsd, config: Path, folder: Path) -> None:
        self._pacsd = pacsd
        self.config = config
        self.state = config.parent
        made(folder, 5, 400)
        assert self.call("import", folder).returncode == os.EX_OK
        self.files = pool_files(self.state)

    def call(self, *arguments: object) -> Any:
        return self._pacsd(*arguments, "--config", self.config)

    def verify(self, *arguments: object) -> tuple[int, dict[str, Any]]:
        done = self.call("verify", "--json", *arguments)
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)

    def copy_elsewhere(self, file: Path) -> Path:
        """A second copy in another object directory."""
        return self._put(file.name, file.read_bytes())

    def orphan(self, *, damaged: bool = False) -> Path:
        """A sealed file without a row."""
        content = file_meta("9.9") + dataset("9.9")
        return self._put(hashlib.sha256(content).hexdigest() + ".dcm", content[: -1 if damaged else None])

    def _put(self, name: str, content: bytes) -> Path:
        """A file that is old enough to be looked at."""
        folder = self.state / "images" / "objects" / "2001" / "02" / "03" / "dead-1"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / name
        file.write_bytes(content)
        os.utime(file, (0, time.time() - 3600))
        return file


@pytest.fixture
def archive(pacsd, new_site, tmp_path) -> Archive:
    return Archive(pacsd, new_site(), tmp_path / "cd")


def damage(file: Path) -> None:
    file.chmod(0o640)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def kinds(result: dict[str, Any]) -> list[str]:
    return sorted(found["kind"] for found in result["findings"])


def test_a_sound_site_gives_zero(archive):
    status, result = archive.verify()
    assert (status, result["n_files"], result["n_findings"], result["complete"]) == (0, 5, 0, True)


def test_missing_damaged_and_orphan_files_are_found_with_advice(archive):
    archive.files[0].unlink()
    damage(archive.files[1])
    orphan = archive.orphan()
    status, result = archive.verify()
    assert status == 1
    assert kinds(result) == ["damaged", "missing", "orphan"]
    assert all(found["advice"] for found in result["findings"])
    assert {found["path"].rpartition("/")[2] for found in result["findings"]} == {
        archive.files[0].name,
        archive.files[1].name,
        orphan.name,
    }


def test_nothing_is_changed_unless_it_is_asked_for(archive):
    damage(archive.files[1])
    archive.orphan()
    archive.copy_elsewhere(archive.files[2])
    before = pool_files(archive.state)
    assert archive.verify()[1]["n_findings"] == 3
    assert archive.verify()[1]["n_findings"] == 3
    assert pool_files(archive.state) == before


def test_a_set_aside_file_is_verified_too(archive, tmp_path):
    (tmp_path / "other").write_bytes(file_meta("1.2.1") + dataset("1.2.1", 80))
    archive.call("import", tmp_path / "other")
    aside = next(file for file in pool_files(archive.state) if file not in archive.files)
    damage(aside)
    _, result = archive.verify()
    assert [found["path"].rpartition("/")[2] for found in result["findings"]] == [aside.name]


def test_an_orphan_is_adopted_when_asked(archive):
    orphan = archive.orphan()
    status, result = archive.verify("--orphans", "adopt")
    assert (status, [found["done"] for found in result["findings"]]) == (1, ["adopted"])
    status, result = archive.verify()
    assert (status, result["n_files"]) == (0, 6)
    assert orphan.exists()


def test_an_orphan_whose_bytes_do_not_fit_its_name_is_not_adopted(archive):
    archive.orphan(damaged=True)
    assert archive.verify("--orphans", "adopt")[1]["findings"][0]["done"].startswith("not adopted")
    assert archive.verify()[1]["n_files"] == 5


def test_adopting_throws_nothing_away_even_where_the_rule_is_to_refuse(archive, tmp_path):
    text = archive.config.read_text().replace('# on_conflict = "keep-both"', 'on_conflict = "refuse"')
    archive.config.write_text(text)
    assert load(archive.config).dicom.on_conflict == "refuse"
    orphan = archive.orphan()
    (tmp_path / "other").write_bytes(file_meta("9.9") + dataset("9.9", 80))
    archive.call("import", tmp_path / "other")
    assert "set aside" in archive.verify("--orphans", "adopt")[1]["findings"][0]["done"]
    assert orphan.exists()
    assert archive.verify()[0] == 0


def test_an_orphan_goes_to_quarantine_when_asked(archive):
    orphan = archive.orphan()
    archive.verify("--orphans", "quarantine")
    assert not orphan.exists()
    assert (archive.state / "images" / "quarantine" / orphan.name).exists()
    assert archive.verify()[0] == 0


def test_a_second_copy_is_removed_only_when_asked_and_beside_a_sound_one(archive):
    copy = archive.copy_elsewhere(archive.files[0])
    content = archive.files[0].read_bytes()
    damage(archive.files[0])
    assert kinds(archive.verify("--strays", "remove")[1]) == ["damaged", "stray"]
    assert copy.exists()
    archive.files[0].write_bytes(content)
    assert kinds(archive.verify("--strays", "remove")[1]) == ["stray"]
    assert not copy.exists()
    assert archive.verify()[0] == 0


def test_repair_lets_a_second_copy_stand_for_the_file_that_is_gone(archive):
    copy = archive.copy_elsewhere(archive.files[0])
    archive.files[0].unlink()
    archive.verify("--repair")
    archive.verify("--repair")
    status, result = archive.verify()
    assert (status, result["n_files"]) == (0, 5)
    assert copy.exists()


def test_repair_keeps_the_row_of_a_damaged_file_without_another_copy(archive):
    damage(archive.files[0])
    assert archive.verify("--repair")[1]["findings"][0]["done"].startswith("kept")
    assert kinds(archive.verify()[1]) == ["damaged"]
    assert archive.files[0].exists()


def test_one_pool_can_be_verified_by_itself(archive, tmp_path):
    archive.call("pool", "add", "second", tmp_path / "second")
    archive.files[0].unlink()
    assert archive.verify("--pool", "second")[1]["n_files"] == 0
    assert archive.verify("--pool", "images")[0] == 1
    assert archive.call("verify", "--pool", "typo").returncode == os.EX_USAGE


def test_an_unmounted_pool_is_told_once_for_what_it_is(archive):
    (archive.state / "images").rename(archive.state / "away")
    (archive.state / "images").mkdir()
    status, result = archive.verify()
    assert status == 1
    assert set(kinds(result)) == {"unreadable"}


def test_a_rate_is_kept(archive, tmp_path):
    made(tmp_path / "more", 10, 100_000)
    archive.call("import", tmp_path / "more")
    begun = time.monotonic()
    assert archive.verify("--rate", "0.8")[0] == 0
    assert time.monotonic() - begun > 1.0


def test_each_finding_is_a_line_with_what_to_do_for_a_person(archive):
    archive.files[0].unlink()
    done = archive.call("verify")
    assert done.returncode == 1
    assert archive.files[0].name in done.stdout
    assert "backup" in done.stdout
    assert "1 missing" in done.stdout
