"""Lines of access logs: every format, what servers do to a request in their logs, and what is no such line."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.test_platforms_bounds import steps_of
from tracker.domain.access_logs import FORMATS, LINE_MAX_BYTES, NOTE, LogLine, format_of, reader_of, tokens_of

UA = b"Mozilla/5.0 (X11; Linux x86_64) Firefox/130.0"
TIME = b"[22/Nov/2026:08:00:00 +0000]"
REQUEST = b'"GET /aff_c?offer_id=1 HTTP/1.1"'
TARGET = b"/aff_c?offer_id=1"
AGENTS = b'"https://blog.example/" "' + UA + b'"'
HOST = b"go.old.example"
FULL = LogLine(HOST, b"GET", TARGET, 302, UA)
NO_HOST = LogLine(b"", b"GET", TARGET, 302, UA)

COMMON = b"192.0.2.1 - - " + TIME + b" " + REQUEST + b" 302 5"
COMBINED = COMMON + b" " + AGENTS
ALB = (
    b"https 2026-11-22T08:00:00.186641Z app/my-lb/50dc6c495c0c9188 192.0.2.1:2817 10.0.0.1:80 0.086 0.048 0.037 302 302 0 57 "
    b'"GET https://go.old.example:443/aff_c?offer_id=1 HTTP/1.1" "' + UA + b'" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 '
    b'arn:aws:elasticloadbalancing:us-east-2:1:targetgroup/t/7 "Root=1-5" "go.old.example" "arn:aws:acm:us-east-2:1:certificate/1" 1 '
    b'2026-11-22T08:00:00.0Z "forward" "-" "-" "10.0.0.1:80" "302" "-" "-"'
)
CLOUDFRONT_FIELDS = (
    b"#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent) "
    b"cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header"
)
CLOUDFRONT = (
    b"2026-11-22\t08:00:00\tLHR62-C2\t500\t192.0.2.1\tGET\td1.cloudfront.net\t/aff_c\t302\t-\t"
    b"Mozilla/5.0%2520(X11;%2520Linux%2520x86_64)%2520Firefox/130.0\toffer_id=1\t-\tMiss\tid==\tgo.old.example"
)
IIS_FIELDS = b"#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) cs-host sc-status"
IIS = b"2026-11-22 08:00:00 10.0.0.1 GET /aff_c offer_id=1 80 - 192.0.2.1 Mozilla/5.0+(X11;+Linux+x86_64)+Firefox/130.0 go.old.example 302"


def one(line, name=None, before=()):
    sample = [*before, line]
    found = name or format_of(sample)
    return found, reader_of(found, sample).read(line)


@pytest.mark.parametrize(
    ("line", "name", "read"),
    [
        (COMMON, "common", LogLine(b"", b"GET", TARGET, 302, None)),
        (COMBINED, "combined", NO_HOST),
        (COMBINED + b' "203.0.113.9, 198.51.100.7"', "combined", NO_HOST),
        (b"client.isp.example - - " + COMBINED[14:], "combined", NO_HOST),
        (HOST + b":443 " + COMBINED, "vhost_combined", LogLine(HOST + b":443", b"GET", TARGET, 302, UA)),
        (HOST + b" " + COMMON, "vhost_combined", LogLine(HOST, b"GET", TARGET, 302, None)),
        (b'"' + HOST + b'" ' + COMBINED, "vhost_combined", FULL),
        (HOST + b" 2001:db8::1 " + TIME + b" " + REQUEST + b" 302 0 " + AGENTS, "vhost_combined", FULL),
        (COMBINED + b" " + HOST, "combined_host", FULL),
        (COMBINED + b' "192.0.2.7" 0.003 "' + HOST + b'"', "combined_host", FULL),
        (COMBINED + b' upstream.internal "' + HOST + b'" 0.003 TLSv1.3', "combined_host", FULL),
        (b"192.0.2.1 " + HOST + b" - " + TIME + b" " + REQUEST + b" 302 5 " + AGENTS, "combined_host", FULL),
        (COMMON + b" " + HOST, "combined_host", LogLine(HOST, b"GET", TARGET, 302, None)),
        (ALB, "alb", LogLine(b"go.old.example:443", b"GET", TARGET, 302, UA)),
    ],
)
def test_text_formats(line, name, read):
    assert one(line) == (name, read)


@pytest.mark.parametrize(
    ("line", "read"),
    [
        (b'{"host":"go.old.example","request":"GET /aff_c?offer_id=1 HTTP/1.1","status":302,"user_agent":"%s"}', FULL),
        ((b'{"server_name":"x","http_host":"go.old.example","method":"get","request_uri":"/aff_c?offer_id=1","uri":"/index",'
         b'"status":"302","http_user_agent":"%s"}'), FULL),
        (b'{"vhost":"go.old.example","request_method":"GET","path":"/aff_c","query":"?offer_id=1","status":302,"agent":"%s"}', FULL),
        ((b'{"level":"info","request":{"method":"GET","host":"go.old.example","uri":"/aff_c?offer_id=1",'
         b'"headers":{"User-Agent":["%s"],"X":{}}},"status":302}'), FULL),  # Caddy
        ((b'{"RequestHost":"go.old.example","RequestMethod":"GET","RequestPath":"/aff_c?offer_id=1","DownstreamStatus":302,'
         b'"request_User-Agent":"%s"}'), FULL),  # Traefik
        ((b'{"ClientRequestHost":"go.old.example","ClientRequestMethod":"GET","ClientRequestURI":"/aff_c?offer_id=1",'
         b'"EdgeResponseStatus":302,"ClientRequestUserAgent":"%s"}'), FULL),  # Cloudflare
        ((b'{"httpRequest":{"requestMethod":"GET","requestUrl":"http://go.old.example/aff_c?offer_id=1","status":302,"userAgent":"%s"},'
         b'"host":{"name":"web1"}}'), FULL),  # Google
        (b'{"request":"/aff_c?offer_id=1","host":"-","user_agent":"%s","status":302,"bytes":123456}', NO_HOST),
        (b'{"url":"//go.old.example/aff_c?offer_id=1","user_agent":"%s","status":302,"upstream":[]}', FULL),
    ],
)  # fmt: skip
def test_json_lines(line, read):
    assert one(line % UA) == ("json", read)


def test_what_is_no_json_is_mended_or_none():
    reader = reader_of("json", [])
    assert reader.read(b'{"host":"h","url":"/\\x22\xff","user_agent":"\xe9"}') == LogLine(b"h", b"GET", b"/%22%FF", None, b"%E9")
    assert reader.read('{"host":"h","url":"/é","user_agent":"-"}'.encode()) == LogLine(b"h", b"GET", "/é".encode(), None, b"")
    for line in (b"", b"  \r"):
        assert reader.read(line) is NOTE
    for line in (
        b"[]",
        b"{}",
        b'{"a":1',
        b'{"url":5}',
        b'{"url":true}',
        b'{"url":[]}',
        b'{"url":12345}',
        b'{"a":' * 9000,
        b'{"a":1e999}',
        b"null",
    ):
        assert reader.read(line) is None, line[:20]


def test_w3c_logs_say_their_columns_themselves():
    assert one(CLOUDFRONT, before=[b"#Version: 1.0", CLOUDFRONT_FIELDS]) == ("cloudfront", FULL)
    assert one(IIS, before=[b"#Software: IIS", IIS_FIELDS]) == ("w3c", FULL)
    reader = reader_of("cloudfront", [CLOUDFRONT_FIELDS])
    assert reader.read(CLOUDFRONT.replace(b"offer_id=1", b"-")).target == b"/aff_c"
    assert reader.read(b"#Fields: cs-method cs-uri-stem") is NOTE  # another server's part of a joined file
    assert reader.read(b"GET /x") == LogLine(b"", b"GET", b"/x")
    assert reader.read(b"#Date: today") is NOTE
    assert reader.read(b" ") is NOTE
    assert reader.read(b"GET") is None
    assert reader_of("w3c", [b"x"]).read(IIS) is None
    assert reader_of("w3c", [IIS_FIELDS]).read(IIS.replace(b"Mozilla/5.0+(X11;+Linux+x86_64)+Firefox/130.0", b"-")).user_agent == b""


@pytest.mark.parametrize(
    ("heading", "line", "read"),
    [
        (b"url", b"https://go.old.example/aff_c?offer_id=1,2", LogLine(HOST, b"GET", TARGET + b",2")),
        (b"Link", b"go.old.example/aff_c?offer_id=1", LogLine(HOST, b"GET", TARGET)),
        (b"id,request_url,status", b'7,"https://go.old.example/aff_c?offer_id=1",302', LogLine(HOST, b"GET", TARGET, 302)),
        (
            b"host;path;query;method;user agent",
            b'go.old.example;/aff_c;offer_id=1;get;"' + UA + b'"',
            LogLine(HOST, b"GET", TARGET, None, UA),
        ),
        (b"host,path", b"go.old.example,//a", LogLine(HOST, b"GET", b"//a")),
        (b"url", b"//go.old.example/aff_c?offer_id=1", LogLine(HOST, b"GET", TARGET)),
        (b"host\tpath", b"go.old.example\taff_c?offer_id=1", LogLine(HOST, b"GET", TARGET)),
        (b'"host", "request", "status"', b'"go.old.example", "GET /aff_c?offer_id=1 HTTP/1.1", "302"', LogLine(HOST, b"GET", TARGET, 302)),
    ],
)
def test_csv(heading, line, read):
    assert one(line, before=[heading]) == ("csv", read)
    assert one(heading, "csv", before=[heading])[1] is NOTE


def test_what_is_no_row_is_none():
    reader = reader_of("csv", [b"", b"id,url", b"1,/x"])
    assert reader.read(b"1,/x\xff") == LogLine(b"", b"GET", b"/x\xff")
    assert reader.read(b"") is NOTE
    for line in (b"1", b"1,", b"1,-", b"\x00", b'1,a\rb,"c'):
        assert reader.read(line) is None, line
    assert reader_of("csv", []).read(b"x") is None


def test_the_request_is_as_it_was_sent():
    def target(text):
        return one(b'192.0.2.1 - - [t] "' + text + b'" 302 0', "common")[1].target

    assert target(rb"GET /a\x22b\xff\x5C HTTP/1.1") == b'/a"b\xff\\'
    assert target(rb"GET /a\"b\\c\t\q HTTP/1.1") == b'/a"b\\c\tq'
    assert target(b"GET /a b c HTTP/2.0") == b"/a b c"
    assert target(b"GET /a b") == b"/a b"
    assert target(b"GET //a") == b"//a"
    assert target(b"GET http://u:p@go.old.example?x HTTP/1.1") == b"/?x"
    assert one(b'- - - "-" "GET /x HTTP/1.1" 404 0 "a" "b"', "common")[1] == LogLine(b"", b"GET", b"/x", 404, b"b")


@pytest.mark.parametrize(
    "line",
    [
        b"x", b'"', b'"GET /x', b'192.0.2.1 - - [t] "\\x16\\x03" 400 0', b'"OPTIONS * HTTP/1.1"', b'"CONNECT h:443 HTTP/1.1"',
        b'192.0.2.1 - - [t] "-" 408 0 "-" "-"', b'"G /"', b"[[[", b'"\\',
    ],
)  # fmt: skip
def test_what_is_no_line(line):
    assert one(line, "combined")[1] is None


def test_lines_that_lack_columns():
    assert one(b'"GET /x HTTP/1.1"', "vhost_combined")[1] == LogLine(b"", b"GET", b"/x")
    assert one(b'- "GET /x HTTP/1.1" - "-"', "vhost_combined")[1] == LogLine(b"", b"GET", b"/x")
    assert one(b'"GET /x HTTP/1.1" 302 5 "-" "-"', "combined_host")[1] == LogLine(b"", b"GET", b"/x", 302, b"")
    for line in (b"", b" "):
        assert one(line, "combined")[1] is NOTE
        assert one(line, "alb")[1] is NOTE
    assert one(ALB.replace(UA, b"-"), "alb")[1].user_agent == b""
    assert one(ALB.replace(b"GET https://go.old.example:443/aff_c?offer_id=1 HTTP/1.1", b"- http://go.old.example:80- -"), "alb")[1] is None
    assert one(COMBINED, "alb")[1] is None
    assert one(b"a " * 14, "alb")[1] is None


def test_a_format_is_told_by_most_lines_not_by_the_first():
    junk = b'192.0.2.66 - - [t] "\\x16\\x03\\x01" 400 150 "-" "-"'
    assert format_of([junk] * 4 + [COMBINED]) == "combined"
    assert format_of([junk] * 9 + [COMBINED]) == ""
    assert format_of([b"", HOST + b" " + COMBINED, b"192.0.2.9 " + COMBINED, HOST + b" " + COMBINED]) == "vhost_combined"
    assert format_of([COMBINED, COMBINED, COMBINED + b" " + HOST]) == "combined"
    for sample in ([], [b""], [b"x"], [b"name,price", b"a,1"], [b'{"a":1'], [b"a" * (LINE_MAX_BYTES + 1)]):
        assert format_of(sample) == ""


def test_a_forced_format_without_a_host_in_sight_has_none():
    assert one(COMBINED, "combined_host") == ("combined_host", NO_HOST)
    assert one(HOST + b" " + COMBINED, "combined") == ("combined", NO_HOST)
    with pytest.raises(KeyError):
        reader_of("none", [])


lines = st.one_of(
    st.binary(max_size=400),
    st.lists(
        st.sampled_from([b'"', b"\\", b"[", b"]", b" ", b"GET /x HTTP/1.1", b"{", b'{"url":', b"}", b",", b"\t", b"-", b"#Fields: ", b"url",
                         b"host", HOST, b"\xff", b"\x00", b"\r", b"302", b"https 2026-11-22T", COMBINED, ALB, CLOUDFRONT,
                         CLOUDFRONT_FIELDS, IIS_FIELDS]),
        max_size=20,
    ).map(b"".join),
)  # fmt: skip


@given(st.lists(lines, max_size=5), lines)
@example([b"url"], b'"\r"')
@example([], b'{"url":"\\ud800"}')
def test_no_bytes_raise_in_any_format(sample, line):
    assert format_of(sample) in (*FORMATS, "")
    for name in FORMATS:
        read = reader_of(name, sample).read(line)
        assert read is None or read is NOTE or (read.target.startswith(b"/") and read.method)


HOSTILE = {
    "quotes": b'"', "quotes apart": b'" ', "escaped quotes": b'\\"', "backslashes": b"\\", "escaped blanks": b'"\\ ', "brackets": b"[",
    "brackets apart": b"[ ", "closed brackets": b"[] ", "both": b'["', "blanks": b" ", "words": b"a ", "names": b"a.", "dashes": b"a-.",
    "requests": b'"GET /x" ', "open requests": b'"GET /x ', "protocols": b"GET /x HTTP/1.1 ", "hex": b"\\x41", "cut hex": b"\\x4",
    "braces": b"{", "objects": b'{"a":', "bytes": b"\xff", "commas": b",", "tabs": b"\t", "numbers": b"1:", "percent": b"%25",
}  # fmt: skip


@pytest.mark.parametrize("name", ["combined_host", "alb", "json", "w3c", "csv"])  # one of each reader
@pytest.mark.parametrize("hostile", HOSTILE)
def test_work_is_linear_in_the_line(name, hostile):
    sample = {"cloudfront": [CLOUDFRONT_FIELDS], "w3c": [IIS_FIELDS], "csv": [b"host,url"]}.get(name, [])

    def steps(size):
        return max(steps_of(lambda line=line: reader_of(name, [*sample, line]).read(line)) for line in hostile_lines(hostile, size))

    assert steps(4000) < 2.5 * steps(2000) + 2000


def hostile_lines(hostile, size):
    for front in (b"", b'"GET /', b'192.0.2.1 - - [t] "GET /x HTTP/1.1" 302 5 "', b'{"url":"'):
        yield (front + HOSTILE[hostile] * size)[:size]


@pytest.mark.parametrize("hostile", ["quotes", "quotes apart", "escaped blanks", "brackets", "brackets apart", "both", "open requests"])
def test_words_are_found_in_one_pass(hostile):
    """Steps inside of an expression cannot be counted; at this size a quadratic one would take some 10^11, and never end."""
    line = (HOSTILE[hostile] * (1 << 20))[: 1 << 20]
    assert len(tokens_of(line)) <= len(line)
