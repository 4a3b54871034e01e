from __future__ import annotations

import hashlib
import json
import os
import stat

from pacsd.config.load import load


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_empty_site_is_made_with_the_settings_asked_for(pacsd, tmp_path):
    state = tmp_path / "s"
    done = pacsd(
        "init", "--state", state, "--ae-title", "PACS1", "--dicom-port", 104, "--web-port", 81, "--hl7-port", 82,
        "--workers", 2, "--json",
    )  # fmt: skip
    assert done.returncode == os.EX_OK, done.stderr
    told = json.loads(done.stdout)
    config = load(told["config"])
    assert (config.site.ae_title, config.dicom.port, config.web.port, config.hl7.port) == (
        "PACS1",
        104,
        81,
        82,
    )
    assert config.dicom.workers == 2
    assert config.dicom.unknown_peers == "reject"
    assert config.storage.pools[0].path.is_dir()
    assert (state / "index.sqlite").exists()


def test_open_is_for_trials_on_loopback(pacsd, tmp_path):
    assert pacsd("init", "--state", tmp_path / "s", "--open").returncode == os.EX_OK
    config = load(tmp_path / "s" / "pacsd.toml")
    assert (config.dicom.unknown_peers, config.dicom.bind, config.web.bind) == (
        "accept",
        "127.0.0.1",
        "127.0.0.1",
    )


def test_nobody_else_can_read_configuration_and_secrets(pacsd, tmp_path):
    pacsd("init", "--state", tmp_path / "s", umask=0)
    modes = {name: mode(tmp_path / "s" / name) for name in ("", "pacsd.toml", "run", "secrets", "secrets/admin.json")}
    assert modes == {
        "": 0o750,
        "pacsd.toml": 0o640,
        "run": 0o700,
        "secrets": 0o700,
        "secrets/admin.json": 0o600,
    }


def test_the_password_is_shown_once_and_kept_as_a_hash(pacsd, tmp_path):
    told = json.loads(pacsd("init", "--state", tmp_path / "s", "--json").stdout)
    kept = (tmp_path / "s" / "secrets" / "admin.json").read_text("utf-8")
    assert told["password"] not in kept
    record = json.loads(kept)
    how = record["scrypt"]
    digest = hashlib.scrypt(
        told["password"].encode(),
        salt=bytes.fromhex(how["salt"]),
        n=how["n"],
        r=how["r"],
        p=how["p"],
        dklen=32,
    )
    assert (record["user"], digest.hex()) == (told["user"], how["hash"])


def test_a_site_that_exists_is_left_alone_and_it_is_said_what_to_do(pacsd, tmp_path):
    pacsd("init", "--state", tmp_path / "s")
    before = (tmp_path / "s" / "secrets" / "admin.json").read_bytes()
    done = pacsd("init", "--state", tmp_path / "s")
    assert done.returncode == os.EX_CANTCREAT
    assert "pacsd run --config" in done.stderr
    assert (tmp_path / "s" / "secrets" / "admin.json").read_bytes() == before


def test_an_interrupted_init_can_be_run_again(pacsd, tmp_path):
    pacsd("init", "--state", tmp_path / "s")
    (tmp_path / "s" / "pacsd.toml").unlink()
    assert pacsd("init", "--state", tmp_path / "s").returncode == os.EX_OK


def test_arguments_that_are_wrong_together_make_nothing(pacsd, tmp_path):
    done = pacsd("init", "--state", tmp_path / "s", "--dicom-port", 8080, "--ae-title", "X" * 17)
    assert done.returncode == os.EX_CONFIG
    assert "site.ae_title" in done.stderr
    assert not (tmp_path / "s").exists()


def test_a_folder_that_cannot_be_made_is_said_so(pacsd, tmp_path):
    (tmp_path / "file").write_text("")
    done = pacsd("init", "--state", tmp_path / "file" / "s")
    assert done.returncode == os.EX_CANTCREAT
    assert "Not a directory" in done.stderr
