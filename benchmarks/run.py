"""`python -m benchmarks.run`: measure, print the table, write `docs/performance.md`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import memory, query, retrieve, store
from benchmarks.conditions import conditions, file_system, missing_programs
from benchmarks.report import page
from benchmarks.results import SECTIONS, Section
from benchmarks.servers import Setup

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
MIN_FREE_BYTES = 15 << 30
_NOT_DISKS = frozenset({"tmpfs", "ramfs"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 0 when all of it was measured, whether the goals were reached or not."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.quick and args.json:
        parser.error("--quick measures nothing that is worth keeping in a file")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if missing := missing_programs():
        print(f"not installed: {', '.join(missing)} (apt-get install dcmtk orthanc)", file=sys.stderr)
        return os.EX_UNAVAILABLE
    sections = _load(args.json)
    folder = Path(tempfile.mkdtemp(prefix="pacsd-bench-", dir=args.folder))
    try:
        if (kind := file_system(folder)) in _NOT_DISKS and not args.quick:
            print(f"{kind} is no disk; name a folder on one by --folder", file=sys.stderr)
            return os.EX_USAGE
        if shutil.disk_usage(folder).free < MIN_FREE_BYTES and not args.quick:
            print(f"needs {MIN_FREE_BYTES >> 30} GiB; name a folder with more room by --folder", file=sys.stderr)
            return os.EX_USAGE
        for name in args.only:
            sections[name] = _measure(name, folder / name, args)
            shutil.rmtree(folder / name, ignore_errors=True)
            _save(args.json, sections)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sections = {name: sections[name] for name in SECTIONS if name in sections}
    text = page(sections)
    print(text)
    if args.quick or len(sections) < len(SECTIONS):
        print(f"{PAGE.name} is left as it is: not everything was measured in full", file=sys.stderr)
    else:
        PAGE.write_text(text, encoding="utf-8")
    return os.EX_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", type=_names, default=SECTIONS, metavar="NAMES", help=f"of {','.join(SECTIONS)}")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of store and retrieve (default: 5)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, to see that everything runs")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="keep the figures there; parts that aren't measured now stay in it"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="pacsd's DICOM processes (default: as init writes)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where servers keep their data meanwhile")
    return parser


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(SECTIONS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return names


def _measure(name: str, folder: Path, args: argparse.Namespace) -> Section:
    folder.mkdir()
    setup = Setup(workers=args.workers)
    n_rounds = 1 if args.quick else args.rounds
    found = conditions(folder, setup, n_rounds)
    if name == "store":
        return Section(found, tuple(store.measure(folder, setup, n_rounds, is_quick=args.quick, say=_say)))
    if name == "retrieve":
        return Section(found, tuple(retrieve.measure(folder, setup, n_rounds, is_quick=args.quick, say=_say)))
    if name == "query":
        return Section(found, growths=tuple(query.measure(folder, setup, is_quick=args.quick, say=_say)))
    return Section(found, memory=memory.measure(folder, setup, is_quick=args.quick, say=_say))


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _load(path: Path | None) -> dict[str, Section]:
    if path is None or not path.exists():
        return {}
    return {name: Section.from_plain(plain) for name, plain in json.loads(path.read_text()).items()}


def _save(path: Path | None, sections: dict[str, Section]) -> None:
    if path is not None:
        path.write_text(json.dumps({name: section.plain() for name, section in sections.items()}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
