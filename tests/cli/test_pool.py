"""`pacsd pool` as users run it."""

from __future__ import annotations

import json
import os
import stat

import pytest

from pacsd.config.load import load
from tests.cli.files_made import made, pool_files


@pytest.fixture
def config(new_site):
    return new_site()


def test_pools_are_listed_with_state_space_and_number_of_files(pacsd, config, tmp_path):
    made(tmp_path / "cd", 3)
    pacsd("import", tmp_path / "cd", "--config", config)
    (row,) = json.loads(pacsd("pool", "list", "--json", "--config", config).stdout)
    assert (row["name"], row["state"], row["n_files"]) == ("images", "online", 3)
    assert row["free_gb"] >= 0
    assert "3 files" in pacsd("pool", "list", "--config", config).stdout


def test_a_pool_that_is_no_longer_configured_is_still_told(pacsd, config, tmp_path):
    made(tmp_path / "cd", 1)
    pacsd("import", tmp_path / "cd", "--config", config)
    config.write_text(config.read_text().replace('name = "images"', 'name = "renamed"'))
    rows = {row["name"]: row for row in json.loads(pacsd("pool", "list", "--json", "--config", config).stdout)}
    assert (rows["images"]["state"], rows["images"]["n_files"]) == ("failed", 1)
    assert rows["renamed"]["state"] == "failed"


def test_add_makes_a_pool_that_takes_objects_and_keeps_the_file_as_it_was(pacsd, config, tmp_path):
    config.chmod(0o600)
    before = config.read_text()
    done = pacsd("pool", "add", "second", "second-disk", "--config", config, cwd=tmp_path)
    assert done.returncode == os.EX_OK, done.stderr
    assert "Restart" in done.stdout
    assert config.read_text().startswith(before)
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert [pool.name for pool in load(config).storage.pools] == ["images", "second"]
    assert (tmp_path / "second-disk" / "pacsd-pool.toml").exists()
    pacsd("pool", "read-only", "images", "on", "--config", config)
    made(tmp_path / "cd", 1)
    assert pacsd("import", tmp_path / "cd", "--config", config).returncode == os.EX_OK
    assert pool_files(config.parent) == []
    assert len(list((tmp_path / "second-disk" / "objects").rglob("*.dcm"))) == 1


@pytest.mark.parametrize(
    ("name", "path", "status"),
    [("images", "elsewhere", os.EX_CONFIG), ("Bad Name", "elsewhere", os.EX_CONFIG), ("b", "taken", os.EX_CANTCREAT)],
)
def test_add_changes_nothing_when_it_cannot_be_done(pacsd, config, tmp_path, name, path, status):
    (tmp_path / "taken").write_text("a file")
    before = config.read_bytes()
    assert pacsd("pool", "add", name, tmp_path / path, "--config", config).returncode == status
    assert config.read_bytes() == before
    assert not (tmp_path / "elsewhere").exists()


def test_read_only_is_set_and_taken_back_and_comments_stay(pacsd, config):
    config.write_text(config.read_text().replace('name = "images"', 'name = "images"  # the first array'))
    before = config.read_text()
    pacsd("pool", "read-only", "images", "on", "--config", config)
    assert load(config).storage.pools[0].read_only
    assert "# the first array" in config.read_text()
    pacsd("pool", "read-only", "images", "off", "--config", config)
    assert not load(config).storage.pools[0].read_only
    changed = set(config.read_text().splitlines()) ^ set(before.splitlines())
    assert changed <= {"read_only = true", "read_only = false"}
    assert pacsd("pool", "read-only", "typo", "on", "--config", config).returncode == os.EX_USAGE


def test_check_tells_a_pool_that_cannot_be_used(pacsd, config):
    assert pacsd("pool", "check", "--config", config).returncode == os.EX_OK
    (config.parent / "images" / "pacsd-pool.toml").unlink()
    done = pacsd("pool", "check", "--config", config)
    assert done.returncode == 1
    assert "not mounted?" in done.stdout
