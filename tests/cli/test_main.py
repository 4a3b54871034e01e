from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pacsd.cli.main import verbs


def test_help_names_every_verb_and_shows_examples(pacsd):
    done = pacsd("--help")
    assert done.returncode == 0
    assert "pacsd init --state" in done.stdout
    names = [module.__name__.rpartition(".")[2].strip("_") for module in verbs()]
    assert {"init", "run", "check", "demo"} <= set(names)
    lines = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ")}
    assert {name.replace("_", "-") for name in names} <= lines


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("init",), ("init", "--state", "x", "--web-port", "0")])
def test_wrong_usage_ends_with_64_and_says_what_is_wrong(pacsd, arguments):
    done = pacsd(*arguments)
    assert done.returncode == os.EX_USAGE
    assert done.stderr.startswith("usage:")


def test_check_reports_every_mistake_and_ends_with_78(pacsd, tmp_path):
    path = tmp_path / "pacsd.toml"
    path.write_text('[dicom]\nport = "x"\nwrokers = 2\n')
    done = pacsd("check", "--config", path)
    assert done.returncode == os.EX_CONFIG
    assert "dicom.port" in done.stderr
    assert "dicom.wrokers" in done.stderr


def test_check_finds_a_pool_whose_folder_is_missing(pacsd, tmp_path):
    path = tmp_path / "pacsd.toml"
    path.write_text('[[storage.pools]]\nname = "a"\npath = "none"\n')
    done = pacsd("check", "--config", path)
    assert done.returncode == os.EX_CONFIG
    assert "storage.pools[0].path" in done.stderr


def test_check_of_a_new_site_finds_nothing(pacsd, new_site):
    config = new_site()
    done = pacsd("check", "--config", config)
    assert (done.returncode, done.stdout) == (os.EX_OK, f"{config}: correct\n")


def test_the_configuration_is_found_by_the_environment(pacsd, new_site):
    done = pacsd("check", env={**os.environ, "PACSD_CONFIG": str(new_site())})
    assert done.returncode == os.EX_OK


@pytest.mark.parametrize("verb", ["run", "check", "init", "demo"])
def test_a_verb_is_ready_without_the_libraries_of_others(verb):
    heavy = ("twisted.internet.reactor", "sqlalchemy", "numpy", "pydicom", "pynetdicom")
    code = f"import sys, pacsd.cli.main as m; m.make_parser({verb!r}); print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
