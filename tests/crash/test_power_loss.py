"""Loss of power: what the file system had not made durable is gone, and each acknowledged object is there all the same.

ext4's own ioctl for such tests stops the file system without writing anything more, not even its journal: what is
mounted afterwards is what a disk holds after the lights went out.
"""

from __future__ import annotations

import fcntl
import os
import random
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.crash import checker
from tests.crash.faulty import seal_logs
from tests.crash.made import SIZES, SMALL_SIZES, stream
from tests.crash.sender import Account, Sender, join_all, start_all
from tests.faults.disks import small_disk
from tests.live import Site, wait_until

pytestmark = [pytest.mark.crash, pytest.mark.root, pytest.mark.slow]

_EXT4_IOC_SHUTDOWN = 0x8004587D
_WITHOUT_JOURNAL = struct.pack("I", 2)
N_ASSOCIATIONS = 4
N_CUTS = 3


def cut_power(disk: Path) -> None:
    """Nothing more gets to the disk."""
    fd = os.open(disk, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, _EXT4_IOC_SHUTDOWN, _WITHOUT_JOURNAL)
    except OSError as error:
        pytest.skip(f"this kernel can't stop the file system: {error.strerror}")
    finally:
        os.close(fd)


def mount_again(disk: Path) -> None:
    """Let the file system recover as at boot."""
    image = disk.with_name(f"{disk.name}.image")
    subprocess.run(["umount", disk], check=True, timeout=30)
    subprocess.run(["mount", "-o", "loop", image, disk], check=True, timeout=30)


@pytest.mark.parametrize(("workers", "sizes"), [(0, SIZES), (2, SMALL_SIZES)], ids=["mixed", "small"])
def test_nothing_acknowledged_is_lost_when_the_power_fails(tmp_path: Path, workers: int, sizes: Sequence[int]) -> None:
    moments, account = random.Random(91 + workers), Account()
    with small_disk(tmp_path / "disk", 1500) as disk:
        site = Site(disk / "site", workers=workers)
        try:
            for life in range(N_CUTS):
                site.start()
                stopping = threading.Event()
                streams = [stream(92 + life, number, N_ASSOCIATIONS, sizes) for number in range(N_ASSOCIATIONS)]
                senders = [
                    Sender((site.host, site.dicom_port), objects, account, stopping, calling=f"CT{number}")
                    for number, objects in enumerate(streams)
                ]
                n_before = len(account.acknowledged)
                start_all(senders)
                wait_until(lambda n=n_before: len(account.acknowledged) > n + 20, what="the first objects")
                if life:
                    wait_until(lambda: seal_logs(site), what="the making of a seal log")
                time.sleep(moments.uniform(0.0, 0.7))
                cut_power(disk)
                time.sleep(0.1)
                stopping.set()
                site.kill()
                join_all(senders)
                mount_again(disk)
            site.start()
            checker.check_found(site, account)
            checker.check_retrieved(site, account)
            checker.check_rows(checker.index_of(site), account)
            checker.wait_until_no_parts(site)
        finally:
            site.kill()
