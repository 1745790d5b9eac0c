"""Hostile targets cost a bounded number of steps: characters looked at and calls made, not seconds.

A step is a call; and for every call of a method of bytes, str or an expression, each character of what it looks at.
`sys.setprofile` sees them all, so nothing in the reader has to count.
"""

import re
import sys

import pytest

from tracker.platforms.loader import load
from tracker.platforms.pairs import PARAMETERS_MAX
from tracker.platforms.platforms import Platforms
from tracker.platforms.reader import TARGET_MAX_BYTES, read, read_any

PLATFORMS = Platforms(load().sources)
STEPS_A_BYTE = 60  # 37 is the most of all below: question marks at Binom, whose script has ten shapes
HOSTILE = {
    "one name": b"/aff_c?" + b"a" * 70_000,
    "many parameters": b"/aff_c?" + b"a=1&" * 20_000,
    "known parameters": b"/aff_c?" + b"aff_id=&" * 9_000,
    "many destinations": b"/aff_c?" + b"url=https://x?&" * 5_000,
    "destination with a long tail": b"/aff_c?url=https://x?" + b"&b=c" * 20_000,
    "question marks": b"/click?" + b"lid=1?" * 12_000,
    "only question marks": b"/aff_c?" + b"?" * 70_000,
    "semicolons": b"/?" + b"a=1;" * 20_000,
    "percent signs": b"/aff_c?url=" + b"%" * 70_000,
    "folded escapes": b"/aff_c?url=" + b"%25" * 25_000,
    "escapes in an id": b"/aff_c?aff_id=" + b"%29" * 25_000,
    "brackets after an id": b"/aff_c?aff_id=1" + b")" * 70_000,
    "braces": b"/aff_c?aff_id=" + b"{" * 70_000,
    "exclamation marks": b"/aff_c?aff_id=" + b"!" * 70_000,
    "entities": b"/aff_c?" + b"&amp;" * 14_000,
    "nested entities": b"/aff_c?&" + b"amp;" * 17_000,
    "zeros of an entity": b"/aff_c?&#" + b"0" * 70_000,
    "characters": b"/postback?" + b"\xc2\xa4cy" * 14_000,
    "slashes": b"/" * 70_000,
    "folders": b"/a" * 35_000,
    "folders named click": b"/click" * 11_000,
    "folders named ref": b"/ref" * 17_000,
    "segments": b"/track.aspx/" + b"CID/1/" * 11_000,
    "pairs": b"/click/" + b"camref:1/" * 7_500,
    "open groups": b"/conversion/" + b"[a/" * 22_000,
    "parentheses": b"/click?" + b"p(" * 33_000,
    "closed parentheses": b"/click?" + b"p(1)" * 17_000,
    "dashes": b"/click-" + b"1-" * 33_000,
    "capitals": b"/OUT?" + b"A=1&" * 17_000,
    "pasted schemes": b"/c/1://h" * 8_000,
    "list of amounts": b"/ep?tr=1&amtlist=" + b"1|" * 33_000,
    "long amount": b"/ep?tr=1&amtlist=" + b"9" * 60_000,
    "base64": b"/?ps_partner_key=" + b"A" * 65_000,
    "fragment": b"/#" + b"a_aid=1&" * 9_000,
    "bytes": bytes(range(1, 256)) * 280,
    "spaces": b"/ " * 35_000,
}


def steps_of(work):
    """Characters and calls of `work()`."""
    taken = 0

    def look(frame, event, called):
        nonlocal taken
        if event == "call":
            taken += 1
        elif event == "c_call":
            on = getattr(called, "__self__", None)
            if isinstance(on, bytes | str):
                taken += 1 + len(on)
            elif isinstance(on, re.Pattern):
                taken += 1 + max((len(value) for value in frame.f_locals.values() if isinstance(value, bytes | str)), default=0)
            else:
                taken += 1

    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(None)
    return taken


def cost(target):
    """The steps of the platform that finds `target` hardest."""
    return max((steps_of(lambda source=source: read(source, b"h", target)), source.platform) for source in PLATFORMS)


@pytest.mark.parametrize("name", HOSTILE)
def test_64_kb_of_anything_cost_a_bounded_number_of_steps_a_byte_and_half_of_it_half(name):
    target = HOSTILE[name][:TARGET_MAX_BYTES]
    steps, platform = cost(target)
    assert steps < STEPS_A_BYTE * len(target), platform
    half = target[: len(target) // 2]
    assert steps < 2.2 * steps_of(lambda: read(PLATFORMS.source(platform), b"h", half)) + 50_000, platform


def test_the_count_sees_a_reader_that_is_quadratic():
    """Else the test above would prove nothing."""

    def quadratic(text):
        while text:
            _, _, text = text.partition(b"/")

    short, long = (steps_of(lambda size=size: quadratic(b"/" * size)) for size in (1000, 2000))
    assert long > 3.5 * short


def test_longer_targets_are_not_read():
    target = b"/aff_c?aff_id=1&aff_sub=" + b"a" * TARGET_MAX_BYTES
    found = read(PLATFORMS.source("tune"), b"h", target)
    assert (found.kind, found.doubts) == (None, ("longer than 64 KB",))


def test_at_most_200_parameters_are_read_and_that_is_told():
    assert PARAMETERS_MAX == 200
    query = b"&".join(b"x%d=1" % number for number in range(PARAMETERS_MAX)) + b"&aff_id=7"
    found = read(PLATFORMS.source("tune"), b"h", b"/aff_c?" + query)
    assert (found.partner_id, found.doubts) == (None, ("more than 200 parameters",))
    kept = read(PLATFORMS.source("voluum"), b"h", b"/e4d6bfe2-78c7-4e0b-9999-32723287cf81?" + query)
    assert len(kept.sub_ids) == PARAMETERS_MAX
    found = read_any(PLATFORMS.source("linktrust"), b"h", b"/track.aspx/CID/1/" + b"a/" * PARAMETERS_MAX + b"AFID/2")
    assert (found.offer_id, found.partner_id) == ("1", None)
