"""`pacsd verify`: pools and index compared both ways, every digest read."""

from __future__ import annotations

import argparse
import os
import sys

from pacsd.cli.arguments import Subparsers, add_config
from pacsd.config.load import load

_DESCRIPTION = """\
Read every file that the index names and compare its digest, then look in the pools
for files that no row names. Nothing is changed unless it is asked for; each finding
says what can be done about it. Servers may run meanwhile; --rate leaves them room.
"""
_STATUS = (
    "exit status: 0 all is sound, 1 there are findings, 64 no such pool, 75 the database is away, 130 ended by Ctrl-C"
)


def add_parser(subparsers: Subparsers) -> None:
    """Describe the verb."""
    parser = subparsers.add_parser(
        "verify",
        help="compare pools and index, reading every file",
        description=_DESCRIPTION,
        epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser)
    parser.add_argument("--rate", type=float, default=0.0, metavar="MB/S", help="read no faster than this")
    parser.add_argument("--pool", default="", metavar="NAME", help="this pool only")
    parser.add_argument(
        "--orphans",
        choices=("list", "adopt", "quarantine"),
        default="list",
        help="files that no row names: make their rows, or move them to the pool's quarantine",
    )
    parser.add_argument(
        "--strays",
        choices=("list", "remove"),
        default="list",
        help="second copies that no row names: delete each that a proven named file makes needless",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="drop places with missing or damaged files where another copy is sound; let second copies stand for "
        "named files that are gone",
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare; see the exit status in the help. Raises ConfigError, PacsError."""
    from pacsd.cli.offline.verification import verify_site

    config = load(args.config)
    if args.pool and not any(pool.name == args.pool for pool in config.storage.pools):
        print(f"pacsd: pool {args.pool} is not configured", file=sys.stderr)
        return os.EX_USAGE
    return verify_site(
        config,
        pool=args.pool,
        bytes_per_s=args.rate * 1e6,
        orphans=args.orphans,
        strays=args.strays,
        repair=args.repair,
        as_json=args.json,
    )
