"""Storage SCPs that misbehave; plain sockets."""

from __future__ import annotations

import socket
import threading
from typing import Self

from pacsd.dicom.wire import negotiate
from pacsd.dicom.wire.association import AssociationMachine
from pacsd.dicom.wire.events import AssociationRequested


class NeverReading:
    """Accepts associations and every context, then takes nothing any more."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.accepted: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        for connection in self.accepted:
            connection.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.accepted.append(connection)
            self._accept(connection)

    def _accept(self, connection: socket.socket) -> None:
        machine = AssociationMachine("acceptor")
        machine.transport_connected()
        while data := connection.recv(65536):
            for event in machine.receive(data):
                if isinstance(event, AssociationRequested):
                    answer = negotiate.negotiate(event.request, negotiate.Policy()).answer
                    machine.accept(answer)  # type: ignore[arg-type]
                    connection.sendall(machine.data_to_send())
                    return
