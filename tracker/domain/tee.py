"""What is passed on to the old platform: where it goes, when it is tried again, and whether the two answers agree. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tracker.domain.outbound_addresses import destination, sendable
from tracker.domain.urls import host_key, percent_decoded, split_absolute
from tracker.platforms.compiled import Source
from tracker.platforms.profile import Profile, Reply
from tracker.platforms.reader import read
from tracker.platforms.replies import Answer

BODY_KEPT_BYTES: Final = 4096
GIVE_UP_AFTER: Final = timedelta(hours=72)  # since the first try: while no sender runs nothing is given up
BACKOFF: Final = (*(timedelta(seconds=seconds) for seconds in (1, 5, 30, 120, 600)), timedelta(hours=1))
AGAIN: Final = frozenset((408, 425, 429))  # answers that say "later", besides 5xx
MASK: Final = b"***"
SECRET_MIN_BYTES: Final = 6  # shorter ones stand in every text by chance
_SECRET = rb"token|secret|passw|api_?key|signature|hash"
_SECRET_NAME = re.compile(_SECRET, re.IGNORECASE)
_MEMBER = rb'("(?:[^"]*(?:%b)[^"]*%b)"\s*:\s*)"[^"]*"'  # of JSON: names that look secret, and others
_SECRET_MEMBER = re.compile(_MEMBER % (_SECRET, b""), re.IGNORECASE)
_BLANKS = re.compile(rb"\s+")
_SLOT = re.compile(r"\{[a-z_]+(?:\|[^{}]*)?\}")  # what `replies.answer_to` fills
_ENDS = re.compile(rb"([/?&;#=])")


@dataclass(frozen=True, slots=True)
class PassedOn:
    """Where a report goes: `origin` (scheme, host, port) has one fate. `error` says why it can go nowhere, `""` if it can."""

    origin: str
    target: bytes
    error: str


def passed_on_to(address: str, host: bytes, target: bytes) -> PassedOn:
    """Where a report that came to `host` for `target` goes at the old platform's `address`: byte for byte behind it. Never raises."""
    path = target if target.startswith(b"/") else split_absolute(host, target)[1]
    try:
        to = destination(address)
    except ValueError as exc:
        return PassedOn(address, path, f"the host's forward_to {exc}")
    name = f"[{to.host}]" if ":" in to.host else to.host
    is_itself = host_key(f"{name}:{to.port}".encode()) == host_key(host)
    return PassedOn(f"{to.scheme}://{name}:{to.port}", path, "the host's forward_to is the host itself" if is_itself else "")


def url_of(address: str, target: bytes) -> str:
    """The URL to send; what no URL can carry is `%XX`."""
    return sendable(address.rstrip("/").encode("utf-8", "replace") + target).decode("ascii")


def is_final(status: int) -> bool:
    """Whether an answer is one: a server that is broken or busy is asked again."""
    return status < 500 and status not in AGAIN


def next_try(tries: int, first_tried_at: datetime, now: datetime) -> timedelta | None:
    """How long to wait after try number `tries` (from 1) was in vain; None: give up, it is 72 hours since the first."""
    if now - first_tried_at >= GIVE_UP_AFTER:
        return None
    return BACKOFF[min(tries, len(BACKOFF)) - 1]


def agrees(profile: Profile | None, kind: str, ours: Answer, theirs: Answer) -> bool:
    """Whether both answers to a report of `kind` accept it, or both refuse it. `profile`: its platform's, None: not known."""
    return _accepts(profile, kind, ours) == _accepts(profile, kind, theirs)


def _accepts(profile: Profile | None, kind: str, answer: Answer) -> bool:
    """Their words decide, else the status. A redirect accepts nothing: nobody follows it, so nobody took the report."""
    replies = [reply for reply in profile.reply if reply.to == kind] if profile else []
    for outcome in ("refused", "accepted"):
        if any(reply.outcome == outcome and _has_shape(reply, answer) for reply in replies):
            return outcome == "accepted"
    return 200 <= answer.status < 300


def _has_shape(reply: Reply, answer: Answer) -> bool:
    if reply.status != answer.status:
        return False
    if reply.gif:
        return answer.body.startswith(b"GIF8")
    shape, at = b"", 0
    for slot in _SLOT.finditer(reply.body):
        shape += _literal(reply.body[at : slot.start()]) + b".*"
        at = slot.end()
    return re.fullmatch(shape + _literal(reply.body[at:]), _BLANKS.sub(b"", answer.body), re.DOTALL) is not None


def _literal(text: str) -> bytes:
    return re.escape(_BLANKS.sub(b"", text.encode("utf-8", "replace")))


@dataclass(frozen=True, slots=True)
class Secret:
    """A store's token in a report, decoded, and the names of the parameters that hold it: whatever these hold is secret."""

    value: bytes
    names: frozenset[bytes] = frozenset()


def secret_of(source: Source | None, host: bytes, target: bytes) -> Secret | None:
    """The store's token in a target, with what the body adds to it (`posted.merged`); None: there is none, or nobody can tell."""
    reading = read(source, host, target) if source else None
    token = reading.conversion.token if reading and reading.conversion else None
    if not token:
        return None
    value = token.encode("utf-8", "surrogatepass")
    return Secret(value, frozenset(name.lower() for name, given in _parameters(target) if _decoded(given) == value))


def masked(target: bytes, secret: Secret | None) -> str:
    """`target` as it may be shown to anybody who may read: `***` in place of `secret`, and of values whose names tell that they are one."""
    return sendable(_masked(target, secret)).decode("ascii")


def masked_body(body: bytes, secret: Secret | None) -> str:
    """The same of a body, form or JSON; what is no UTF-8 is shown as U+FFFD."""
    names = b"".join(b"|" + re.escape(name) for name in (secret.names if secret else ()))
    members = _SECRET_MEMBER if not names else re.compile(_MEMBER % (_SECRET, names), re.IGNORECASE)
    shown = members.sub(rb'\1"' + MASK + b'"', _masked(body, secret))
    if secret and len(secret.value) >= SECRET_MIN_BYTES:
        shown = shown.replace(secret.value, MASK)
    return shown.decode("utf-8", "replace").replace("\x00", "\ufffd")


def masked_reading(reading: dict[str, Any], target: bytes, secret: Secret | None) -> dict[str, Any]:
    """`reading` of `target`, body included, as it may be shown: what is `***` in the target is so here, whatever it was read as."""
    hidden = {_decoded(given) for name, given in _parameters(target) if _is_secret(name, secret)} | ({secret.value} if secret else set())
    return {name: _without(hidden - {b""}, secret, name, value) for name, value in reading.items()}


def _without(hidden: set[bytes], secret: Secret | None, name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {inner: _without(hidden, secret, inner, given) for inner, given in value.items()}
    if not isinstance(value, str) or not value:
        return value
    given = value.encode("utf-8", "surrogatepass")
    if given in hidden or _is_secret(name.encode("utf-8", "surrogatepass"), secret):
        return MASK.decode()
    shown = _masked(given, secret)
    return value if shown == given else shown.decode("utf-8", "replace")


def _parameters(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and values between the signs that part them, as they stand in a target or a form."""
    pieces = _ENDS.split(data)
    return ((pieces[at - 2], pieces[at]) for at in range(2, len(pieces), 2) if pieces[at - 1] == b"=")


def _decoded(given: bytes) -> bytes:
    return percent_decoded(given.replace(b"+", b" "))


def _is_secret(name: bytes, secret: Secret | None) -> bool:
    return _SECRET_NAME.search(name) is not None or (secret is not None and name.lower() in secret.names)


def _masked(data: bytes, secret: Secret | None) -> bytes:
    pieces = _ENDS.split(data)
    for at in range(0, len(pieces), 2):
        is_named = at > 1 and pieces[at - 1] == b"=" and _is_secret(pieces[at - 2], secret)
        if pieces[at] and (is_named or (secret is not None and _decoded(pieces[at]) == secret.value)):
            pieces[at] = MASK
    return b"".join(pieces)
