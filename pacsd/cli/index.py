"""`pacsd index`: the PACS database made anew from the pools, upgraded, checked."""

from __future__ import annotations

import argparse
import os
import sys

from pacsd.cli.arguments import Subparsers, add_config
from pacsd.config.load import load


def add_parser(subparsers: Subparsers) -> None:
    """Describe the verb."""
    parser = subparsers.add_parser("index", help="rebuild, upgrade or check the PACS database")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    rebuild = actions.add_parser(
        "rebuild",
        help="make the database anew from the pools alone",
        description="Read every file of every pool and record it, with the time and the source that the file itself "
        "tells. Run again after a break it goes on where it was. Nothing in the pools is changed. What isn't in "
        "files doesn't come back: peers, jobs, and from which address an object came.",
        epilog="exit status: 0 done, 1 done, but damaged files were left out, 73 the database isn't empty, 75 a pool "
        "or the database is away: run it again, 130 ended by Ctrl-C",
    )
    rebuild.add_argument("--into", default="", metavar="URL", help="this database instead of the configured one")
    rebuild.add_argument("--force", action="store_true", help="add what is lacking to a database that isn't empty")
    rebuild.add_argument(
        "--no-digests",
        action="store_true",
        help="read heads only and believe the files' names; run `pacsd verify` later",
    )
    rebuild.set_defaults(run=_rebuild)
    upgrade = actions.add_parser("upgrade", help="bring the database to this release's schema; stop the servers first")
    upgrade.set_defaults(run=_upgrade)
    check = actions.add_parser(
        "check",
        help="see whether the database fits this release and fits together",
        epilog="exit status: 0 it does, 1 it doesn't, 75 the database is away",
    )
    check.set_defaults(run=_check)
    for action in (rebuild, upgrade, check):
        add_config(action)


def _rebuild(args: argparse.Namespace) -> int:
    from pacsd.cli.offline.index_rebuild import rebuild_index

    config = load(args.config)
    return rebuild_index(config, args.into or config.database_url, force=args.force, check_digests=not args.no_digests)


def _upgrade(args: argparse.Namespace) -> int:
    from pacsd.index.database import create_or_upgrade

    before, after = create_or_upgrade(load(args.config).database_url)
    print(f"the schema is {after} already" if before == after else f"schema {before or 'none'} -> {after}")
    return os.EX_OK


def _check(args: argparse.Namespace) -> int:
    from pacsd.index.check import wrong_rows
    from pacsd.index.database import opened
    from pacsd.index.migrate import head
    from pacsd.index.revision import current

    config = load(args.config)
    with opened(config.database_url) as database:
        found = None if database.is_absent else database.read(current)
        if found != head():
            advice = "run `pacsd index upgrade`" if _is_known_revision(found) else "it is of a later release of pacsd"
            print(f"schema {found or 'none'}, this release has {head()}: {advice}", file=sys.stderr)
            return 1
        wrong = database.read(wrong_rows)
    for what, number in wrong.items():
        print(f"{number:,} {what}", file=sys.stderr)
    if wrong:
        print("`pacsd index rebuild --into URL` makes a sound database from the pools", file=sys.stderr)
        return 1
    print(f"schema {found}, counts and rows fit together")
    return os.EX_OK


def _is_known_revision(revision: str | None) -> bool:
    from pacsd.index.migrate import head

    return revision is None or revision <= head()
