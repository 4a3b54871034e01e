"""Orthanc, Debian's own, in a folder of its own, driven by its REST interface."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from tests.live import Site, free_ports, wait_until

PROGRAM = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")


class Orthanc:
    """A running Orthanc; a context manager.

    Args:
        folder: For its database, configuration and log.
        site: Known to it as the modality `pacsd`.
    """

    title = "ORTHANC"

    def __init__(self, folder: Path, site: Site) -> None:
        self.dicom_port, self.http_port = free_ports(2)
        self._config = folder / "orthanc.json"
        self._log = folder / "orthanc.log"
        self._process: subprocess.Popen[bytes] | None = None
        settings = {
            "Name": "peer",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [],
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": self.title,
            "DicomPort": self.dicom_port,
            "DicomCheckCalledAet": False,
            "StableAge": 1,
            "OverwriteInstances": True,
            "DicomModalities": {
                "pacsd": {
                    "AET": site.ae_title,
                    "Host": site.host,
                    "Port": site.dicom_port,
                    "Manufacturer": "Generic",
                }
            },
        }
        self._config.write_text(json.dumps(settings), "utf-8")

    def __enter__(self) -> Self:
        assert PROGRAM is not None
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([PROGRAM, str(self._config)], stdout=log, stderr=log)
        wait_until(self._answers, 30, "Orthanc's start")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except OSError:
            return False

    def get(self, path: str) -> Any:
        """GET; the JSON that comes."""
        return self._ask(path, None)

    def post(self, path: str, body: object) -> Any:
        """POST JSON, or bytes as they are; the JSON that comes."""
        return self._ask(path, body if isinstance(body, bytes) else json.dumps(body).encode())

    def file(self, instance: str) -> bytes:
        """The DICOM file of an instance, by Orthanc's id."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/instances/{instance}/file", timeout=60) as got:
            return bytes(got.read())

    def find(self, level: str, **query: str) -> list[Any]:
        """What it holds itself, expanded."""
        found = self.post("/tools/find", {"Level": level, "Query": query, "Expand": True})
        return list(found)

    def clear(self) -> None:
        """Forget everything."""
        for patient in self.get("/patients"):
            request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}/patients/{patient}", method="DELETE")
            urllib.request.urlopen(request, timeout=60).close()

    def _ask(self, path: str, body: bytes | None) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data=body)
        try:
            with urllib.request.urlopen(request, timeout=60) as got:
                return json.loads(got.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                told = error.read().decode("utf-8", "replace")
            raise AssertionError(f"Orthanc answers {error.code} to {path}: {told}") from None
