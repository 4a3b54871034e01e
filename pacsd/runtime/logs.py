"""One event a line: JSON for the journal and files, readable on a terminal.

`log.info("association-accepted", peer="CT1", n_contexts=12)`: the event is a fixed word that a technician
can search for, everything else is a field. What identifies a patient is withheld above debug level, by
field name, and so are the texts of errors that aren't ours: a library's message may quote a data set.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from twisted.logger import ILogObserver, LogLevel, formatEvent
from zope.interface import provider

from pacsd.model.errors import PacsError

_FIELDS = "pacsd_fields"
_MAX_TEXT = 2000
_MAX_FRAMES = 20
_WITHHELD = "[withheld]"
_PATIENT_WORDS = ("patient", "birth", "accession", "person", "dataset", "identifier")
_QUOTES_DATASETS = ("pydicom", "pynetdicom", "hl7", "py.warnings")
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "41"}


class Log:
    """A named source of events. Thread: any."""

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, **fields: object) -> None:
        """Log for the one who looks for a fault; the only level that may show a patient."""
        self._emit(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Log what happens in the normal course."""
        self._emit(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log what somebody should look at some day."""
        self._emit(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Log what failed; give the exception as `error=`."""
        self._emit(logging.ERROR, event, fields)

    def _emit(self, level: int, event: str, fields: Mapping[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, extra={_FIELDS: fields})


def get_logger(name: str) -> Log:
    """Return the source of events of a module; call it with `__name__`."""
    return Log(logging.getLogger(name))


def describe_error(error: BaseException, *, open_text: bool) -> dict[str, object]:
    """Say what failed and where without quoting data.

    Args:
        open_text: Whether the error's own text may be shown whatever it is (debug level).

    Returns:
        `error` (the type), `cause` (the text, if it is one of ours or the operating system's), `frames` (
        innermost first, `file:line function`).
    """
    frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
    told: dict[str, object] = {"error": type(error).__name__}
    if open_text or isinstance(error, (PacsError, ImportError)):
        told["cause"] = str(error)[:_MAX_TEXT]
    elif isinstance(error, OSError):
        # str() of one with a number would show a file name too.
        told["cause"] = (error.strerror or str(error))[:_MAX_TEXT]
    if frames:
        told["frames"] = [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in reversed(frames)]
    return told


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-3:])


def _fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Collect the fields of a record, bounded and without patients above debug."""
    debug = record.levelno <= logging.DEBUG
    told: dict[str, object] = {}
    for key, value in getattr(record, _FIELDS, {}).items():
        if isinstance(value, BaseException):
            told.update(describe_error(value, open_text=debug))
        elif not debug and any(word in key.lower() for word in _PATIENT_WORDS):
            told[key] = _WITHHELD
        elif isinstance(value, (bool, int, float)) or value is None:
            told[key] = value
        elif isinstance(value, (list, tuple)):
            told[key] = [str(item)[:_MAX_TEXT] for item in value[:50]]
        else:
            told[key] = str(value)[:_MAX_TEXT]
    if record.exc_info and record.exc_info[1] is not None:
        told.update(describe_error(record.exc_info[1], open_text=debug))
    return told


class JsonLines(logging.Formatter):
    """One JSON object a line: `at`, `level`, `event`, `process`, `log`, then the event's fields."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Make the line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage()[:_MAX_TEXT],
            "process": self._process,
            "log": record.name,
        }
        fields = _fields_of(record)
        # Twice: the fixed keys come first in the line, and no field may take their place.
        return json.dumps({**line, **fields, **line}, ensure_ascii=False)


class TextLines(logging.Formatter):
    """A line for a person: local time, level, process, event, fields as `key=value`."""

    def __init__(self, process: str, *, colour: bool) -> None:
        super().__init__()
        self._process = process
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Make the line."""
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        level = record.levelname.lower()
        shown = f"\x1b[{_COLOURS.get(level, '0')}m{level:7}\x1b[0m" if self._colour else f"{level:7}"
        event = _one_line(record.getMessage()[:_MAX_TEXT])
        fields = "".join(f" {key}={_one_line(value)}" for key, value in _fields_of(record).items())
        return f"{at} {shown} {self._process:8} {event}{fields}"


def _one_line(value: object) -> str:
    text = " < ".join(str(item) for item in value) if isinstance(value, list) else str(value)
    return json.dumps(text, ensure_ascii=False) if not text.isprintable() or " " in text[:40] else text


def start(process: str, level: str = "info", line_format: str = "auto", stream: TextIO | None = None) -> None:
    """Send all events of this process to one stream. Called once, before anything is logged.

    Args:
        process: `dicom-1`, `web`, …
        level: `debug` | `info` | `warning` | `error`.
        line_format: `auto` | `json` | `text`.
        stream: Default: standard error as it was when the process began.
    """
    stream = stream or sys.__stderr__ or sys.stderr
    terminal = stream.isatty()
    as_text = line_format == "text" or (line_format == "auto" and terminal)
    lines = logging.StreamHandler(stream)
    lines.setFormatter(TextLines(process, colour=terminal) if as_text else JsonLines(process))
    root = logging.getLogger()
    root.handlers[:] = [lines]
    chosen = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(chosen, logging.WARNING) if chosen > logging.DEBUG else chosen)
    for name in ("pacsd", "twisted"):
        logging.getLogger(name).setLevel(chosen)
    for name in _QUOTES_DATASETS:
        logging.getLogger(name).setLevel(chosen if chosen <= logging.DEBUG else logging.CRITICAL + 1)
    logging.captureWarnings(True)
    warnings.simplefilter("default" if chosen <= logging.DEBUG else "ignore")


_FROM_TWISTED = {
    # What Twisted calls information (a factory started, a port closed) is for the one who looks for a fault.
    LogLevel.debug: logging.DEBUG,
    LogLevel.info: logging.DEBUG,
    LogLevel.warn: logging.WARNING,
    LogLevel.error: logging.ERROR,
    LogLevel.critical: logging.ERROR,
}


@provider(ILogObserver)
def twisted_observer(event: Mapping[str, Any]) -> None:
    """Pass what Twisted logs on to the same lines; also usable as `twistd --logger`."""
    level = _FROM_TWISTED[event.get("log_level", LogLevel.info)]
    logger = logging.getLogger("twisted")
    if not logger.isEnabledFor(level):
        return
    fields: dict[str, object] = {"source": event.get("log_namespace", "")}
    failure = event.get("log_failure")
    if failure is not None:
        fields["failure"] = failure.value
        word = "unhandled-error"
    else:
        word = "twisted"
        fields["text"] = formatEvent(dict(event)) if level <= logging.DEBUG else _safe_text(event)
    logger.log(level, "%s", word, extra={_FIELDS: fields})


def _safe_text(event: Mapping[str, Any]) -> str:
    """Return the fixed words of a Twisted event, without the values filled into them."""
    return str(event.get("log_format") or event.get("format") or "")
