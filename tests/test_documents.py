"""What the manual says of the code, read from the code."""

from __future__ import annotations

import dataclasses
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SOURCES = sorted((ROOT / "pacsd").rglob("*.py"))
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "s": 1}
# `log.info("event"`, `told("event" if … else "event"`, `give_up("event"`
EVENT = re.compile(r'\b(?:log\.(?:info|warning|error)|told|_give_up)\(\s*"([a-z][a-z-]+)"(?: if \w+ else "([a-z-]+)")?')
METRIC = re.compile(r'metrics\.(?:counter|gauge|histogram)\(\s*"(pacsd_[a-z_]+)"')


def rows(document: str, heading: str) -> list[list[str]]:
    """The cells of the tables below a heading."""
    text = (DOCS / document).read_text("utf-8").split(f"\n{heading}\n", 1)[1]
    text = re.split(rf"\n#{{1,{heading.index(' ')}}} ", text, maxsplit=1)[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {at + step for at, line in enumerate(lines) if line.startswith("|---") for step in (-1, 0)}
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for at, line in enumerate(lines) if at not in heads]


def code_value(dotted: str):
    """The value of a constant, or the default of a dataclass's field."""
    module_name, _, name = dotted.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), name)
    except ModuleNotFoundError:
        owner, _, class_name = module_name.rpartition(".")
        fields = dataclasses.fields(getattr(importlib.import_module(owner), class_name))
        return next(field.default for field in fields if field.name == name)


BOUNDS = rows("architecture.md", "## Back-pressure and bounds")


@pytest.mark.parametrize("row", BOUNDS, ids=lambda row: row[2].strip("`").removeprefix("pacsd."))
def test_a_bound_in_the_manual_is_the_code_s(row):
    number, _, unit = row[1].partition(" ")
    assert code_value(row[2].strip("`")) == int(number) * UNITS.get(unit, 1)


def test_every_event_that_is_logged_is_explained_to_the_technician():
    logged = set()
    for source in SOURCES:
        for one, other in EVENT.findall(source.read_text("utf-8")):
            logged |= {one, other} - {""}
    assert {"store-refused", "commitment-report-given-up", "peer-idle"} <= logged
    explained = {word for row in rows("operations.md", "## Log") for word in re.findall(r"`([a-z-]+)`", row[0])}
    assert logged - explained == set()
    assert explained - logged <= {"unhandled-error", "twisted"}


def test_every_metric_is_explained():
    counted = {name for source in SOURCES for name in METRIC.findall(source.read_text("utf-8"))}
    explained = {re.findall(r"`(pacsd_[a-z_]+)", row[0])[0] for row in rows("operations.md", "## Metrics")}
    assert {name.removesuffix("_total") for name in counted} <= {name.removesuffix("_total") for name in explained}


@pytest.mark.parametrize("document", ["../README.md", *sorted(path.name for path in DOCS.glob("*.md"))])
def test_links_lead_to_files(document):
    source = DOCS / document
    text = source.read_text("utf-8")
    targets = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [target for target in targets if target and not (source.parent / target).exists()] == []


def test_every_command_in_the_manual_is_one_that_the_parser_takes():
    text = (DOCS / "operations.md").read_text("utf-8") + (ROOT / "README.md").read_text("utf-8")
    told = set(re.findall(r"^ {4}(?:\S*/)?pacsd ([a-z-]+)(?: ([a-z-]+))?", text, re.MULTILINE))
    assert {("verify", ""), ("peer", "add"), ("index", "rebuild")} <= told
    for verb, action in told:
        words = [verb, action] if action and verb in {"peer", "pool", "index", "conflicts"} else [verb]
        done = subprocess.run(
            [sys.executable, "-m", "pacsd.cli.main", *words, "--help"], capture_output=True, check=False
        )
        assert done.returncode == 0, words
