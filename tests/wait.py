"""Waiting for what must become true, instead of sleeping and hoping."""

import asyncio
import inspect
import time

DEFAULT_S = 30.0


async def wait_until(predicate, *, within_s=DEFAULT_S, every_s=0.05, because=""):
    """Return what `predicate` (sync or async) gives as soon as that is true; AssertionError when it never is."""
    deadline = time.monotonic() + within_s
    while True:
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {within_s} s: {because or predicate}")
        await asyncio.sleep(every_s)


def wait_until_sync(predicate, *, within_s=DEFAULT_S, every_s=0.05, because=""):
    """The same without an event loop."""
    deadline = time.monotonic() + within_s
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {within_s} s: {because or predicate}")
        time.sleep(every_s)
