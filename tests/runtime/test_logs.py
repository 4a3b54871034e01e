from __future__ import annotations

import io
import json
import logging

import pytest
from twisted.logger import Logger as TwistedLogger
from twisted.python.failure import Failure

from pacsd.model.errors import OutOfResources
from pacsd.runtime import logs


@pytest.fixture
def started(monkeypatch):
    """Start the log on a text buffer and put the root logger back afterwards."""
    root, manager = logging.getLogger(), logging.Logger.manager
    names = ("pacsd", "twisted", "pydicom", "pynetdicom", "hl7", "py.warnings")
    before = (list(root.handlers), root.level, {name: logging.getLogger(name).level for name in names})
    monkeypatch.setattr("warnings.simplefilter", lambda *_: None)

    def start(level: str, line_format: str) -> io.StringIO:
        stream = io.StringIO()
        logs.start("dicom-1", level, line_format, stream)
        return stream

    yield start
    logging.captureWarnings(False)
    root.handlers[:], root.level = before[0], before[1]
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)
    manager._clear_cache()


def lines_of(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_event_is_one_line_of_json_with_its_fields(started):
    stream = started("info", "json")
    logs.get_logger("pacsd.x").info("association-accepted", peer="CT\n1", n_contexts=3, level="mine")
    (line,) = lines_of(stream)
    assert line["event"] == "association-accepted"
    assert (line["peer"], line["n_contexts"], line["process"]) == ("CT\n1", 3, "dicom-1")
    assert line["level"] == "info", "a field can't take the place of what every line has"
    assert list(line)[:3] == ["at", "level", "event"]


def test_one_event_is_one_line_of_text(started):
    stream = started("info", "text")
    logs.get_logger("pacsd.x").warning("odd", text="two\nlines", n=1)
    assert stream.getvalue().count("\n") == 1
    assert 'odd text="two\\nlines" n=1' in stream.getvalue()


@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_what_identifies_a_patient_is_withheld_above_debug(started, level):
    stream = started("debug", "json")
    getattr(logs.get_logger("pacsd.x"), level)("stored", patient_id="4711", PatientName="Doe^John", birth_date="1970")
    assert not any(secret in stream.getvalue() for secret in ("4711", "Doe", "1970"))


def test_debug_may_show_a_patient(started):
    stream = started("debug", "json")
    logs.get_logger("pacsd.x").debug("stored", patient_id="4711")
    assert lines_of(stream)[0]["patient_id"] == "4711"


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_an_error_is_told_by_type_and_place_without_a_text_that_may_quote_data(started):
    stream = started("info", "json")
    logs.get_logger("pacsd.x").error("failed", error=raised(ValueError("Doe^John")))
    (line,) = lines_of(stream)
    assert line["error"] == "ValueError"
    assert "test_logs.py" in line["frames"][0]
    assert "Doe" not in stream.getvalue()


def test_texts_of_our_own_errors_and_the_system_s_are_told(started):
    stream = started("info", "json")
    log = logs.get_logger("pacsd.x")
    log.error("failed", error=raised(OutOfResources("disk full")))
    log.error("failed", error=raised(OSError(28, "No space left on device", "/secret/Doe")))
    first, second = lines_of(stream)
    assert (first["cause"], second["cause"]) == ("disk full", "No space left on device")
    assert "Doe" not in stream.getvalue()


def test_libraries_that_quote_data_sets_are_silent_above_debug(started):
    stream = started("info", "json")
    logging.getLogger("pynetdicom.dimse").error("PatientName Doe")
    logging.getLogger("pydicom").warning("Doe")
    logging.getLogger("py.warnings").warning("Doe")
    assert stream.getvalue() == ""


def test_below_the_level_nothing_is_written(started):
    stream = started("warning", "json")
    logs.get_logger("pacsd.x").info("ready")
    assert stream.getvalue() == ""


def test_long_values_are_cut(started):
    stream = started("info", "json")
    logs.get_logger("pacsd.x").info("x", text="a" * 100_000, many=["b" * 9000] * 1000)
    assert len(stream.getvalue()) < 200_000


def test_what_twisted_logs_comes_in_the_same_lines_without_its_values(started):
    stream = started("info", "json")
    twisted = TwistedLogger(namespace="twisted.web", observer=logs.twisted_observer)
    twisted.info("factory started")
    twisted.error("bad {name}", name="Doe")
    twisted.failure("while answering", failure=Failure(raised(KeyError("Doe"))))
    first, second = lines_of(stream)
    assert (first["level"], first["text"], first["source"]) == ("error", "bad {name}", "twisted.web")
    assert (second["event"], second["error"]) == ("unhandled-error", "KeyError")
    assert "Doe" not in stream.getvalue()
