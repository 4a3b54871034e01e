"""Arguments that several verbs have, described once."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

Subparsers = Any
"""What `argparse.ArgumentParser.add_subparsers` returns; argparse has no public name for it."""


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add `--config FILE`; without it $PACSD_CONFIG, then `pacsd.toml` in the current folder."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=Path(os.environ.get("PACSD_CONFIG", "pacsd.toml")),
        help="the site's configuration (default: $PACSD_CONFIG, else ./pacsd.toml)",
    )


def port_number(text: str) -> int:
    """Parse a TCP port for argparse."""
    number = int(text)
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port from 1 to 65535")
    return number
