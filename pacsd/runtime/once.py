"""Run one asynchronous call in a reactor of its own: for commands, which are otherwise plain programs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet import task
from twisted.internet.defer import Deferred

T = TypeVar("T")


class Interrupted(Exception):
    """The call was ended from outside (Ctrl-C, SIGTERM) before it had a result."""


def run_once(main: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """Run `main(reactor)` to its end; once in a process' life.

    Returns:
        its result.

    Raises:
        Interrupted: the reactor was stopped meanwhile.
        BaseException: what `main` raised.
    """
    outcome: list[tuple[T | None, BaseException | None]] = []

    async def watched(reactor: Any) -> None:
        try:
            outcome.append((await main(reactor), None))
        except BaseException as error:  # noqa: BLE001 - raised again outside of the reactor
            outcome.append((None, error))

    try:
        task.react(lambda reactor: Deferred.fromCoroutine(watched(reactor)))
    except SystemExit:
        if not outcome:
            raise Interrupted from None
    result, error = outcome[0]
    if error is not None:
        raise error
    return result  # type: ignore[return-value] # it is the result where there is no error
