"""One piece of blocking work beside the thread that waits for it: the disk syncs while rows are prepared."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class _Piece:
    __slots__ = ("done", "error", "function", "result")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.result: Any = None
        self.error: BaseException | None = None
        # A bare lock: a Future costs several times the hop itself.
        self.done = _thread.allocate_lock()
        self.done.acquire()


class Beside:
    """Threads that run what worker threads hand over. Any thread; daemons, so none holds the process at its end.

    Args:
        name: of the threads.
        threads: pieces at once; a further one waits for its turn, and so does its giver.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._n_threads = threads
        self._queue: SimpleQueue[_Piece] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = False

    def start(self, function: Callable[[], T]) -> Callable[[], T]:
        """Begin to run `function`; the returned callable waits for its end and gives its result or raises its error.

        It may be called again.
        """
        if not self._started:
            self._start_threads()
        piece = _Piece(function)
        self._queue.put(piece)

        def wait() -> T:
            with piece.done:
                if piece.error is not None:
                    raise piece.error
                result: T = piece.result
                return result

        return wait

    def _start_threads(self) -> None:
        with self._lock:
            if self._started:
                return
            for number in range(self._n_threads):
                threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True).start()
            self._started = True

    def _work(self) -> None:
        while True:
            piece = self._queue.get()
            try:
                piece.result = piece.function()
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                piece.error = error
            piece.done.release()
