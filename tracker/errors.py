"""The error tree. Each class says who is at fault, and so who handles it and how.

`RejectedInput`: the sender's fault, never retried, its text is safe to show.
`TransientError`: an outage of a store; always safe to retry.
`OutboundError`: somebody else's server, or a URL that may not be asked; `OutboundFailed` is retried by whoever needs the answer.
`BadConfiguration`: the operator's fault; ends the process with exit code 78 and one line.
Anything else is a bug and ends the process.
"""


class TurnoutError(Exception):
    """Base of all errors that Turnout raises on purpose."""


class RejectedInput(TurnoutError):
    """Bad input. `code` is stable and machine-readable, `field` names what is wrong, the text says what is allowed."""

    status = 422

    def __init__(self, code: str, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.code, self.field = code, field


class NotFound(RejectedInput):
    """The named thing does not exist."""

    status = 404


class Conflict(RejectedInput):
    """The thing exists already, or its state forbids the change."""

    status = 409


class Unauthorized(RejectedInput):
    """Missing or wrong credentials."""

    status = 401


class Forbidden(RejectedInput):
    """The credentials do not allow this."""

    status = 403


class TransientError(TurnoutError):
    """An outage; the same call may be repeated safely."""


class StreamUnavailable(TransientError):
    """Redis/Valkey cannot be reached, or refuses to write."""


class StoreUnavailable(TransientError):
    """PostgreSQL cannot be reached, or refuses to work."""


class StoreBusy(StoreUnavailable):
    """PostgreSQL is well, but somebody holds the very row that was asked for: no reason to keep others from it."""


class CorruptData(TurnoutError):
    """Bytes that are not what they claim to be: wrong magic, checksum, length or version."""


class UnknownVersion(CorruptData):
    """Bytes of a later version: not damaged, to be kept until code reads them that knows it."""


class OutboundError(TurnoutError):
    """A request of ours to somebody else's server got no answer. The text is safe to show; it holds no path and no query."""


class OutboundRefused(OutboundError):
    """It was not sent: what its URL names is nothing that may be reached. The same call is refused again."""


class OutboundFailed(OutboundError):
    """No connection, no TLS, no answer in time, or an answer that is no HTTP. It may have arrived all the same."""


class BadConfiguration(TurnoutError):
    """A setting or the machine makes it impossible to start; the text says which and what to do."""


EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CANNOT_TELL = 3
EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h
