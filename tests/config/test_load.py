from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pacsd.config.load import ConfigError, load, parse


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        path = tmp_path / "pacsd.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems_of(path) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return {problem.key: problem.advice for problem in caught.value.problems}


def test_an_empty_file_is_a_whole_site_with_the_documented_defaults(write, tmp_path):
    config = load(write(""))
    assert (config.site.ae_title, config.dicom.port, config.web.port, config.hl7.port) == (
        "PACSD",
        11112,
        8080,
        2575,
    )
    assert config.dicom.unknown_peers == "reject"
    assert config.state == tmp_path
    assert config.database_url == f"sqlite:///{tmp_path}/index.sqlite"


def test_all_mistakes_are_reported_at_once_each_with_its_key(write):
    found = problems_of(
        write("""
        [dicom]
        prot = 104
        port = "104"
        workers = true
        unknown_peers = "maybe"
        ae_titles = ["GOOD", "ALTOGETHERTOOLONG"]
        [wbe]
        [web]
        port = 70000
        [[storage.pools]]
        name = "No Such Name"
        """)
    )
    assert set(found) == {
        "dicom.prot", "dicom.port", "dicom.workers", "dicom.unknown_peers", "dicom.ae_titles[1]", "wbe", "web.port",
        "storage.pools[0].name", "storage.pools[0].path",
    }  # fmt: skip


def test_an_unknown_key_is_an_error_that_names_the_likely_one(write):
    assert "'port'" in problems_of(write("[dicom]\nprot = 104"))["dicom.prot"]


def test_a_wrong_value_is_told_what_is_right(write):
    found = problems_of(write('[dicom]\nport = 0\nunknown_peers = "x"\nidle_timeout_s = nan'))
    assert "from 1 to 65535" in found["dicom.port"]
    assert "accept, echo, reject" in found["dicom.unknown_peers"]
    assert "from 1 to 86400" in found["dicom.idle_timeout_s"]


def test_paths_are_relative_to_the_file_wherever_the_process_runs(write, tmp_path, monkeypatch):
    path = write('[site]\nstate = "s"\ndatabase = "sqlite:///db/x.sqlite"\n[[storage.pools]]\nname = "a"\npath = "p"')
    monkeypatch.chdir("/")
    config = load(path)
    assert config.state == tmp_path / "s"
    assert config.storage.pools[0].path == tmp_path / "p"
    assert config.database_url == f"sqlite:///{tmp_path}/db/x.sqlite"


def test_two_roles_on_one_port_are_refused_but_not_if_one_is_off(write):
    assert list(problems_of(write("[web]\nport = 11112"))) == ["web.port"]
    assert load(write("[web]\nport = 11112\nenabled = false")).web.enabled is False


def test_two_pools_of_one_name_or_path_are_refused(write):
    text = '[[storage.pools]]\nname = "a"\npath = "p"\n'
    assert set(problems_of(write(text * 2))) == {
        f"storage.pools[{at}].{key}" for at in (0, 1) for key in ("name", "path")
    }


def test_water_marks_that_cross_are_refused(write):
    text = '[[storage.pools]]\nname = "a"\npath = "p"\nhigh_water_percent = 50\nlow_water_percent = 60\n'
    assert list(problems_of(write(text))) == ["storage.pools[0].low_water_percent"]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[dicom", b"a = 1\na = 2"])
def test_a_file_that_is_not_toml_is_one_problem(tmp_path, content):
    path = tmp_path / "pacsd.toml"
    path.write_bytes(content)
    assert list(problems_of(path)) == [""]


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    assert "No such file" in problems_of(tmp_path / "none.toml")[""]


def test_a_password_in_a_wrong_database_url_is_not_shown(write):
    assert "hunter2" not in problems_of(write('[site]\ndatabase = "mysql://u:hunter2@h/d"'))["site.database"]


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_TOML = st.recursive(
    _SCALARS.filter(lambda value: value is not None),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_KEYS = st.sampled_from(["port", "ae_titles", "pools", "state", "name", "path", "workers", "database", "bind"])
_DOCUMENTS = st.dictionaries(
    st.sampled_from(["site", "dicom", "storage", "web", "hl7", "x"]), _TOML | st.dictionaries(_KEYS, _TOML)
)


# the first documents are slow to make, and many are thrown away; neither says anything of what is tested
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(_DOCUMENTS)
def test_whatever_the_document_holds_the_answer_is_a_config_or_config_errors(tmp_path_factory, document):
    source = tmp_path_factory.getbasetemp() / "pacsd.toml"
    try:
        outcome = parse(document, source).source
    except ConfigError as error:
        outcome = error.source if error.problems else None
    assert outcome == source
