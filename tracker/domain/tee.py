"""What is passed on to the old platform: where it goes, when it is tried again, and whether the two answers agree. Pure."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tracker.domain.outbound_addresses import destination, sendable
from tracker.domain.urls import host_key, percent_decoded, split_absolute
from tracker.platforms.compiled import Source
from tracker.platforms.profile import Profile, Reply
from tracker.platforms.reader import read
from tracker.platforms.replies import Answer

BODY_KEPT_BYTES: Final = 4096
GIVE_UP_AFTER: Final = timedelta(hours=72)  # since the first try: while no sender runs nothing is given up
BACKOFF: Final = (*(timedelta(seconds=seconds) for seconds in (1, 5, 30, 120, 600)), timedelta(hours=1))
AGAIN: Final = frozenset((429,))  # answers that say "later", besides 5xx
MASK: Final = b"***"
SECRET_MIN_BYTES: Final = 6  # shorter ones stand in every text by chance
_SECRET = rb"token|secret|passw|api_?key|signature|hash"
_SECRET_NAME = re.compile(_SECRET, re.IGNORECASE)
_SECRET_MEMBER = re.compile(rb'("[^"]*(?:' + _SECRET + rb')[^"]*"\s*:\s*)"[^"]*"', re.IGNORECASE)
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


def secret_of(source: Source | None, host: bytes, target: bytes) -> bytes | None:
    """The store's token in a target, with what the body adds to it (`posted.merged`), decoded; None: there is none, or nobody can tell."""
    reading = read(source, host, target) if source else None
    token = reading.conversion.token if reading and reading.conversion else None
    return token.encode("utf-8", "surrogatepass") if token else None


def masked(target: bytes, secret: bytes | None) -> str:
    """`target` as it may be shown to anybody who may read: `***` in place of `secret`, and of values whose names tell that they are one."""
    return sendable(_masked(target, secret)).decode("ascii")


def masked_body(body: bytes, secret: bytes | None) -> str:
    """The same of a body, form or JSON; what is no UTF-8 is shown as U+FFFD."""
    shown = _SECRET_MEMBER.sub(rb'\1"' + MASK + b'"', _masked(body, secret))
    if secret and len(secret) >= SECRET_MIN_BYTES:
        shown = shown.replace(secret, MASK)
    return shown.decode("utf-8", "replace").replace("\x00", "\ufffd")


def _masked(data: bytes, secret: bytes | None) -> bytes:
    pieces = _ENDS.split(data)
    for at in range(0, len(pieces), 2):
        is_named = at > 1 and pieces[at - 1] == b"=" and _SECRET_NAME.search(pieces[at - 2]) is not None
        if pieces[at] and (is_named or percent_decoded(pieces[at].replace(b"+", b" ")) == secret):
            pieces[at] = MASK
    return b"".join(pieces)
