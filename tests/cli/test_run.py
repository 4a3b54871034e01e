from __future__ import annotations

import json
import os
import signal
import socket

import pytest


@pytest.fixture
def web_only(new_site):
    """Make a site without the DICOM role."""
    config = new_site()
    config.write_text(config.read_text("utf-8").replace("# enabled = true", "enabled = false", 1), "utf-8")
    return config


@pytest.fixture
def site(web_only, run_site):
    """Run a site of the web role alone."""
    site = run_site(web_only)
    assert site.wait_ready() == "pacsd ready\n"
    return site


def test_ready_is_the_only_line_on_standard_output_and_sigterm_ends_it(site):
    assert site.get("/healthz")[0] == 200
    site.process.send_signal(signal.SIGTERM)
    # twistd, having stopped in order, ends by the signal that asked it to; systemd takes that for success.
    assert site.process.wait(20) == -signal.SIGTERM
    assert site.process.stdout.read() == ""
    assert site.events()[-1]["event"] == "stopped"


def test_a_site_with_database_and_pool_is_ready(site):
    status, kind, body = site.get("/readyz")
    assert (status, kind) == (200, "application/json")
    assert json.loads(body)["checks"] == {"database": "ok", "pools": "ok"}


def test_a_site_whose_pool_cannot_be_written_is_not_ready(site):
    pool = site.config.parent / "images"
    pool.rename(pool.with_name("away"))
    status, kind, body = site.get("/readyz")
    assert (status, kind) == (503, "application/problem+json")
    assert "No such file" in json.loads(body)["checks"]["pools"]
    assert site.get("/healthz")[0] == 200


def test_metrics_show_this_process(site):
    status, kind, body = site.get("/metrics")
    assert status == 200
    assert kind.startswith("text/plain")
    assert b'pacsd_process_up{process="pacsd"} 1.0' in body
    assert b'pacsd_offload_pending{pool="web",process="pacsd"}' in body


def test_a_process_that_does_not_answer_is_shown_as_down(site):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(site.config.parent / "run" / "dicom-9.1.status"))
    assert b'pacsd_process_up{process="dicom-9"} 0.0' in site.get("/metrics")[2]


def test_what_is_not_there_is_a_problem_document(site):
    status, kind, body = site.get("/nothing/here")
    assert (status, kind) == (404, "application/problem+json")
    assert json.loads(body)["status"] == 404


@pytest.mark.parametrize("headers", ["Content-Length: 99999999999", "Transfer-Encoding: chunked"])
def test_a_body_that_is_too_long_is_cut_off(site, headers):
    with socket.create_connection(("127.0.0.1", site.web_port), timeout=10) as client:
        client.sendall(f"POST /x HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode())
        with pytest.raises(ConnectionError):  # noqa: PT012 - either call may be the one that meets the reset
            for _ in range(400):
                client.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            if client.recv(1) == b"":
                raise ConnectionResetError


def test_sixty_four_kilobytes_of_path_do_no_harm(site):
    with socket.create_connection(("127.0.0.1", site.web_port), timeout=10) as client:
        client.sendall(b"GET /" + b"x" * 65536 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        client.recv(100)
    assert site.get("/healthz")[0] == 200


def test_a_port_in_use_ends_it_with_the_cause(web_only, run_site):
    first = run_site(web_only)
    assert first.wait_ready()
    second = run_site(web_only)
    assert second.wait_ready() == ""
    assert second.process.wait(20) == os.EX_UNAVAILABLE
    (cause,) = [event for event in second.events() if event["event"] == "cannot-start"]
    assert f"port {first.web_port}" in cause["cause"]


def test_a_wrong_configuration_ends_with_78_before_anything_starts(pacsd, tmp_path):
    path = tmp_path / "pacsd.toml"
    path.write_text("[dicom]\nport = 0\n")
    done = pacsd("run", "--config", path)
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, "")
    assert "dicom.port" in done.stderr


def test_a_killed_site_starts_again(web_only, run_site):
    first = run_site(web_only)
    assert first.wait_ready()
    first.end(signal.SIGKILL)
    assert run_site(web_only).wait_ready() == "pacsd ready\n"


def test_a_state_folder_with_a_long_name_is_no_obstacle(pacsd, run_site, tmp_path, free_ports):
    state = tmp_path / ("long" * 30) / "site"
    state.parent.mkdir()
    pacsd("init", "--state", state, "--open", "--web-port", free_ports[1])
    config = state / "pacsd.toml"
    config.write_text(config.read_text("utf-8").replace("# enabled = true", "enabled = false", 1), "utf-8")
    site = run_site(config)
    assert site.wait_ready() == "pacsd ready\n"
