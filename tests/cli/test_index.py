"""`pacsd index` as users run it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import PACSD
from tests.cli.files_made import made, pool_files, samples
from tests.storage.conftest import dataset, file_meta

_QUERIES = """
SELECT patient_id, name, n_studies, n_series, n_instances FROM patient ORDER BY patient_id, name;
SELECT study_uid, modalities, n_series, n_instances FROM study ORDER BY study_uid;
SELECT series_uid, modality, n_instances FROM series ORDER BY series_uid;
SELECT sop_instance_uid, size_bytes, digest, head, flags FROM instance JOIN instance_head ON instance = id ORDER BY 1;
SELECT i.sop_instance_uid, pool, path, l.digest FROM location l JOIN instance i ON l.instance = i.id
    JOIN directory d ON l.directory = d.id ORDER BY 1, 2, 3;
SELECT sop_instance_uid, s.digest, pool, path FROM set_aside s JOIN directory d ON s.directory = d.id ORDER BY 1, 2;
SELECT i.sop_instance_uid, ae_title FROM instance i JOIN station s ON i.station = s.id ORDER BY 1
"""


def content(database: Path) -> list[list[tuple[object, ...]]]:
    """What an index says, without numbers of rows and times."""
    connection = sqlite3.connect(database)
    try:
        return [connection.execute(query).fetchall() for query in _QUERIES.split(";")]
    finally:
        connection.close()


@pytest.fixture
def config(pacsd, new_site, tmp_path) -> Path:
    """A site with samples, two objects under one UID, and more."""
    config = new_site()
    samples(tmp_path / "samples")
    made(tmp_path / "more", 20, 200)
    for name, n_bytes in (("first", 100), ("second", 200)):
        (tmp_path / name).write_bytes(file_meta("1.9") + dataset("1.9", n_bytes))
        assert pacsd("import", tmp_path / name, "--config", config).returncode == os.EX_OK
        time.sleep(0.02)
    assert pacsd("import", tmp_path / "samples", tmp_path / "more", "--config", config).returncode == os.EX_OK
    return config


def test_an_index_made_from_the_pools_alone_says_the_same(pacsd, config):
    before = content(config.parent / "index.sqlite")
    files = pool_files(config.parent)
    for file in config.parent.glob("index.sqlite*"):
        file.unlink()
    done = pacsd("index", "rebuild", "--config", config)
    assert done.returncode == os.EX_OK, done.stderr
    assert content(config.parent / "index.sqlite") == before
    assert pool_files(config.parent) == files
    assert pacsd("verify", "--config", config).returncode == os.EX_OK
    assert pacsd("index", "check", "--config", config).returncode == os.EX_OK


def test_it_is_refused_over_a_database_that_holds_instances(pacsd, config):
    done = pacsd("index", "rebuild", "--config", config)
    assert done.returncode == os.EX_CANTCREAT
    assert "--into" in done.stderr


def test_another_database_can_be_made(pacsd, config, tmp_path):
    other = tmp_path / "other.sqlite"
    assert pacsd("index", "rebuild", "--into", f"sqlite:///{other}", "--config", config).returncode == os.EX_OK
    assert content(other) == content(config.parent / "index.sqlite")


def test_force_adds_what_is_lacking_and_doubles_nothing(pacsd, config):
    before = content(config.parent / "index.sqlite")
    assert pacsd("index", "rebuild", "--force", "--config", config).returncode == os.EX_OK
    assert content(config.parent / "index.sqlite") == before


def test_damaged_files_are_left_out_and_told(pacsd, config, tmp_path):
    damaged = pool_files(config.parent)[0]
    damaged.chmod(0o640)
    damaged.write_bytes(b"torn")
    done = pacsd("index", "rebuild", "--into", f"sqlite:///{tmp_path}/other.sqlite", "--config", config)
    assert done.returncode == 1
    assert "1 damaged" in done.stderr
    assert damaged.exists()


@pytest.mark.crash
def test_a_rebuild_killed_in_its_middle_goes_on_where_it_was(pacsd, new_site, tmp_path):
    config = new_site()
    for number in range(4):
        made(tmp_path / f"{number}" / "a", 1)
        for at in range(150):
            uid = f"1.{number}.{at}"
            (tmp_path / f"{number}" / f"{at}").write_bytes(file_meta(uid) + dataset(uid, 20_000))
        pacsd("import", tmp_path / f"{number}", "--config", config)
    before = content(config.parent / "index.sqlite")
    for file in config.parent.glob("index.sqlite*"):
        file.unlink()
    mark = config.parent / "index-rebuild.json"
    with subprocess.Popen([*PACSD, "index", "rebuild", "--config", str(config)]) as process:
        end = time.monotonic() + 20
        while not mark.exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    done_before = json.loads(mark.read_text())["directory"]
    done = pacsd("index", "rebuild", "--config", config)
    assert done.returncode == os.EX_OK, done.stderr
    assert int(done.stdout.split()[0]) < len(pool_files(config.parent))
    assert content(config.parent / "index.sqlite") == before
    assert done_before
    assert not mark.exists()


def test_a_pool_that_is_away_stops_it(pacsd, config, tmp_path):
    (config.parent / "images").rename(config.parent / "away")
    (config.parent / "images").mkdir()
    done = pacsd("index", "rebuild", "--into", f"sqlite:///{tmp_path}/other.sqlite", "--config", config)
    assert done.returncode == os.EX_TEMPFAIL
    assert "not mounted?" in done.stderr


def test_upgrade_makes_the_schema_and_may_be_repeated(pacsd, config):
    for file in config.parent.glob("index.sqlite*"):
        file.unlink()
    assert pacsd("index", "check", "--config", config).returncode == 1
    assert pacsd("index", "upgrade", "--config", config).returncode == os.EX_OK
    assert "already" in pacsd("index", "upgrade", "--config", config).stdout
    assert pacsd("index", "check", "--config", config).returncode == os.EX_OK


def test_check_finds_counts_that_are_wrong(pacsd, config):
    connection = sqlite3.connect(config.parent / "index.sqlite")
    with connection:
        connection.execute("UPDATE series SET n_instances = n_instances + 1 WHERE id = (SELECT min(id) FROM series)")
    connection.close()
    done = pacsd("index", "check", "--config", config)
    assert done.returncode == 1
    assert "1 series" in done.stderr
