"""Coroutines of workflows run to their end without any loop: every awaited call is done at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any


class Done:
    """An awaitable with its result."""

    def __init__(self, result: Any, error: Exception | None = None) -> None:
        self.result, self.error = result, error

    def __await__(self) -> Generator[Any, None, Any]:
        if self.error is not None:
            raise self.error
        return self.result
        yield


class ImmediateOffload:
    """Runs each call at once; the next calls fail with what is in `refusals`."""

    def __init__(self) -> None:
        self.refusals: deque[Exception] = deque()

    def run(self, fn: Callable[..., Any], *args: Any) -> Done:
        if self.refusals:
            return Done(None, self.refusals.popleft())
        try:
            return Done(fn(*args))
        except Exception as error:  # noqa: BLE001 - the awaiting code gets it
            return Done(None, error)


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The coroutine's result; it must not wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits for something")


async def everything(source: Any) -> list[Any]:
    return [item async for item in source]
