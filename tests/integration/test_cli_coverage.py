"""`turnout coverage`: real log files of every format against a real route table, to the last click."""

import asyncio
import gzip
import json
import os
import threading
from pathlib import Path

import asyncpg
import pytest
import typer
import zstandard
from typer.testing import CliRunner, Result

from tests.wait import wait_until
from tracker.adapters.lmdb_environment import alive_path
from tracker.adapters.lmdb_route_store import Position, RouteStore
from tracker.adapters.lmdb_routes import RouteTable
from tracker.adapters.log_files import READ_BYTES, LogFile, lines_of
from tracker.cli import coverage, main
from tracker.domain import routes
from tracker.domain.access_logs import LINE_MAX_BYTES
from tracker.errors import RejectedInput, TurnoutError
from workers.route_publisher import publish

pytestmark = pytest.mark.integration

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
OLD = "go.old.example"
ROUTES = [
    routes.PartnerRoute(partner_id=1, slug="ada"),
    routes.PartnerRoute(partner_id=2, slug="bob", status="paused"),
    routes.CampaignRoute(campaign_id=1, slug="shoes", advertiser_id=1, destination="https://shop.example/"),
    routes.LinkRoute(link_id=1, slug="ada-shoes", campaign_id=1, partner_id=1, advertiser_id=1),
    routes.HostRoute(host_id=1, host=OLD, platform="tune"),
    routes.HostRoute(host_id=2, host="go.bare.example", platform=None),
    routes.HostRoute(host_id=3, host="pap.old.example", platform="postaffiliatepro"),
    routes.AliasRoute(alias_id=1, host=OLD, match_key="/summer", link_id=1, advertiser_id=1),
    routes.OldIdRoute(old_id=1, source="tune", kind="partner", source_id="1004", partner_id=1),
    routes.OldIdRoute(old_id=2, source="tune", kind="partner", source_id="1005", partner_id=2),
    routes.OldIdRoute(old_id=3, source="tune", kind="offer", source_id="12", campaign_id=1),
]


def line(target: str, host: str = OLD, *, method: str = "GET", status: int = 302, agent: str = CHROME) -> str:
    return f'{host} 192.0.2.1 - - [22/Nov/2026:08:00:00 +0000] "{method} {target} HTTP/1.1" {status} 0 "-" "{agent}"'


LINES = [
    *[line("/aff_c?offer_id=12&aff_id=1004")] * 5,  # ada
    *[line(f"/aff_c?offer_id=12&aff_id=1004&aff_sub={number}") for number in range(3)],
    line("/aff_c?offer_id=12&aff_id=1005"),  # bob, paused
    line("/summer", OLD + ":443"),
    line("/c/ada-shoes", "links.new.example"),
    *[line(f"/aff_c?offer_id=99&aff_id=1004&source={number}", status=404) for number in range(2)],
    line("/aff_c?offer_id=12&aff_id=7"),
    line("/aff_c?offer_id=99&aff_id=7"),
    line("/nothing/123"),
    line("/nothing/456", status=500),
    line("/aff_c?offer_id=12&aff_id=1004", "go.bare.example"),
    line("/aff_c?offer_id=12&aff_id=1004", "203.0.113.5"),
    line("/", "pap.old.example"),
    # no clicks
    line("/aff_lsr?transaction_id=x", agent="curl/8"),
    line("/aff_l?offer_id=12"),
    line("/aff_i?offer_id=12&aff_id=1004"),
    # left out
    line("/aff_c?offer_id=12&aff_id=1004", agent="Googlebot/2.1 (+http://www.google.com/bot.html)"),
    line("/aff_c?offer_id=12&aff_id=1004", agent="-"),
    line("/aff_c?offer_id=12&aff_id=1004", method="HEAD"),
    line("/aff_c?offer_id=12&aff_id=1004", method="POST"),
    line("/favicon.ico"),
    line("/robots.txt", agent="Googlebot/2.1"),
    line("/-/healthz"),
    line("/style.css?v=1"),
    line("/aff_c?offer_id=12&aff_id=1004&x=" + "x" * LINE_MAX_BYTES),
    r'go.old.example 192.0.2.1 - - [22/Nov/2026:08:00:00 +0000] "\x16\x03\x01" 400 0 "-" "-"',
    "",
]
TEXT = ("\n".join(LINES) + "\n").encode()


class Terminal:
    """Runs `turnout coverage` in a directory with a route table; the exit code is that of the command line's own table."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.app = directory, typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
        coverage.add_to(self.app)

    def run(self, *arguments: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(self.app, arguments, input=stdin, env={"TURNOUT_DATA_DIR": str(self.directory)})

    def json(self, *arguments: str, stdin: bytes | None = None):
        done = self.run(*arguments, "--json", stdin=stdin)
        assert done.exit_code == 0, (done.stderr, done.exception)
        return json.loads(done.stdout)

    def failed(self, *arguments: str, stdin: bytes | None = None) -> tuple[int, str]:
        """Exit code, and what is said of it."""
        done = self.run(*arguments, stdin=stdin)
        if isinstance(done.exception, TurnoutError):
            return main.exit_code(done.exception), str(done.exception)
        return done.exit_code, done.stderr

    def write(self, name: str, data: bytes) -> str:
        path = self.directory / name
        path.write_bytes(data)
        return str(path)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a published table, kept current a moment ago."""
    directory = tmp_path_factory.mktemp("coverage")
    path = directory / "routes" / "routes.mdb"
    store = RouteStore(path)
    store.apply(ROUTES, [], Position("db", 1))
    store.close()
    alive_path(path).touch()
    return directory


@pytest.fixture
def terminal(directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    monkeypatch.chdir(tmp_path)
    return Terminal(directory)


@pytest.fixture
def log(terminal: Terminal) -> str:
    return terminal.write("access.log", TEXT)


def test_every_line_is_counted_once_and_where_it_belongs(terminal: Terminal, log: str) -> None:
    found = terminal.json(log)
    assert found == {
        "lines": 33,
        "clicks": {"seen": 20, "resolved": 11, "resolved_percent": 55.0},
        "distinct_urls": {"seen": 16, "resolved": 7, "resolved_percent": 43.75, "is_estimate": False},
        "outcomes": {"ok": 10, "paused": 1},
        "not_clicks": {"postback": 1, "pixel": 1, "impression": 1},
        "left_out": {"robot": 2, "method": 2, "asset": 4, "other_host": 0, "unreadable": 1, "too_long": 1},
        "by_platform": [
            {"platform": "tune", "clicks": 16, "resolved": 10, "resolved_percent": 62.5},
            {"platform": "", "clicks": 3, "resolved": 1, "resolved_percent": 33.33},
            {"platform": "postaffiliatepro", "clicks": 1, "resolved": 0, "resolved_percent": 0.0},
        ],
        "by_partner": [
            {"platform": platform, "partner": partner, "old_partner_id": old_id, "clicks": clicks, "resolved": resolved,
             "resolved_percent": percent}
            for platform, partner, old_id, clicks, resolved, percent in (
                ("tune", "ada", "", 9, 9, 100.0), ("", "", "", 2, 0, 0.0), ("tune", "", "", 2, 0, 0.0), ("tune", "", "1004", 2, 0, 0.0),
                ("tune", "", "7", 2, 0, 0.0), ("", "ada", "", 1, 1, 100.0), ("postaffiliatepro", "", "", 1, 0, 0.0),
                ("tune", "bob", "", 1, 1, 100.0),
            )
        ],
        "by_shape": [
            {"platform": platform, "shape": shape, "clicks": clicks, "resolved": resolved, "resolved_percent": percent}
            for platform, shape, clicks, resolved, percent in (
                ("tune", "click", 13, 9, 69.23), ("", "", 2, 0, 0.0), ("tune", "", 2, 0, 0.0), ("", "link", 1, 1, 100.0),
                ("postaffiliatepro", "", 1, 0, 0.0), ("tune", "alias", 1, 1, 100.0),
            )
        ],
        "unresolved": [
            {"clicks": clicks, "host": host, "platform": platform, "shape": shape, "missing": missing, "refused": refused,
             "example": f"https://{host}{example}"}
            for clicks, host, platform, shape, missing, refused, example in (
                (2, OLD, "tune", "/aff_c?aff_id&offer_id&source", "offer", 2, "/aff_c?offer_id=99&aff_id=1004&source=0"),
                (2, OLD, "tune", "/nothing/{n}", "shape", 1, "/nothing/123"),
                (1, "203.0.113.5", "", "/aff_c?aff_id&offer_id", "host", 0, "/aff_c?offer_id=12&aff_id=1004"),
                (1, "go.bare.example", "", "/aff_c?aff_id&offer_id", "platform", 0, "/aff_c?offer_id=12&aff_id=1004"),
                (1, OLD, "tune", "/aff_c?aff_id&offer_id", "partner", 0, "/aff_c?offer_id=12&aff_id=7"),
                (1, OLD, "tune", "/aff_c?aff_id&offer_id", "partner and offer", 0, "/aff_c?offer_id=99&aff_id=7"),
                (1, "pap.old.example", "postaffiliatepro", "/", "anchor", 0, "/"),
            )
        ],
        "files": [{"file": log, "format": "vhost_combined", "lines": 33}],
        "warnings": [],
    }  # fmt: skip


def test_people_read_the_same_figures(terminal: Terminal, log: str) -> None:
    done = terminal.run(log, "--top", "2")
    assert done.exit_code == 0
    assert done.stderr == ""
    summary, _, tables = done.stdout.partition("\n\n")
    assert summary.splitlines() == [
        "20 clicks, 11 resolve: 55.00 %; 16 distinct URLs, 7 resolve: 43.75 %",
        "of those that resolve, to a fallback today: 1 paused",
        "of those that do not, 3 the old host refused too (4xx, 5xx)",
        "not clicks: 1 postback, 1 pixel, 1 impression",
        "left out: 2 by robots, 2 of other methods, 4 for files of pages, 1 unreadable, 1 too long",
    ]
    assert [" ".join(row.split()) for row in tables.splitlines()] == [
        "by platform", "platform clicks resolve %", "tune 16 10 62.50", "(none) 3 1 33.33", "… and 1 more; --top N, or --json", "",
        "by partner", "partner old id platform clicks resolve %", "ada tune 9 9 100.00", "(none) 2 0 0.00",
        "… and 6 more; --top N, or --json", "",
        "by shape", "platform shape clicks resolve %", "tune click 13 9 69.23", "(none) 2 0 0.00",
        "… and 4 more; --top N, or --json", "",
        "what does not resolve", "clicks refused before missing host shape example",
        "2 2 offer go.old.example /aff_c?aff_id&offer_id&source https://go.old.example/aff_c?offer_id=99&aff_id=1004&source=0",
        "2 1 shape go.old.example /nothing/{n} https://go.old.example/nothing/123", "… and 5 more; --top N, or --json",
    ]  # fmt: skip


def test_what_counts_can_be_chosen(terminal: Terminal, log: str) -> None:
    assert terminal.json(log, "--bots")["clicks"] == {"seen": 22, "resolved": 13, "resolved_percent": 59.09}
    assert terminal.json(log, "--all-methods")["clicks"] == {"seen": 22, "resolved": 13, "resolved_percent": 59.09}
    only = terminal.json(log, "--host", OLD.upper())
    assert only["left_out"]["other_host"] == 4
    assert only["clicks"] == {"seen": 16, "resolved": 10, "resolved_percent": 62.5}
    assert terminal.json(log, "--host", "links.new.example:80")["clicks"]["seen"] == 1
    assert terminal.failed(log, "--host", "links.new.example:8080")[0] == 1


def test_a_platform_can_be_tried_before_hosts_are_registered(terminal: Terminal, log: str) -> None:
    found = terminal.json(log, "--platform", "tune")
    assert found["clicks"] == {"seen": 20, "resolved": 12, "resolved_percent": 60.0}
    assert [row["missing"] for row in found["unresolved"] if row["host"] in ("203.0.113.5", "go.bare.example")] == []
    assert terminal.failed(log, "--platform", "nonsense") == (
        2,
        "there is no platform 'nonsense'; turnout platforms list names them",
    )


FORMATS = {
    "common": ('192.0.2.1 - - [t] "GET {target} HTTP/1.1" 302 0', ()),
    "combined": ('192.0.2.1 - - [t] "GET {target} HTTP/1.1" 302 0 "-" "{agent}"', ()),
    "vhost_combined": ('{host}:80 192.0.2.1 - - [t] "GET {target} HTTP/1.1" 302 0 "-" "{agent}"', ()),
    "combined_host": ('192.0.2.1 - - [t] "GET {target} HTTP/1.1" 302 0 "-" "{agent}" "{host}"', ()),
    "json": ('{{"host":"{host}","method":"GET","request_uri":"{target}","status":302,"user_agent":"{agent}"}}', ()),
    "alb": ('https 2026-11-22T08:00:00.1Z lb 192.0.2.1:2 10.0.0.1:80 0 0 0 302 302 0 5 "GET https://{host}:443{target} HTTP/1.1" "{agent}"',
            ()),
    "cloudfront": ("2026-11-22\tLHR\tGET\t{host}\t{path}\t302\t{agent_escaped}\t{query}",
                   ("#Version: 1.0",
                    "#Fields: date x-edge-location cs-method x-host-header cs-uri-stem sc-status cs(User-Agent) cs-uri-query")),
    "w3c": ("2026-11-22 GET {path} {query} {agent_plus} {host} 302",
            ("#Software: IIS", "#Fields: date cs-method cs-uri-stem cs-uri-query cs(User-Agent) cs-host sc-status")),
    "csv": ('{host};{target};302;"{agent}"', ("host;path;status;user_agent",)),
}  # fmt: skip
CLICKS = (
    [("/aff_c?offer_id=12&aff_id=1004", CHROME)] * 3
    + [("/aff_c?offer_id=12&aff_id=7", CHROME)] * 2
    + [("/aff_c?offer_id=12&aff_id=1004", "Googlebot/2.1")]
)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("compressed", [bytes, gzip.compress, zstandard.ZstdCompressor().compress], ids=["plain", "gz", "zst"])
def test_every_format_end_to_end(terminal: Terminal, name: str, compressed) -> None:
    template, heading = FORMATS[name]
    rows = [
        template.format(host=OLD, target=target, path=target.partition("?")[0], query=target.partition("?")[2], agent=agent,
                        agent_escaped=agent.replace(" ", "%2520"), agent_plus=agent.replace(" ", "+"))
        for target, agent in CLICKS
    ]  # fmt: skip
    path = terminal.write("some.log", compressed("\r\n".join([*heading, *rows]).encode()))
    needs_host = ("--host", OLD) if name in ("common", "combined") else ()
    robots = 0 if name == "common" else 1  # it has no agents
    for forced in ((), ("--format", name)):
        found = terminal.json(path, *needs_host, *forced)
        assert found["files"] == [{"file": path, "format": name, "lines": 6}]
        assert (found["clicks"]["seen"], found["clicks"]["resolved"]) == (6 - robots, 4 - robots)
        assert found["left_out"]["robot"] == robots
        assert [(row["clicks"], row["missing"]) for row in found["unresolved"]] == [(2, "partner")]


def test_a_log_without_hosts_needs_one(terminal: Terminal) -> None:
    path = terminal.write("nohost.log", b'192.0.2.1 - - [t] "GET /x HTTP/1.1" 302 0 "-" "-"\n')
    assert terminal.failed(path) == (2, f"{path} does not say which host was asked; --host NAME says it")


def test_several_files_and_stdin_are_one_whole(terminal: Terminal) -> None:
    plain = terminal.write("a.log", TEXT)
    joined = terminal.write("b.log", gzip.compress(TEXT[:2000]) + b"\0" * 512 + gzip.compress(TEXT[2000:]) + b"\0\0")
    frames = zstandard.ZstdCompressor().compress(TEXT[:2000]) + zstandard.ZstdCompressor().compress(TEXT[2000:])
    skipped = terminal.write("c", b"\x5a\x2a\x4d\x18\x04\x00\x00\x00abcd" + frames)
    found = terminal.json(plain, joined, skipped, "-", stdin=gzip.compress(TEXT))
    assert found["clicks"] == {"seen": 80, "resolved": 44, "resolved_percent": 55.0}
    assert found["lines"] == 4 * 33
    assert [row["file"] for row in found["files"]] == [plain, joined, skipped, "-"]
    assert found["warnings"] == []


@pytest.mark.parametrize("form", ["gzip", "Zstandard"])
def test_of_a_damaged_file_counts_what_can_be_read(terminal: Terminal, form: str) -> None:
    compress = gzip.compress if form == "gzip" else zstandard.ZstdCompressor(write_checksum=True).compress
    short = "".join(f"{text}\n" for text in LINES if len(text) < 1000).encode()
    whole = compress(short) + compress(short)
    cut = terminal.write("cut.log", whole[:-20])
    broken = terminal.write("broken.log", compress(short) + whole[:2] + b"\xff" * 40)
    trailed = terminal.write("trailed.log", compress(short) + b"no such data")
    for path, wording in ((cut, "end in the middle"), (broken, "damaged"), (trailed, "damaged")):
        done = terminal.run(path, "--json")
        assert done.exit_code == 0
        assert json.loads(done.stdout)["clicks"]["seen"] >= 20
        (warning,) = json.loads(done.stdout)["warnings"]
        assert warning.startswith(f"{path}: the {form} data ")
        assert wording in warning
        assert done.stderr == f"warning: {warning}\n"


def test_a_disk_that_fails_is_told(terminal: Terminal, log: str) -> None:
    found = terminal.json("/proc/self/mem", log)
    assert found["clicks"]["seen"] == 20
    assert found["warnings"] == ["/proc/self/mem: reading failed after 0 bytes: Input/output error; the lines before count"]


def test_a_pipe_is_opened_once(terminal: Terminal, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(gzip.compress(TEXT),), daemon=True)
    writer.start()
    assert terminal.json(str(pipe))["clicks"]["seen"] == 20
    writer.join()


def test_long_logs_are_streamed(terminal: Terminal) -> None:
    text = (line("/aff_c?offer_id=12&aff_id=1004") + "\n") * 5000
    assert terminal.json(terminal.write("long.log", gzip.compress(text.encode())))["clicks"]["resolved"] == 5000


def test_exit_codes_and_one_line_each(terminal: Terminal, log: str) -> None:
    assert terminal.run(log, "--at-least", "55").exit_code == 0
    assert terminal.failed(log, "--at-least", "55.01") == (1, "error: less than 55.01 % of the clicks resolve\n")
    empty, junk = terminal.write("empty.log", b""), terminal.write("junk.log", b"\x00\x01\n" * 9)
    assert terminal.failed(empty) == (1, "error: nothing in there is a click\n")
    code, said = terminal.failed(junk)
    assert code == 1
    assert said.startswith(f"warning: {junk}: no format that is known")
    assert terminal.failed(log, str(terminal.directory / "none.log")) == (
        2, f"{terminal.directory / 'none.log'} cannot be read: No such file or directory",
    )  # fmt: skip
    assert terminal.failed(str(terminal.directory))[0] == 2
    assert terminal.failed("a\0b")[0] == 2
    assert terminal.failed(log, "--format", "xml")[0] == 2
    assert terminal.failed(log, "--at-least", "101")[0] == 2
    assert terminal.failed(log, "--host", f"https://{OLD}/")[0] == 2
    assert terminal.failed()[0] == 2


def test_without_a_table_nothing_is_said_of_the_links(tmp_path: Path, log: str) -> None:
    code, said = Terminal(tmp_path).failed(log)
    assert code == 3
    assert said.startswith("there is no route table at ")


def test_an_old_table_is_told(tmp_path: Path, log: str) -> None:
    store = RouteStore(tmp_path / "routes" / "routes.mdb")
    store.apply(ROUTES, [], Position("db", 1))
    store.close()
    done = Terminal(tmp_path).run(log)
    assert done.exit_code == 0
    assert done.stderr == "warning: nobody has kept the route table current for ever; is turnout work routes running?\n"


def test_nothing_in_a_log_steers_the_terminal(terminal: Terminal) -> None:
    path = terminal.write("evil.log", line(r"/\x1b[31m:smile:[b]\x0a").encode() + b"\n" + line("/x", "\x1b[31m.example").encode())
    out = terminal.run(path, "--format", "vhost_combined").stdout
    assert "\x1b" not in out
    assert "https://go.old.example/%1B[31m:smile:[b]%0A" in out


def test_memory_is_bounded_by_the_chunk_and_the_line(tmp_path: Path) -> None:
    """A bomb of one line comes in pieces, and the line as its first bytes."""
    for name, packed in (("gz", gzip.compress(b"\0" * (1 << 26))), ("zst", zstandard.ZstdCompressor().compress(b"\0" * (1 << 26)))):
        path = tmp_path / name
        path.write_bytes(packed)
        file = LogFile(str(path))
        assert [len(found) for found in file.lines(1000)] == [1001]
        assert (file.problem, file.read_bytes, file.size_bytes) == ("", len(packed), len(packed))
    with pytest.raises(RejectedInput):
        LogFile(str(tmp_path / "none"))


@pytest.mark.parametrize("size", [1, 2, 3, 7, READ_BYTES])
def test_lines_do_not_depend_on_where_chunks_end(size: int) -> None:
    text = b"\xef\xbb\xbfone\r\ntwo\n\nthree" + b"!" * 20 + b"\r\nfour"
    chunks = [text[start : start + size] for start in range(0, len(text), size)]
    whole = [b"one", b"two", b"", b"three!!!!!!", b"four"]
    assert list(lines_of(chunks, 10)) == whole
    assert list(lines_of([*chunks, b"\n"], 10)) == whole
    assert list(lines_of([], 10)) == []


async def test_against_a_table_published_from_postgresql(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way: rows of the programme, the route publisher, the command."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("""
        INSERT INTO advertisers (slug, currency) VALUES ('shop', 'EUR');
        INSERT INTO campaigns (slug, advertiser_id, destination_url, source, source_id)
            SELECT 'shoes', id, 'https://shop.example/', 'tune', '12' FROM advertisers;
        INSERT INTO partners (slug, source, source_id) VALUES ('ada', 'tune', '1004');
        INSERT INTO tracking_hosts (host, platform, advertiser_id) SELECT 'go.old.example', 'tune', id FROM advertisers;
    """)
    await connection.close()
    path, stop = tmp_path / "routes" / "routes.mdb", asyncio.Event()
    task = asyncio.create_task(publish(dsn, path, stop, fallback=None))
    table = RouteTable(path)

    def is_published() -> bool:
        table.refresh()
        return table.host(OLD) is not None and table.old_id("tune", "partner", "1004") is not None

    try:
        await wait_until(is_published)
        monkeypatch.chdir(tmp_path)
        log = tmp_path / "access.log"
        log.write_bytes(TEXT)
        found = await asyncio.to_thread(Terminal(tmp_path).json, str(log), "--host", OLD)
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)
        table.close()
    assert found["clicks"] == {"seen": 16, "resolved": 8, "resolved_percent": 50.0}
    assert found["by_partner"][0]["partner"] == "ada"
