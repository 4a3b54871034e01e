"""`pacsd pool`: the places for images."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from pacsd.cli.arguments import Subparsers, add_config
from pacsd.cli.offline.config_edit import check, replace, with_pool, with_read_only
from pacsd.config.load import load
from pacsd.config.sections import Config
from pacsd.storage.pool import Pool, PoolState, PoolUnavailable

_RESTART = "Restart the servers to use it so: a running one keeps what it read when it started."


def add_parser(subparsers: Subparsers) -> None:
    """Describe the verb."""
    parser = subparsers.add_parser("pool", help="list, add and check pools, the places for images")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="pools in the order in which they fill: state, space, objects")
    listing.add_argument("--json", action="store_true", help="print a JSON list")
    listing.set_defaults(run=_list)
    add = actions.add_parser("add", help="make a folder a pool and add it to the configuration")
    add.add_argument("name", metavar="NAME", help="lower-case letters, digits and hyphens; kept for its life")
    add.add_argument("path", metavar="PATH", type=Path, help="its folder, made if it isn't there")
    add.set_defaults(run=_add)
    read_only = actions.add_parser("read-only", help="stop or allow writing to a pool")
    read_only.add_argument("name", metavar="NAME")
    read_only.add_argument("state", choices=("on", "off"))
    read_only.set_defaults(run=_read_only)
    checking = actions.add_parser(
        "check", help="see whether every pool can be used", epilog="exit status: 0 every one can, 1 one can't"
    )
    checking.set_defaults(run=_check)
    for action in (listing, add, read_only, checking):
        add_config(action)


def _list(args: argparse.Namespace) -> int:
    from pacsd.cli.offline.site import opened_site
    from pacsd.index.places import n_files_by_pool

    with opened_site(load(args.config)) as site:
        counts = site.index.database.read(n_files_by_pool)
        rows = [_row(pool, counts.pop(pool.name, 0)) for pool in site.pools]
    rows += [_unknown(name, number) for name, number in sorted(counts.items())]
    if args.json:
        print(json.dumps(rows))
        return os.EX_OK
    for row in rows:
        used = f"{row['used_percent']}% used, {row['free_gb']:,} GB free, " if "free_gb" in row else ""
        why = f" ({row['reason']})" if row["reason"] else ""
        print(f"{row['name']:16} {row['state']:10} {used}{row['n_files']:,} files, {row['path']}{why}")
    return os.EX_OK


def _row(pool: Pool, n_files: int) -> dict[str, object]:
    row: dict[str, object] = {"name": pool.name, "path": pool.root, "state": pool.state.value, "n_files": n_files}
    try:
        row |= {"used_percent": round(pool.used_fraction * 100, 1), "free_gb": round(pool.free_bytes / 1e9, 1)}
    except OSError as error:
        row["state"] = PoolState.FAILED.value
        pool.reason = pool.reason or str(error.strerror)
    row["reason"] = pool.reason
    return row


def _unknown(name: str, n_files: int) -> dict[str, object]:
    reason = "not configured, but the index names files in it"
    return {"name": name, "path": "-", "state": PoolState.FAILED.value, "n_files": n_files, "reason": reason}


def _add(args: argparse.Namespace) -> int:
    config = load(args.config)
    path = args.path.absolute()
    text = with_pool(config.source.read_text("utf-8"), args.name, path)
    changed = check(text, config.source)
    made = _section_of(changed, args.name)
    if made is None or made.root != str(path):
        print(f"pacsd: {config.source} can't be changed by this command; edit it by hand", file=sys.stderr)
        return os.EX_CONFIG
    try:
        made.create()
    except PoolUnavailable as error:
        print(f"pacsd: {error}", file=sys.stderr)
        return os.EX_CANTCREAT
    replace(config.source, text)
    print(f"pool {args.name} in {path}. {_RESTART}")
    return os.EX_OK


def _section_of(config: Config, name: str) -> Pool | None:
    from pacsd.storage.pool import pool_of

    return next((pool_of(pool) for pool in config.storage.pools if pool.name == name), None)


def _read_only(args: argparse.Namespace) -> int:
    config = load(args.config)
    on = args.state == "on"
    if _section_of(config, args.name) is None:
        print(f"pacsd: pool {args.name} is not configured", file=sys.stderr)
        return os.EX_USAGE
    text = with_read_only(config.source.read_text("utf-8"), args.name, on=on)
    changed = None if text is None else _section_of(check(text, config.source), args.name)
    if text is None or changed is None or changed.read_only != on:
        print(f"pacsd: {config.source} can't be changed by this command; edit it by hand", file=sys.stderr)
        return os.EX_CONFIG
    replace(config.source, text)
    print(f"pool {args.name} {'takes no new objects' if on else 'takes new objects'}. {_RESTART}")
    return os.EX_OK


def _check(args: argparse.Namespace) -> int:
    from pacsd.storage.pool import pool_of

    bad = 0
    for section in load(args.config).storage.pools:
        pool = pool_of(section)
        problem = _problem(pool)
        bad += bool(problem)
        print(f"{pool.name}: {problem or pool.state.value}")
    return 1 if bad else os.EX_OK


def _problem(pool: Pool) -> str:
    """Why a pool can't be used as configured; ''."""
    try:
        pool.open()
    except PoolUnavailable as error:
        return error.comment
    if pool.read_only:
        return ""
    for folder in ("objects", "journal", "quarantine"):
        if not os.access(pool.path(folder), os.W_OK | os.X_OK):
            return f"{folder}/ in it is absent or can't be written by this user"
    if pool.state is not PoolState.ONLINE:
        return f"{pool.state.value} {pool.reason}".strip()
    return ""
