"""What an association does with the messages that arrive: one handler for each DIMSE request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pacsd.dicom.wire.dimse import Command

if TYPE_CHECKING:
    from pacsd.dicom.association import Association, Context


class Sink(Protocol):
    """Takes one data set as it arrives. Reactor's thread."""

    def data(self, fragment: bytes | memoryview) -> None:
        """Further bytes; the sink may call `association.pause(self)` and `association.resume(self)`."""

    def end(self) -> None:
        """The data set is complete: the sink answers."""

    def abort(self) -> None:
        """The association is gone; nothing may be answered."""


class StoreHandler(Protocol):
    """Receives objects (C-STORE) without buffering them."""

    def begin(self, association: Association, context: Context, command: Command) -> Sink:
        """A sink for the data set that follows. Never raises: a refusal is a sink that answers so at its end."""


@dataclass(slots=True, eq=False)
class Request:
    """One whole request other than C-STORE.

    Attributes:
        dataset: the whole data set as received, in the context's transfer syntax; b'' if there is none.
        cancelled: set when the peer has sent C-CANCEL for it, or the association is gone.
    """

    association: Association
    context: Context
    command: Command
    dataset: bytes = b""
    cancelled: bool = False
    on_cancel: list[Callable[[], None]] = field(default_factory=list)

    def cancel(self) -> None:
        """Mark as cancelled and tell who waits; further calls have no effect."""
        if self.cancelled:
            return
        self.cancelled = True
        for callback in self.on_cancel:
            callback()


Handler = Callable[[Request], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Services:
    """The handlers of a process.

    Attributes:
        handlers: command field of the request -> handler, which answers by `association.respond`.
        store: the handler of C-STORE, None where objects aren't taken.
        max_dataset_bytes: bound on the data set of any request other than C-STORE.
    """

    handlers: dict[int, Handler] = field(default_factory=dict)
    store: StoreHandler | None = None
    max_dataset_bytes: int = 4 * 1024 * 1024
