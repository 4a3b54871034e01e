"""`pacsd init`: an empty site, ready to run."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import sys
import tomllib
from pathlib import Path
from typing import Any

from pacsd.cli.arguments import Subparsers, port_number
from pacsd.config.load import load, parse
from pacsd.config.render import example

_POOL = "images"
_ADMIN = "admin"
_SCRYPT = {"n": 2**14, "r": 8, "p": 5}


def add_parser(subparsers: Subparsers) -> None:
    """Describe the verb."""
    parser = subparsers.add_parser(
        "init",
        help="make an empty site",
        description="Write DIR/pacsd.toml and an empty site: folders, the database, a login for the "
        "administrator, whose password is shown once.",
    )
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="the folder of the new site")
    parser.add_argument("--ae-title", default="PACSD", metavar="T", help="its DICOM title (default: %(default)s)")
    parser.add_argument("--dicom-port", type=port_number, default=11112, metavar="N", help="default: %(default)s")
    parser.add_argument("--web-port", type=port_number, default=8080, metavar="N", help="default: %(default)s")
    parser.add_argument("--hl7-port", type=port_number, default=2575, metavar="N", help="default: %(default)s")
    parser.add_argument("--bind", metavar="ADDRESS", help="where all roles listen (default: see pacsd.toml)")
    parser.add_argument("--database", metavar="URL", help="the PACS database (default: SQLite in DIR)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="DICOM processes; 0: none apart")
    parser.add_argument(
        "--open",
        action="store_true",
        help="for trials: listen on loopback only and let DICOM peers in that aren't registered",
    )
    parser.add_argument("--json", action="store_true", help="print config, user and password as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the site; `pacsd.toml` is written last, so an interrupted `init` can be run again.

    Raises:
        ConfigError: An argument isn't legal in `pacsd.toml`.
        OutOfResources: The database can't be reached.
    """
    state: Path = args.state.absolute()
    target = state / "pacsd.toml"
    if target.exists():
        print(
            f"pacsd: {target} exists, so there is a site here already. "
            f"Run it with `pacsd run --config {target}`, or choose another --state.",
            file=sys.stderr,
        )
        return os.EX_CANTCREAT
    text = example(_values(args))
    # Before anything is made: are the arguments legal together?
    config = parse(tomllib.loads(text), target)
    try:
        _make_folders(state)
    except OSError as error:
        print(f"pacsd: can't make the site: {error}", file=sys.stderr)
        return os.EX_CANTCREAT
    from pacsd.index.database import create_or_upgrade
    from pacsd.storage.pool import pool_of

    for pool in config.storage.pools:
        pool_of(pool).create()
    create_or_upgrade(config.database_url)
    password = secrets.token_urlsafe(12)
    _write(state / "secrets" / "admin.json", json.dumps(_login(password), indent=2) + "\n", 0o600)
    _write(target, text, 0o640)
    _report(args, load(target).source, password)
    return os.EX_OK


def _values(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = {
        "site": {"ae_title": args.ae_title},
        "dicom": {
            "port": args.dicom_port,
            "workers": args.workers,
            "unknown_peers": "accept" if args.open else "reject",
        },
        "storage": {"pools": [{"name": _POOL, "path": _POOL}]},
        "web": {"port": args.web_port},
        "hl7": {"port": args.hl7_port},
    }
    if args.database:
        values["site"]["database"] = args.database
    bind = args.bind or ("127.0.0.1" if args.open else None)
    if bind:
        for role in ("dicom", "web", "hl7"):
            values[role]["bind"] = bind
    return values


def _make_folders(state: Path) -> None:
    state.mkdir(mode=0o750, parents=True, exist_ok=True)
    for name, mode in (("run", 0o700), ("secrets", 0o700)):
        (state / name).mkdir(mode=mode, exist_ok=True)


def _login(password: str) -> dict[str, object]:
    """Make the administrator's record: scrypt (RFC 7914) with its parameters, so that they can grow."""
    salt = secrets.token_bytes(16)
    digest = hashlib.scrypt(password.encode(), salt=salt, dklen=32, **_SCRYPT)
    return {"user": _ADMIN, "scrypt": {**_SCRYPT, "salt": salt.hex(), "hash": digest.hex()}}


def _write(path: Path, text: str, mode: int) -> None:
    """Write a whole file or none, with its rights from the start."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)
    part.replace(path)


def _report(args: argparse.Namespace, config: Path, password: str) -> None:
    if args.json:
        print(json.dumps({"config": str(config), "user": _ADMIN, "password": password}))
        return
    print(f"A new site: {config}")
    print(f"Login of the administrator (shown this once): {_ADMIN} / {password}")
    print(f"Run it with: pacsd run --config {config}")
