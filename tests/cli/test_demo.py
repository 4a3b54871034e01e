from __future__ import annotations

from pathlib import Path

from pacsd.cli.demo import sample_files, welcome
from pacsd.config.load import parse


def test_the_samples_are_real_files_of_several_modalities():
    names = {path.name for path in sample_files()}
    assert {"CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "examples_rgb_color.dcm"} <= names
    assert len(names) >= 10


def test_the_commands_shown_fit_the_site():
    config = parse({"site": {"ae_title": "P1"}, "dicom": {"port": 104}, "web": {"port": 81}}, Path("/s/pacsd.toml"))
    text = welcome(config, "admin / secret")
    assert "echoscu -aec P1 127.0.0.1 104" in text
    assert "http://127.0.0.1:81/" in text
    assert "admin / secret" in text
    for tool in ("storescu", "findscu", "movescu", "peer add"):
        assert tool in text
