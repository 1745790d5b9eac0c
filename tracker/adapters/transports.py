"""What uvloop says of a connection that the other side has reset: a RuntimeError, where asyncio would raise a ConnectionError."""

from collections.abc import Iterator
from contextlib import contextmanager

CLOSED = "the handler is closed"


def is_gone(exc: RuntimeError) -> bool:
    """Whether `exc` means that the other side is gone, and no bug of ours."""
    return CLOSED in str(exc)


@contextmanager
def connection_errors() -> Iterator[None]:
    """Raise ConnectionResetError in its place."""
    try:
        yield
    except RuntimeError as exc:
        if not is_gone(exc):
            raise
        raise ConnectionResetError(str(exc)) from exc
