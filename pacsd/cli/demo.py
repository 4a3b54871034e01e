"""`pacsd demo`: a site to try things on, with sample studies and commands to paste; `make run` calls it."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from pacsd.cli.arguments import Subparsers
from pacsd.config.load import load
from pacsd.config.sections import Config
from pacsd.storage.header import read_file_header

_SAMPLES = (
    "CT_small.dcm",
    "MR_small.dcm",
    "examples_rgb_color.dcm",
    "examples_overlay.dcm",
    "examples_palette.dcm",
    "examples_ybr_color.dcm",
    "rtplan.dcm",
    "rtdose.dcm",
    "rtstruct.dcm",
    "reportsi.dcm",
    "waveform_ecg.dcm",
    "JPEG2000.dcm",
    "emri_small.dcm",
)
"""Files of different modalities that pydicom brings along."""


def add_parser(subparsers: Subparsers) -> None:
    """Describe the verb."""
    parser = subparsers.add_parser(
        "demo",
        help="make and run a site to try things on",
        description="Make a site that listens on loopback and lets everybody in, load sample studies, print "
        "commands to paste, and run it. A site that is there already is run as it is.",
    )
    parser.add_argument("--state", type=Path, default=Path("var"), metavar="DIR", help="default: %(default)s")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare what isn't there, then become `pacsd run`."""
    from pacsd.cli.main import main

    target = args.state.absolute() / "pacsd.toml"
    login = "as printed when the site was made"
    if not target.exists():
        workers = str(min(os.cpu_count() or 1, 64))
        told = _output_of(["init", "--state", str(args.state), "--open", "--workers", workers, "--json"])
        if told is None:
            return os.EX_CANTCREAT
        made = json.loads(told)
        login = f"{made['user']} / {made['password']}"
        status = main(["import", "--config", str(target), *(str(path) for path in sample_files())])
        if status != os.EX_OK:
            return status
    print(welcome(load(target), login), flush=True)
    return main(["run", "--config", str(target)])


def _output_of(arguments: Sequence[str]) -> str | None:
    from pacsd.cli.main import main

    with redirect_stdout(io.StringIO()) as output:
        status = main(arguments)
    return output.getvalue() if status == os.EX_OK else None


def sample_files() -> list[Path]:
    """Find pydicom's sample files without importing it."""
    spec = importlib.util.find_spec("pydicom")
    folder = Path(spec.origin).parent / "data" / "test_files" if spec and spec.origin else Path()
    return [folder / name for name in _SAMPLES if (folder / name).exists()]


def welcome(config: Config, login: str) -> str:
    """Say where the site is and what can be done with it.

    Args:
        login: The administrator's.
    """
    title, port = config.site.ae_title, config.dicom.port
    host = "127.0.0.1" if config.dicom.bind in ("0.0.0.0", "::") else config.dicom.bind  # noqa: S104 - compared, not bound
    there = f"-aec {title} {host} {port}"
    pacsd = Path(sys.argv[0]).name if sys.argv[0].endswith("pacsd") else "pacsd"
    command = Path(sys.executable).with_name(pacsd)
    samples = sample_files()
    sample: Path | str = samples[0] if samples else "FILE.dcm"
    study_uid = read_file_header(str(sample))[0].study_uid if samples else "UID"
    return f"""
DICOM   {host} port {port}, AE title {title}
web     http://{config.web.bind}:{config.web.port}/  (/readyz, /healthz, /metrics)
login   {login}
state   {config.state}

Paste in another terminal (Debian: apt-get install dcmtk):
  echoscu {there}
  storescu {there} {sample}
  findscu -S -k QueryRetrieveLevel=STUDY -k PatientName -k StudyDate -k StudyInstanceUID {there}
  {command} peer add MOVESCU 127.0.0.1 11113 --config {config.source}
  movescu -S +P 11113 -aem MOVESCU -k QueryRetrieveLevel=STUDY -k StudyInstanceUID={study_uid} {there}

End with Ctrl-C.
"""
