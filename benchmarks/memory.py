"""Ten objects of 1 GB received at once: the peak memory of all processes of pacsd.

The client is `benchmarks.wire`, one thread for each object, which sends the same megabyte of noise again and again:
no object exists as a whole anywhere but on the server's disk. What the server's processes hold is sampled as PSS
(`smaps_rollup`: pages that several processes share are counted once) and, for comparison, as the sum of their RSS.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from pydicom.dataset import Dataset

from benchmarks import servers
from benchmarks.results import Memory
from benchmarks.servers import Server, Setup
from benchmarks.wire import Association, Refused, encode, held_instances

MULTI_FRAME_GRAYSCALE_WORD = "1.2.840.10008.5.1.4.1.1.7.3"
N_OBJECTS = 10
FRAME_BYTES = 1 << 20
N_FRAMES, N_FRAMES_QUICK = 1000, 32
SAMPLE_S = 0.1
LIMIT_BYTES, AIM_BYTES = 300_000_000, 150_000_000
_STUDY, _SERIES, _INSTANCE = "2.25.4001", "2.25.4002", "2.25.4003"


class Sampler(threading.Thread):
    """Watches a server's processes, those started meanwhile too, until `stop`."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._stopped = threading.Event()
        self.peak_pss = self.peak_rss = self.high_water_rss = self.n_processes = 0
        self.idle_pss, _, _ = self._sample()

    def run(self) -> None:
        while not self._stopped.wait(SAMPLE_S):
            self._sample()

    def stop(self) -> None:
        """End sampling; to be called while the server still runs."""
        self._stopped.set()
        self.join()
        self.high_water_rss = sum(_high_water_rss(process.pid) for process in self._server.processes())

    def _sample(self) -> tuple[int, int, int]:
        pss = rss = n = 0
        for process in self._server.processes():
            try:
                used = process.memory_full_info()
            except psutil.NoSuchProcess:
                continue
            pss, rss, n = pss + used.pss, rss + used.rss, n + 1
        self.peak_pss, self.peak_rss = max(self.peak_pss, pss), max(self.peak_rss, rss)
        self.n_processes = max(self.n_processes, n)
        return pss, rss, n


def measure(folder: Path, setup: Setup, *, is_quick: bool, say: Callable[[str], None]) -> Memory:
    """Send all objects at once, one association each, and look for them afterwards.

    Raises:
        Refused: an object isn't stored, or isn't found afterwards.
    """
    n_frames = N_FRAMES_QUICK if is_quick else N_FRAMES
    noise = random.Random(4).randbytes(FRAME_BYTES)
    with servers.pacsd(folder / "pacsd", setup) as server:
        sampler = Sampler(server)
        sampler.start()
        begun = time.monotonic()
        try:
            with ThreadPoolExecutor(N_OBJECTS) as threads:
                for sending in [threads.submit(_send, server, at, n_frames, noise) for at in range(N_OBJECTS)]:
                    sending.result()
        finally:
            sampler.stop()
        seconds = time.monotonic() - begun
        held = held_instances(server.port, server.ae_title, _STUDY, _SERIES)
        if held != {f"{_INSTANCE}{at}" for at in range(N_OBJECTS)}:
            raise Refused(f"{len(held)} of {N_OBJECTS} objects are found")
    found = Memory(
        N_OBJECTS, n_frames * FRAME_BYTES, seconds, sampler.idle_pss, sampler.peak_pss, sampler.peak_rss,
        sampler.high_water_rss, sampler.n_processes, LIMIT_BYTES, AIM_BYTES,
    )  # fmt: skip
    say(f"peak of {found.n_processes} processes: PSS {found.peak_pss / 1e6:.0f} MB, RSS {found.peak_rss / 1e6:.0f} MB")
    return found


def _high_water_rss(pid: int) -> int:
    """VmHWM of a process, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _send(server: Server, number: int, n_frames: int, noise: bytes) -> None:
    head = _head(number, n_frames)
    with Association(server.port, server.ae_title, MULTI_FRAME_GRAYSCALE_WORD) as association:
        n_bytes = len(head) + n_frames * FRAME_BYTES
        response = association.store(f"{_INSTANCE}{number}", n_bytes, _parts(head, n_frames, noise))
    if response.status:
        raise Refused(f"C-STORE ended with status {response.status:#06x}")


def _parts(head: bytes, n_frames: int, noise: bytes) -> Iterator[bytes]:
    yield head
    for _ in range(n_frames):
        yield noise


def _head(number: int, n_frames: int) -> bytes:
    """Everything before the pixels, the pixel data's own header included."""
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = MULTI_FRAME_GRAYSCALE_WORD, f"{_INSTANCE}{number}"
    image.StudyDate, image.StudyTime, image.Modality = "20240311", "101500", "OT"
    image.PatientName, image.PatientID = "LARGE^OBJECT", "BENCHMEMORY"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.InstanceNumber = _STUDY, _SERIES, number + 1
    image.SamplesPerPixel, image.PhotometricInterpretation, image.NumberOfFrames = 1, "MONOCHROME2", n_frames
    image.Rows, image.Columns, image.PixelRepresentation = 512, FRAME_BYTES // 1024, 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    n_pixel_bytes = n_frames * FRAME_BYTES
    return encode(image) + b"\xe0\x7f\x10\x00OW\0\0" + n_pixel_bytes.to_bytes(4, "little")
