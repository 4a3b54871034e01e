"""The sections of `pacsd.toml`, one per role and one for what all roles share.

Every class here is a table of the file; its fields are the keys. The order is the order of the
annotated example.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pacsd.config.settings import setting

AE_TITLE = r"(?=.*[^ ])[ -\[\]-~]{1,16}"
_AE_TITLE_ABOUT = "1 to 16 printable ASCII characters, no backslash, not only spaces (PS3.5 §6.2, AE)"
_SQLITE = "sqlite:///"
_POOL_NAME = r"[a-z0-9][a-z0-9-]{0,31}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What all roles of the site share."""

    name: str = setting(
        "pacsd",
        "The name of the site as people know it; shown by the consoles.",
        pattern=r".{1,64}",
        pattern_about="1 to 64 characters",
    )
    ae_title: str = setting(
        "PACSD",
        "The application entity title by which modalities and workstations call this PACS.",
        pattern=AE_TITLE,
        pattern_about=_AE_TITLE_ABOUT,
    )
    state: Path = setting(
        Path(),
        "The folder for what the site keeps beside its images: the SQLite database, secrets, sockets.",
        path=True,
        unset="the folder of this file",
    )
    database: str = setting(
        "",
        "The PACS database, an SQLAlchemy URL: PostgreSQL for a hospital, SQLite for a practice or trial.",
        pattern=r"|sqlite:///.+|postgresql(\+psycopg2)?://.*",
        pattern_about="sqlite:///FILE or postgresql://USER@HOST/NAME",
        unset="index.sqlite in the state folder",
    )
    log_level: str = setting(
        "info",
        "The least level that is logged. Only debug may show who a patient is.",
        choices=("debug", "info", "warning", "error"),
    )
    log_format: str = setting(
        "auto",
        "json: one object a line, for the journal; text: for a person; auto: text on a terminal, else json.",
        choices=("auto", "json", "text"),
    )
    stop_limit_s: float = setting(
        20.0,
        "How long running associations and requests may go on when the service is stopped.",
        least=0,
        most=600,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dicom:
    """The DICOM server: modalities store here, workstations find and retrieve."""

    enabled: bool = setting(True, "Whether this site runs the role.")
    bind: str = setting(
        "0.0.0.0",  # noqa: S104 - a server for the whole hospital network
        "The address to listen on; :: for IPv6 and IPv4.",
        pattern=r"[0-9A-Fa-f.:]+",
        pattern_about="a numeric IPv4 or IPv6 address",
    )
    port: int = setting(11112, "The port to listen on.", least=1, most=65535)
    ae_titles: tuple[str, ...] = setting(
        (),
        "Further titles this server answers to, beside the site's; departments may have their own.",
        pattern=AE_TITLE,
        pattern_about=_AE_TITLE_ABOUT,
    )
    any_called_ae: bool = setting(
        False, "Accept associations whatever title they call; for devices whose called title can't be set."
    )
    workers: int = setting(
        0,
        "Processes that share the port; 0 runs the DICOM server inside the one process of `pacsd run`.",
        least=0,
        most=64,
    )
    unknown_peers: str = setting(
        "reject",
        "What a calling title that isn't registered may do: everything, C-ECHO only, or nothing.",
        choices=("accept", "echo", "reject"),
    )
    max_pdu_length_bytes: int = setting(
        262144,
        "The largest P-DATA-TF we ask peers to send; longer ones are fewer and faster.",
        least=4096,
        most=16777216,
    )
    max_associations: int = setting(
        200,
        "Associations open at once in one process; more are rejected as a transient local limit.",
        least=1,
        most=10000,
    )
    max_associations_per_peer: int = setting(
        40,
        "Associations open at once from one calling title and address in one process.",
        least=1,
        most=10000,
    )
    idle_timeout_s: float = setting(
        300.0, "An association on which nothing moves for this long is aborted.", least=1, most=86400
    )
    artim_s: float = setting(
        30.0,
        "How long a peer may take to request an association or to close the connection (PS3.8 §9.1.5).",
        least=1,
        most=600,
    )
    dimse_timeout_s: float = setting(
        60.0, "How long a peer that we call may take to answer a request.", least=1, most=3600
    )
    accept_any_sop_class: bool = setting(
        True, "Store private and unknown SOP classes too; off: only the storage classes of the standard."
    )
    on_conflict: str = setting(
        "keep-both",
        "The same SOP Instance UID with other bytes: keep-both (the first is served, the second is set "
        "aside and listed), replace, or refuse.",
        choices=("keep-both", "replace", "refuse"),
    )
    query_limit: int = setting(
        100000,
        "The most answers to one C-FIND; beyond it the query ends with a status that says so.",
        least=1,
        most=10000000,
    )
    async_operations: int = setting(
        8,
        "Operations a peer may have outstanding on one association, if it negotiates that (PS3.7 D.3.3.3).",
        least=1,
        most=256,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A place for images: a file system of a file server or a local disk."""

    name: str = setting(
        dataclasses.MISSING,
        "A short name; it is written into the index, so keep it for the life of the pool.",
        pattern=_POOL_NAME,
        pattern_about="lower-case letters, digits and hyphens, at most 32",
    )
    path: Path = setting(dataclasses.MISSING, "The folder; it must exist and be its own for this pool.", path=True)
    read_only: bool = setting(False, "Serve what it holds, write nothing to it.")
    high_water_percent: float = setting(
        95.0, "No new object is placed here when the file system is fuller than this.", least=1, most=100
    )
    low_water_percent: float = setting(
        90.0,
        "Placement resumes, and tiering stops clearing, when it is less full than this.",
        least=0,
        most=100,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The file servers."""

    threads: int = setting(4, "Threads of one process that write, sync and hash.", least=1, most=64)
    max_queued: int = setting(
        256,
        "Pieces of storage work that may wait in one process; beyond it senders are told to try again.",
        least=1,
        most=100000,
    )
    pools: tuple[Pool, ...] = setting((), "At least one pool is needed to store anything; they fill in this order.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """The web server: health and metrics, DICOMweb, viewer and console."""

    enabled: bool = setting(True, "Whether this site runs the role.")
    bind: str = setting(
        "127.0.0.1",
        "The address to listen on; :: for IPv6 and IPv4.",
        pattern=r"[0-9A-Fa-f.:]+",
        pattern_about="a numeric IPv4 or IPv6 address",
    )
    port: int = setting(8080, "The port to listen on.", least=1, most=65535)
    max_request_bytes: int = setting(
        1048576, "The longest request body that isn't an upload of images.", least=1024, most=1073741824
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Hl7:
    """The RIS interface: orders and patient changes by HL7 v2 over MLLP."""

    enabled: bool = setting(False, "Whether this site runs the role.")
    bind: str = setting(
        "127.0.0.1",
        "The address to listen on; :: for IPv6 and IPv4.",
        pattern=r"[0-9A-Fa-f.:]+",
        pattern_about="a numeric IPv4 or IPv6 address",
    )
    port: int = setting(2575, "The port to listen on.", least=1, most=65535)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole of `pacsd.toml`."""

    site: Site = Site()
    dicom: Dicom = Dicom()
    storage: Storage = Storage()
    web: Web = Web()
    hl7: Hl7 = Hl7()
    source: Path = Path("pacsd.toml")

    @property
    def state(self) -> Path:
        """The state folder, absolute."""
        return self.site.state

    @property
    def run(self) -> Path:
        """The folder for sockets and other things that only matter while processes run."""
        return self.state / "run"

    @property
    def database_url(self) -> str:
        """The PACS database, with the default filled in."""
        url = self.site.database
        if not url or url.startswith(_SQLITE):
            return f"{_SQLITE}{self.source.parent / url[len(_SQLITE) :] if url else self.state / 'index.sqlite'}"
        return url

    @property
    def called_ae_titles(self) -> tuple[str, ...]:
        """Every title the DICOM server answers to, the site's first."""
        return (self.site.ae_title, *self.dicom.ae_titles)
