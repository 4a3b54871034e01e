from __future__ import annotations

import os
import socket

import pytest

from pacsd.runtime.listen import HANDED_DOWN, inherited_fd, open_listening


def test_connections_are_accepted_without_nagle(free_port):
    with open_listening("127.0.0.1", free_port) as server:
        server.setblocking(True)
        with socket.create_connection(("127.0.0.1", free_port)):
            accepted, _ = server.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_in_use_is_refused_with_its_name(free_port):
    with open_listening("127.0.0.1", free_port), pytest.raises(OSError, match=f"127.0.0.1 port {free_port}"):
        open_listening("127.0.0.1", free_port)


def test_processes_that_ask_for_it_share_a_port(free_port):
    with (
        open_listening("127.0.0.1", free_port, reuse_port=True),
        open_listening("127.0.0.1", free_port, reuse_port=True) as second,
    ):
        assert second.getsockname()[1] == free_port


def test_the_ipv6_wildcard_takes_ipv4_too():
    with (
        open_listening("::", 0) as server,
        socket.create_connection(("127.0.0.1", server.getsockname()[1])) as client,
    ):
        assert client.getpeername()[0] == "127.0.0.1"


OURS = {"LISTEN_PID": str(os.getpid())}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({HANDED_DOWN: "dicom=7"}, 7),
        ({HANDED_DOWN: "web=7"}, None),
        ({HANDED_DOWN: "web=7,dicom=8"}, 8),
        ({HANDED_DOWN: "dicom=x"}, None),
        ({**OURS, "LISTEN_FDS": "1"}, 3),
        ({**OURS, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:dicom"}, 4),
        ({**OURS, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}, None),
        ({**OURS, "LISTEN_FDS": "2"}, None),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, None),
        ({**OURS, "LISTEN_FDS": "many"}, None),
    ],
)
def test_an_inherited_socket_is_found_by_its_role(environment, expected):
    assert inherited_fd("dicom", environment) == expected
