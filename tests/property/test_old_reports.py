"""Laws of old platforms' reports: how one is written changes nothing of what it says, and no bytes break its reading."""

import json
import re
from urllib.parse import unquote_plus

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.old_reports import CONVERSIONS, ROWS, SOURCES, label, old_report
from tests.thorough import examples
from tracker.domain import cookie_bridge, visitor_cookie
from tracker.domain.old_reports import AS_IT_CAME, ReportSettings, postback_of, read_report, token_hash, visits_of
from tracker.domain.postback import PARAMETERS_MAX, VALUE_MAX, Advertiser, InvalidPostback
from tracker.domain.posted import FIELDS_MAX, WHOLE_MAX_BYTES, merged
from tracker.domain.tee import masked, masked_body, secret_of
from tracker.platforms.replies import answer_to

SHOP = Advertiser(7, "shop", "EUR")
FORM = b"application/x-www-form-urlencoded"
KEY = visitor_cookie.derive(b"secret")
MULTIPART = b"multipart/form-data; boundary=b"
DECIDING = {"a", "f", "format"}  # their bytes choose the shape, as they come


def keeps_others(row):
    """Whether the shape of the row keeps what the platform does not know."""
    return bool(read_report(SOURCES[row["platform"]], old_report(row, target=row["target"].encode() + b"&zz=1")).reading.others)


VARIED = [
    row for row in ROWS if "?" in row["target"] and not row["body"] and not re.search("&amp;|%C2", row["target"]) and not keeps_others(row)
]
SECRETS = [row for row in CONVERSIONS if len(row["expect"].get("token", "")) >= 6 and row["target"].count(row["expect"]["token"]) == 1]
PIECES = [piece for row in ROWS for piece in (row["target"].encode(), row["body"].encode()) if piece]
CONTENT_TYPES = [
    b"",
    FORM,
    b"application/json",
    b"text/plain",
    b"multipart/form-data; boundary=b",
    b"multipart/form-data; boundary=",
    b"x/y",
]


def postback(source, report, found, said=AS_IT_CAME):
    """The postback that a report is, or why it is none."""
    try:
        return postback_of(source, report, found, SHOP, said, goal="sale", campaign=3, partner=5)
    except InvalidPostback as exc:
        return str(exc)


@st.composite
def written(draw, value):
    """`value` as another program would escape it."""
    made, at = "", 0
    while at < len(value):
        if value[at] == "%":
            hexed = value[at : at + 3]
            made, at = made + draw(st.sampled_from([hexed.lower(), hexed.upper()])), at + 3
            continue
        letter = value[at]
        ways = ["+", "%20"] if letter == "+" else [letter]
        if letter.isascii() and letter.isalnum():
            ways += [letter, letter, f"%{ord(letter):02x}", f"%{ord(letter):02X}"]
        made, at = made + draw(st.sampled_from(ways)), at + 1
    return made.replace("%20", draw(st.sampled_from(["+", "%20"])))


@st.composite
def variants(draw, row):
    """Target, content type and body that say what the row says."""
    path, _, query = row["target"].partition("?")
    pairs = [tuple(pair.partition("=")[::2]) for pair in query.split("&")]
    pairs = draw(st.permutations(pairs))
    made = []
    for name, value in pairs:
        spelt = draw(st.sampled_from([name, name, name.upper(), name.lower(), name.capitalize()]))
        shown = value if name.lower() in DECIDING else draw(written(value))
        repeated = draw(st.sampled_from(["", "", "", "before", "after"])) if value else ""
        made += [f"{spelt}="] if repeated == "before" else []
        made += [f"{spelt}={shown}", *([f"{name}=other"] if repeated == "after" else [])]
        made += draw(st.lists(st.sampled_from(["utm_source=x", "zz", "", "_=1"]), max_size=2))
    way = draw(st.sampled_from(["query", "form", "both", "json", "multipart"]))
    if way in ("json", "multipart"):
        plain = {unquote_plus(name): unquote_plus(value) for name, value in pairs}
        if way == "json":
            return path, b"application/json", json.dumps(plain).encode()
        parts = [f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in plain.items()]
        return path, MULTIPART, "".join([*parts, "--b--\r\n"]).encode()
    split = {"query": len(made), "form": 0}.get(way) if way != "both" else draw(st.integers(0, len(made)))
    mark = draw(st.sampled_from(["&", "&", "&&", "&amp;"]))
    return f"{path}?{mark.join(made[:split])}", FORM if split < len(made) else b"", mark.join(made[split:]).encode()


@settings(max_examples=examples(125, 2500))
@given(st.data())
def test_however_it_is_written_a_report_says_the_same(data):
    row = data.draw(st.sampled_from(VARIED))
    source = SOURCES[row["platform"]]
    report = old_report(row, visits=("01k7z3m8q0aaaaaaaaaaaaaaaa",))
    target, content_type, body = data.draw(variants(row))
    other = old_report(row, visits=report.visits, target=target.encode(), content_type=content_type, body=body)
    found, again = read_report(source, report), read_report(source, other)
    assert again == found, f"{label(row)}: {other}"
    if found.kind != "impression" and found.outcome.status != "ignored":
        assert postback(source, other, again) == postback(source, report, found), f"{label(row)}: {other}"


@settings(max_examples=examples(100, 2000))
@given(st.data())
def test_no_bytes_break_the_reading_of_a_report(data):
    junk = st.binary(max_size=200)
    source = SOURCES[data.draw(st.sampled_from(sorted({row["platform"] for row in ROWS})))]
    pieces = data.draw(st.lists(st.one_of(junk, st.sampled_from(PIECES)), min_size=2, max_size=4))
    half = data.draw(st.integers(1, len(pieces) - 1))
    target, body = b"".join(pieces[:half]), b"".join(pieces[half:])
    content_type = data.draw(st.one_of(st.sampled_from(CONTENT_TYPES), junk))
    cookies = data.draw(junk)
    report = old_report(ROWS[0], target=target, content_type=content_type, body=body, old_click_id=cookies, visits=("v",))
    found = read_report(source, report)
    assert len(report.whole_target) <= max(len(target), WHOLE_MAX_BYTES)
    assert isinstance(answer_to(source.profile, found.reading).body, bytes)
    assert len(visits_of(report)) <= 2
    held = cookie_bridge.old_id_in_cookies(
        source.profile, b"; ".join(b"%b=%b" % (name.encode(), cookies) for name in source.profile.click_id.cookies)
    )
    assert not held or visitor_cookie.old_visit(held)
    secret = secret_of(source, report.host, report.whole_target)
    assert isinstance(masked(target, secret), str)
    assert isinstance(masked_body(body, secret), str)
    if found.kind in ("postback", "pixel") and found.outcome.status != "ignored":
        made = postback(source, report, found)
        if not isinstance(made, str):
            assert len(made.parameters) <= PARAMETERS_MAX
            kept = "".join((*made.parameters, *made.parameters.values(), made.txid, made.status_original, made.amount_original))
            assert "\0" not in kept
            kept.encode()  # PostgreSQL takes no half characters
            assert max(map(len, (*made.parameters, *made.parameters.values()))) <= VALUE_MAX


@settings(max_examples=examples(100, 2000))
@given(st.binary(max_size=300), st.one_of(st.sampled_from(CONTENT_TYPES), st.binary(max_size=60)), st.binary(max_size=600))
def test_a_body_only_ever_adds_and_never_more_than_can_be_read(target, content_type, body):
    found = merged(target, content_type, body)
    before, mark, fragment = target.partition(b"#")
    assert found.startswith(before)
    assert found.endswith(mark + fragment)
    assert len(found) <= WHOLE_MAX_BYTES
    assert found[len(before) :].count(b"&") <= FIELDS_MAX + (mark + fragment).count(b"&")


@settings(max_examples=examples(100, 2000))
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
        max_leaves=40,
    )
)
def test_any_json_is_taken_or_passed_over(value):
    body = json.dumps(value).encode()
    assert merged(b"/p", b"application/json", body).startswith(b"/p")


@settings(max_examples=examples(75, 1500))
@given(st.lists(st.text(max_size=130), max_size=8), st.text(max_size=60))
def test_old_visits_go_into_the_cookie_and_come_out_newest_first(ids, forged):
    value, visits = "", []
    for old_id in ids:
        visit = visitor_cookie.old_visit(old_id)
        if visit:
            value = visitor_cookie.with_click(value, KEY, visit)
            visits = [visit, *(known for known in visits if known != visit)][: visitor_cookie.CLICKS_MAX]
    assert visitor_cookie.read(value, KEY) == tuple(visits)
    assert visitor_cookie.read(forged, KEY) == ()
    assert visitor_cookie.read(value, visitor_cookie.derive(b"other")) == ()
    assert len(value) <= 1024


@settings(max_examples=examples(100, 2000))
@given(st.data())
def test_a_token_is_never_shown_and_never_kept(data):
    row = data.draw(st.sampled_from(SECRETS))
    source, token = SOURCES[row["platform"]], row["expect"]["token"]
    path, mark, query = row["target"].partition("?")
    pairs = data.draw(st.permutations(query.split("&")))
    target = f"{path}{mark}{'&'.join(pairs)}".replace(token, data.draw(written(token))).encode()
    body = b""
    if query and row["method"] == "GET" and token in query and data.draw(st.booleans()):
        target, body = path.encode(), target.partition(b"?")[2]
    report = old_report(row, target=target, content_type=FORM if body else b"", body=body)
    found, secret = read_report(source, report), secret_of(source, report.host, report.whole_target)
    assert found.conversion.token == token, label(row)
    shown = unquote_plus(masked(target, secret) + masked_body(body, secret))
    assert token not in shown, label(row)
    assert token not in str(postback(source, report, found, ReportSettings(token_hashes=(token_hash(token),)))), label(row)
