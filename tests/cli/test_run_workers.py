"""`pacsd run` with DICOM processes of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest


def workers_of(pid: int) -> dict[str, int]:
    """Give the DICOM processes under a supervisor: name → process id."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            line = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if "pacsd-dicom" in line:
            found[f"dicom-{line[line.index('--worker') + 1]}"] = int(child)
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def site(new_site, run_site):
    site = run_site(new_site("--workers", 2))
    assert site.wait_ready() == "pacsd ready\n"
    return site


def up(site) -> dict[str, float]:
    text = site.get("/metrics")[2].decode()
    lines = re.findall(r'^pacsd_process_up\{process="(.+)"\} (.+)$', text, re.MULTILINE)
    return {name: float(value) for name, value in lines}


def test_ready_means_that_every_process_listens_and_metrics_show_them_all(site, free_ports):
    assert up(site) == {"pacsd": 1.0, "dicom-1": 1.0, "dicom-2": 1.0}
    assert json.loads(site.get("/readyz")[2])["checks"] == {"database": "ok", "pools": "ok", "dicom": "ok"}
    socket.create_connection(("127.0.0.1", free_ports[0]), timeout=5).close()


def test_a_killed_process_is_back_soon_and_meanwhile_connections_wait(site, free_ports, wait_until):
    before = workers_of(site.process.pid)
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    socket.create_connection(("127.0.0.1", free_ports[0]), timeout=5).close()
    wait_until(lambda: set(workers_of(site.process.pid)) == {"dicom-1", "dicom-2"})
    assert set(workers_of(site.process.pid).values()).isdisjoint(before.values())
    wait_until(lambda: site.get("/readyz")[0] == 200)
    wait_until(lambda: set(up(site).values()) == {1.0})
    died = [event["how"] for event in site.events() if event["event"] == "worker-died"]
    assert died == ["killed by SIGKILL"] * 2


def test_without_any_dicom_process_the_site_is_not_ready(site):
    for pid in workers_of(site.process.pid).values():
        os.kill(pid, signal.SIGSTOP)
    status, _, body = site.get("/readyz")
    assert (status, json.loads(body)["checks"]["dicom"]) == (503, "no DICOM process is ready")
    for pid in workers_of(site.process.pid).values():
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_supervisor(site, wait_until, how):
    workers = workers_of(site.process.pid).values()
    site.process.send_signal(how)
    site.process.wait(20)
    wait_until(lambda: not any(is_running(pid) for pid in workers))


def test_without_workers_the_dicom_role_runs_in_the_one_process(new_site, run_site, free_ports):
    site = run_site(new_site("--workers", 0))
    assert site.wait_ready() == "pacsd ready\n"
    assert workers_of(site.process.pid) == {}
    assert site.get("/readyz")[0] == 200
    socket.create_connection(("127.0.0.1", free_ports[0]), timeout=5).close()


def test_a_dicom_port_in_use_ends_it_with_the_cause(new_site, run_site, free_ports):
    with socket.create_server(("127.0.0.1", free_ports[0])):
        site = run_site(new_site("--workers", 1))
        assert site.wait_ready() == ""
        assert site.process.wait(20) == os.EX_UNAVAILABLE
    (cause,) = [event["cause"] for event in site.events() if event["event"] == "cannot-start"]
    assert f"port {free_ports[0]}" in cause
