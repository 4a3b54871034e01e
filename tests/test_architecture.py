"""The floors and fences of docs/architecture.md, read from the source."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pacsd"
SOURCES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 400

ROLES = ("dicom", "hl7", "web", "archiver", "replica")
FENCES = {
    "twisted": ("runtime", *ROLES, "cli/twistd"),
    "zope": ("runtime", *ROLES),
    "sqlalchemy": ("index", "archiver/catalogue"),
    "alembic": ("index", "archiver/catalogue"),
    "psycopg2": ("index", "archiver/catalogue"),
    # model/dictionary.py looks into pydicom's data dictionary, which is a table; its parser stays out
    "pydicom": ("storage", "dicom", "archiver", "model/dictionary.py"),
    "pynetdicom": ("dicom",),
    "imagecodecs": ("storage",),
    "openjpeg": ("storage",),
    "rle": ("storage",),
    "jpeg_ls": ("storage",),
    "numpy": ("storage",),
    "jellyfish": ("model", "index"),
    "jinja2": ("web",),
    "hl7": ("hl7",),
    "prometheus_client": ("runtime", "web"),
    "ldap": ("identity",),
    "pyudev": ("archiver/devices",),
}
"""Third-party package → where in pacsd/ it may be imported."""

GATES = {("model/dictionary.py", "pydicom.datadict")}
"""What passes a fence, file and module. pydicom's data dictionary is a table of PS3.6, not its parser; the model names
tags by it, and loads it only when one is asked for that its own small table lacks."""

PURE = ("os", "random", "secrets", "logging", "time", "socket", "threading", "asyncio", "subprocess")
"""What `wire/` and `model/` do without: time and chance come in as arguments."""


def imports_of(source: Path) -> Iterator[tuple[int, str]]:
    """Give each import of a file: line, dotted name; relative ones are made absolute."""
    package = ["pacsd", *source.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, node.module] if node.module else base)
            # `from pacsd.index import database` names a module, `from os import path` an attribute: both are told.
            yield node.lineno, stem
            yield from ((node.lineno, f"{stem}.{alias.name}") for alias in node.names)


def breaches(sources: list[Path], is_breach) -> list[str]:
    """List imports that break a rule, as `file:line name`."""
    found = {
        f"{source.relative_to(ROOT)}:{line} imports {name}"
        for source in sources
        for line, name in imports_of(source)
        if is_breach(source.relative_to(PACKAGE), name)
    }
    return sorted(found)


def within(name: str, packages) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def test_each_floor_imports_only_from_below():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_wire_imports_nothing_of_ours_but_model_and_itself():
    def is_breach(source: Path, name: str) -> bool:
        own = f"pacsd.{source.parts[0]}.wire"
        # `from pacsd.dicom.wire import x` also names the parents.
        return within(name, ["pacsd"]) and not within(name, ["pacsd.model", own])

    wire = [source for source in SOURCES if "wire" in source.relative_to(PACKAGE).parts]
    assert breaches(wire, is_breach) == []


@pytest.mark.parametrize("room", ["model", "wire"])
def test_model_and_wire_have_no_reactor_clock_chance_or_log(room):
    sources = [source for source in SOURCES if room in source.relative_to(PACKAGE).parts]
    assert sources
    assert breaches(sources, lambda _, name: within(name, [*PURE, "twisted"])) == []


@pytest.mark.parametrize("package", FENCES)
def test_third_party_package_stays_behind_its_fence(package):
    def is_breach(source: Path, name: str) -> bool:
        if any(str(source) == file and within(name, [module]) for file, module in GATES):
            return False
        return within(name, [package]) and not any(source.is_relative_to(room) for room in FENCES[package])

    assert breaches(SOURCES, is_breach) == []


def test_the_dictionary_is_loaded_only_when_a_rare_tag_is_asked_for():
    program = (
        "import sys; from pacsd.model.dictionary import vr_of; assert vr_of(0x00100010) == 'PN';"
        "assert 'pydicom' not in sys.modules; assert vr_of(0x00280030) == 'DS'; assert 'pydicom' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_third_party_package_comes_in_unnoticed():
    known = {*sys.stdlib_module_names, "pacsd", *FENCES}
    assert breaches(SOURCES, lambda _, name: name.partition(".")[0] not in known) == []


def test_every_file_fits_in_a_reader_s_head():
    sources = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]
    lengths = {
        str(source.relative_to(ROOT)): len(source.read_text(encoding="utf-8").splitlines()) for source in sources
    }
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_a_package_s_init_holds_only_its_docstring():
    def is_plain(source: Path) -> bool:
        body = ast.parse(source.read_text(encoding="utf-8")).body
        return len(body) == 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)

    inits = [source for source in SOURCES if source.name == "__init__.py" and source.parent != PACKAGE]
    assert [str(source.relative_to(ROOT)) for source in inits if not is_plain(source)] == []


def test_every_declared_dependency_is_argued_in_the_manual():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options"]["install_requires"] + setup["options.extras_require"]["test"]
    declared = {re.split(r"[\[<>=]", line)[0] for line in lines.split() if line[0].isalpha() and ">=" in line}
    argued = set(re.findall(r"`([a-z0-9-]+)(?:\[[a-z]+\])?`", (ROOT / "docs" / "dependencies.md").read_text("utf-8")))
    assert declared - argued == set()
