"""What can be done about what `pacsd verify` finds, and what a person is told to do."""

from __future__ import annotations

from collections.abc import Callable

from pacsd.cli.offline.site import Site
from pacsd.model.errors import PacsError
from pacsd.model.objects import ConflictRule, StoredFile
from pacsd.storage.header import read_file_header
from pacsd.storage.reader import file_digest
from pacsd.storage.recover import Condition, condition, is_named, quarantine
from pacsd.storage.scrub import Finding, FindingKind, remove_stray
from pacsd.workflow.adopting import Adoption

ADVICE = {
    FindingKind.MISSING: "bring the file back from a backup or replica to this path, or have it sent again by its "
    "source; --repair drops the place if the index names another sound copy",
    FindingKind.DAMAGED: "look after the disk first; then bring the file back from a backup or replica, or have it "
    "sent again; --repair sets the file aside if the index names another sound copy",
    FindingKind.UNREADABLE: "mount the pool or look after its disk, then verify again",
    FindingKind.ORPHAN: "--orphans adopt makes its row, --orphans quarantine moves it out of the objects",
    FindingKind.STRAY: "--strays remove deletes it once the named file is proven; --repair gives it the place of a "
    "named file that is gone",
    FindingKind.LEFTOVER: "delete it if no one knows it; pacsd doesn't use it",
}


class Actions:
    """Carries out what was asked for. One thread.

    Args:
        orphans: list, adopt or quarantine. strays: list or remove. repair: see `ADVICE`.
    """

    def __init__(self, site: Site, orphans: str, strays: str, *, repair: bool) -> None:
        self._site = site
        self._pools = site.pool_by_name()
        self._orphans = orphans
        self._strays = strays
        self._repair = repair

    def still_holds(self, finding: Finding) -> bool:
        """Whether a row that names a bad file is still there: it may have gone while the file was being read."""
        file = stored_file(finding)
        if finding.kind not in (FindingKind.MISSING, FindingKind.DAMAGED) or file is None:
            return True
        return is_named(self._site.places([file.digest]).get(file.digest, ()), file.pool, file.directory)

    def act(self, finding: Finding) -> str:
        """Do what is to be done about a finding; says what was done, '' for nothing."""
        action = self._action(finding)
        file = stored_file(finding)
        if action is None or file is None:
            return ""
        try:
            return action(finding, file)
        except (PacsError, OSError) as error:
            return f"failed: {error}"

    def _action(self, finding: Finding) -> Callable[[Finding, StoredFile], str] | None:
        if finding.kind is FindingKind.ORPHAN:
            return {"adopt": self._adopt, "quarantine": self._quarantine}.get(self._orphans)
        if finding.kind is FindingKind.STRAY and (self._repair or self._strays == "remove"):
            return self._settle_stray
        if finding.kind in (FindingKind.MISSING, FindingKind.DAMAGED) and self._repair and finding.file_id:
            return self._drop_place
        return None

    def _adopt(self, finding: Finding, file: StoredFile) -> str:
        path = self._site.pools.path(file)
        digest, size_bytes = file_digest(path)
        if digest != file.digest:
            return "not adopted: its bytes don't fit its name; --orphans quarantine moves it away"
        header, _ = read_file_header(path)
        rule = ConflictRule(self._site.config.dicom.on_conflict)
        adoption = Adoption(self._site.index, self._site.files, rule, self._site.written_at, batch=1)
        adoption.add(self._site.instance_of(StoredFile(file.pool, file.directory, digest, size_bytes), header))
        return "adopted, but set aside: see `pacsd conflicts list`" if adoption.n_set_aside else "adopted"

    def _quarantine(self, finding: Finding, file: StoredFile) -> str:
        quarantine(
            self._pools[file.pool], file, f"found by pacsd verify: {finding.kind.value} {finding.comment}".strip()
        )
        return "moved to quarantine"

    def _settle_stray(self, finding: Finding, file: StoredFile) -> str:
        named = self._site.places([file.digest]).get(file.digest, ())
        if self._strays == "remove" and remove_stray(self._pools, file.pool, finding.path, named):
            return "removed"
        if self._repair and named and all(condition(self._pools, one) is Condition.GONE for one in named):
            return self._adopt(finding, file)
        return "kept: no file that the index names could be proven"

    def _drop_place(self, finding: Finding, file: StoredFile) -> str:
        named = self._site.places([file.digest]).get(file.digest, ())
        others = [one for one in named if not is_named([one], file.pool, file.directory)]
        if not any(condition(self._pools, one) is Condition.INTACT for one in others):
            return "kept: it has no other sound copy"
        if finding.kind is FindingKind.DAMAGED:
            self._quarantine(finding, file)
        self._site.index.forget_location(finding.file_id, file)
        return "dropped: another copy is sound"


def stored_file(finding: Finding) -> StoredFile | None:
    """The sealed file that a finding is about, size unknown; None for what isn't one."""
    directory, _, name = finding.path.rpartition("/")
    stem = name.removesuffix(".dcm")
    if finding.kind is FindingKind.LEFTOVER or stem == name or len(stem) != 64:
        return None
    return StoredFile(finding.pool, directory, bytes.fromhex(stem), 0)
