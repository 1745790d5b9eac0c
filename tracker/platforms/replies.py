"""The old platform's own replies, byte for byte. Pure."""

import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from tracker.platforms.profile import Profile, Reply
from tracker.platforms.reading import Reading

GIF: Final = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")  # 1x1, transparent
_SLOT = re.compile(r"\{([a-z_]+)(?:\|([^{}]*))?\}")


class Answer(Struct, frozen=True, gc=False):
    """An HTTP answer."""

    status: int
    content_type: str
    body: bytes


EMPTY: Final = Answer(200, "text/plain; charset=utf-8", b"")
PIXEL: Final = Answer(200, "image/gif", GIF)


def answer_to(
    profile: Profile,
    reading: Reading,
    *,
    outcome: Literal["accepted", "refused"] = "accepted",
    values: Mapping[str, str] | None = None,
) -> Answer:
    """The reply that is due to `reading`: of its `answer`, else of its kind; a GIF for pixels and impressions of which nothing is known.

    `values` fill `{click_id}`, `{error}` and the like in the profile's body; `{return|Success}` is the hint `return`, else Success.
    """
    reply = _find(profile, reading.answer, outcome) or _find(profile, reading.kind or "", outcome)
    if reply is None:
        return PIXEL if reading.kind in ("pixel", "impression") else EMPTY
    if reply.gif:
        return Answer(reply.status, "image/gif", GIF)
    known = {**reading.hints, **(values or {})}
    body = _SLOT.sub(lambda slot: known.get(slot[1]) or slot[2] or "", reply.body)
    return Answer(reply.status, reply.content_type, body.encode("utf-8", "surrogatepass"))


def _find(profile: Profile, to: str, outcome: str) -> Reply | None:
    return next((reply for reply in profile.reply if reply.to == to and reply.outcome == outcome), None) if to else None
