from __future__ import annotations

import tomllib
from pathlib import Path

from pacsd.config.load import parse
from pacsd.config.render import example, manual, toml_value

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_shipped_example_is_the_one_the_declarations_give():
    assert (ROOT / "etc" / "pacsd.toml").read_text("utf-8") == example(), (
        "python -m pacsd.config.render > etc/pacsd.toml"
    )


def test_the_example_as_it_stands_is_a_legal_configuration_of_defaults():
    source = Path("/x/pacsd.toml")
    assert parse(tomllib.loads(example()), source) == parse({}, source)


def test_every_line_that_shows_a_default_is_legal_when_uncommented():
    lines = []
    for line in example().splitlines():
        shown = line.removeprefix("# ")
        is_setting = shown.partition(" = ")[0].isidentifier() or shown.startswith("[[")
        lines.append(shown if is_setting and "# default" not in shown else line)
    config = parse(tomllib.loads("\n".join(lines)), Path("/x/pacsd.toml"))
    assert [pool.name for pool in config.storage.pools] == ["images"]


def test_values_given_are_set_and_come_back():
    values = {
        "site": {"ae_title": 'A"B'},
        "storage": {"pools": [{"name": "a", "path": "/p"}, {"name": "b", "path": "q"}]},
    }
    config = parse(tomllib.loads(example(values)), Path("/x/pacsd.toml"))
    assert config.site.ae_title == 'A"B'
    assert [str(pool.path) for pool in config.storage.pools] == ["/p", "/x/q"]


def test_the_manual_lists_every_setting_with_its_limits():
    text = manual()
    assert '| `unknown_peers` | `"reject"` |' in text
    assert "One of: accept, echo, reject." in text
    assert "`[[storage.pools]]`" in text


def test_the_manual_s_page_is_the_one_the_declarations_give():
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert page == manual(), "python -m pacsd.config.render manual > docs/configuration.md"


def test_text_is_written_so_that_toml_reads_it_back():
    for text in ("", 'quote " and \\', "tab\t newline\n", "\x7f\x01", "Ümläut 山田"):
        assert tomllib.loads(f"a = {toml_value(text)}")["a"] == text
