"""Reading the body of an ASGI request within bounds of size and time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from tracker.errors import RejectedInput

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
WITHIN_S: Final = 10.0


class BodyTooLarge(RejectedInput):
    """More than may be sent."""

    status = 413


class BodyTooSlow(RejectedInput):
    """It did not come whole in time, or its sender went."""

    status = 408


async def read_body(receive: Receive, headers: Iterable[tuple[bytes, bytes]], *, max_bytes: int, within_s: float = WITHIN_S) -> bytes:
    """The whole body. BodyTooLarge as soon as it is known to be longer than `max_bytes`; BodyTooSlow after `within_s`."""
    stated = next((value for name, value in headers if name == b"content-length"), b"")
    if stated.isdigit() and int(stated[:20]) > max_bytes:
        raise too_large(max_bytes)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(within_s):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise BodyTooSlow("too_slow", "the client went before its body was there")
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > max_bytes:
                    raise too_large(max_bytes)
                if not message.get("more_body"):
                    return b"".join(chunks)
    except TimeoutError:
        raise BodyTooSlow("too_slow", f"the body must be here within {within_s:g} seconds") from None


def too_large(max_bytes: int) -> BodyTooLarge:
    """The refusal of more than `max_bytes`."""
    return BodyTooLarge("too_large", f"at most {max_bytes} bytes are taken")
