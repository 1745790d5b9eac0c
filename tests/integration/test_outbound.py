"""Requests of our own: what nobody opened is never connected to, whatever a URL, a name or an answer says."""

import asyncio
import socket
import ssl
import subprocess
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest

from tests.wait import wait_until
from tracker.adapters.outbound import BODY_MAX_BYTES, NAMES_AT_ONCE_MAX, Outbound
from tracker.errors import OutboundError, OutboundFailed, OutboundRefused

pytestmark = pytest.mark.integration
LOCAL = (ip_network("127.0.0.0/8"),)
NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusted; to read all authorities takes a while
LONG_S = 30.0  # for what is to succeed, on a busy machine
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


@dataclass
class Listener:
    """A server on 127.0.0.1 that counts connections, keeps what was sent and gives `answer`; None: nothing, ever."""

    port: int = 0
    answer: bytes | None = OK
    closes: bool = False
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(line[16:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")), 0)
                self.requests.append(head + await reader.readexactly(length))
                if self.answer is None:
                    await reader.read()  # until the client has enough of it
                    return
                writer.write(self.answer)
                await writer.drain()
                if self.closes:
                    return
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def listening(tls=None, **how):
    listener = Listener(**how)
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0, ssl=tls)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()


@asynccontextmanager
async def outbound(*allow, addresses=None, tls=None):
    """`addresses`: what each look-up of a name gives, the last for ever; None: the system's resolver."""
    looked_up = []

    async def resolve(host, port):
        looked_up.append(host)
        return addresses[min(len(looked_up), len(addresses)) - 1]

    made = Outbound(allow, resolve=resolve if addresses else None, tls=tls or NOBODY)
    made.looked_up = looked_up
    yield made
    await made.close()


async def get(client, url, **headers):
    return await client.send("GET", url, headers=headers, timeout_s=LONG_S)


TRAPS = (
    "http://127.0.0.1:{}/", "http://localhost:{}/", "http://2130706433:{}/", "http://0x7f000001:{}/", "http://017700000001:{}/",
    "http://127.1:{}/", "http://0:{}/", "http://0.0.0.0:{}/", "http://[::ffff:127.0.0.1]:{}/", "http://[::ffff:7f00:1]:{}/",
    "http://[64:ff9b::7f00:1]:{}/", "http://[::]:{}/", "http://[::1]:{}/", "http://[::127.0.0.1]:{}/", "http://example.com@127.0.0.1:{}/",
    "http://127.0.0.1:{}\\@example.com/", "http://example.com#@127.0.0.1:{}/", "http://127.0.0.1:{}#@example.com/",
    "http://127.0.0.1.:{}/", "http://localhost.:{}/", "http://LOCALHOST:{}/", "http://\u2460\u2461\u2466.0.0.1:{}/",
    "gopher://127.0.0.1:{}/", "http:127.0.0.1:{}/", "http:///127.0.0.1:{}/",
)  # fmt: skip


@pytest.mark.parametrize("trap", TRAPS)
async def test_no_spelling_of_this_machine_is_connected_to(trap):
    async def resolve(host, port):
        """The system's, but without the internet."""
        if host == "example.com":
            return ["127.0.0.1"]
        return [row[4][0] for row in await asyncio.get_running_loop().getaddrinfo(host, port)]

    async with listening() as listener:
        client = Outbound((), resolve=resolve, tls=NOBODY)
        with pytest.raises(OutboundRefused):
            await get(client, trap.format(listener.port))
        await client.close()
        assert listener.connections == 0


async def test_a_name_that_answers_the_check_with_one_address_and_then_with_another_reaches_nothing():
    """It is asked once for a connection: the second answer is never heard, and a later connection is checked anew."""
    async with listening() as listener, outbound(addresses=[["192.0.2.1"], ["127.0.0.1"]]) as client:
        for _ in range(3):
            with pytest.raises(OutboundRefused):
                await get(client, f"http://rebinding.example:{listener.port}/")
        assert listener.connections == 0

    opened = ip_network("192.0.2.0/24")  # stands for an address on the internet that nobody answers at
    async with listening() as listener, outbound(opened, addresses=[["192.0.2.1"], ["127.0.0.1"]]) as client:
        with pytest.raises(OutboundFailed):
            await client.send("GET", f"http://rebinding.example:{listener.port}/", headers={}, timeout_s=0.5)
        assert client.looked_up == ["rebinding.example"]
        with pytest.raises(OutboundRefused):
            await get(client, f"http://rebinding.example:{listener.port}/")
        assert listener.connections == 0


async def test_a_name_with_one_private_address_among_public_ones_is_refused_as_a_whole():
    async with listening() as listener, outbound(addresses=[["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"]]) as client:
        for _ in range(2):
            with pytest.raises(OutboundRefused, match=r"127\.0\.0\.1"):
                await get(client, f"http://half.example:{listener.port}/")
        assert listener.connections == 0


async def test_a_redirect_is_an_answer_and_is_not_followed():
    async with listening() as trap:
        moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % trap.port
        async with listening(answer=moved) as listener, outbound(*LOCAL) as client:
            reply = await get(client, f"http://127.0.0.1:{listener.port}/")
        assert (reply.status, reply.headers["location"]) == (302, f"http://127.0.0.1:{trap.port}/")
        assert trap.connections == 0


async def test_no_proxy_of_the_environment_is_asked(monkeypatch):
    async with listening() as proxy, listening() as listener, outbound(*LOCAL) as client:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await get(client, f"http://127.0.0.1:{listener.port}/")).body == b"OK"
        assert proxy.connections == 0


async def test_what_an_operator_opens_is_reached_byte_for_byte_under_the_hosts_own_name():
    target = "//a%7e/../b;c+d|e?x=%7e&y=%zz&&=\"'{}[]<>^`#f"
    async with listening() as listener, outbound(*LOCAL, addresses=[["127.0.0.1"]]) as client:
        headers = {"User-Agent": "shop/1", "Cookie": "a=b", "Host": "evil.example", "Content-Length": "9", "Transfer-Encoding": "chunked"}
        url = f"http://old.example:{listener.port}{target}"
        reply = await client.send("POST", url, headers=headers, body=b"\x00\xff&=", timeout_s=LONG_S)
        assert (reply.status, reply.body) == (200, b"OK")
    (sent,) = listener.requests
    head, _, body = sent.partition(b"\r\n\r\n")
    assert body == b"\x00\xff&="
    first, *lines = head.split(b"\r\n")
    assert first == f"POST {target} HTTP/1.1".encode()
    host = b"Host: old.example:%d" % listener.port
    assert sorted(lines) == sorted([host, b"User-Agent: shop/1", b"Cookie: a=b", b"Content-Length: 4"])


async def test_connections_are_kept_and_no_cookie_is():
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nX-Two: 1\r\nX-Two: 2\r\nContent-Length: 0\r\n\r\n"
    async with listening(answer=answer) as listener, outbound(*LOCAL) as client:
        for _ in range(3):
            reply = await get(client, f"http://127.0.0.1:{listener.port}/")
            assert reply.headers["x-two"] == "1"
        assert listener.connections == 1
        assert not any(b"ookie" in request for request in listener.requests)


async def test_the_next_address_is_tried_when_the_first_refuses():
    async with listening() as listener, outbound(*LOCAL, addresses=[["127.0.0.2", "127.0.0.1"]]) as client:
        assert (await get(client, f"http://old.example:{listener.port}/")).status == 200


async def test_of_an_answer_without_end_only_the_beginning_is_read():
    async with (
        listening(answer=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"FFFF\r\n" + b"x" * 65535) as listener,
        outbound(*LOCAL) as client,
    ):
        for _ in range(2):
            assert (await get(client, f"http://127.0.0.1:{listener.port}/")).body == b"x" * BODY_MAX_BYTES
        assert listener.connections == 2  # what has an unread rest is not used again


@pytest.mark.parametrize("broken", [None, b"", b"no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"])
async def test_no_answer_in_time_or_none_that_is_http_is_a_failure(broken):
    async with listening(answer=broken, closes=True) as listener, outbound(*LOCAL) as client:
        with pytest.raises(OutboundFailed):
            await client.send("GET", f"http://127.0.0.1:{listener.port}/", headers={}, timeout_s=0.5 if broken is None else LONG_S)


async def test_the_time_counts_the_look_up_of_the_name():
    async def resolve(host, port):
        await asyncio.sleep(3600)

    client = Outbound(LOCAL, resolve=resolve, tls=NOBODY)
    with pytest.raises(OutboundFailed, match="in time"):
        await client.send("GET", "http://old.example/", headers={}, timeout_s=0.2)
    await client.close()


async def test_names_that_hang_keep_four_threads_of_our_own_and_nobody_elses(monkeypatch):
    hangs, asked = threading.Event(), []

    def look_up(host, *_, **__):
        asked.append(host)
        hangs.wait(LONG_S)
        return [(None, None, None, "", ("10.0.0.1", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    client = Outbound((), tls=NOBODY)
    names = [f"name{number}.example" for number in range(NAMES_AT_ONCE_MAX)]
    waiting = [asyncio.create_task(client.send("GET", f"http://{name}/", headers={}, timeout_s=LONG_S)) for name in names * 2]
    await wait_until(lambda: len(asked) == NAMES_AT_ONCE_MAX, because="all threads look up")
    with pytest.raises(OutboundFailed, match="busy"):
        await client.send("GET", "http://another.example/", headers={}, timeout_s=LONG_S)
    assert await asyncio.to_thread(lambda: "free") == "free"
    waiting[0].cancel()  # its name is waited for by another
    hangs.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in done[1:]] == [OutboundRefused] * (2 * NAMES_AT_ONCE_MAX - 1)
    assert sorted(asked) == names  # each once
    await client.close()


async def test_a_name_that_does_not_exist_and_a_port_that_nobody_listens_on_are_failures():
    async def resolve(host, port):
        raise OSError(-2, "Name or service not known")

    client = Outbound(LOCAL, resolve=resolve, tls=NOBODY)
    with pytest.raises(OutboundFailed, match="Name or service not known"):
        await get(client, "http://old.example/")
    await client.close()
    async with listening() as listener:
        port = listener.port
    async with outbound(*LOCAL) as client:
        with pytest.raises(OutboundFailed):
            await get(client, f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("name", ["X-Bad", "Bad\r\nX-Other"])
async def test_a_header_cannot_end_the_head(name):
    async with listening() as listener, outbound(*LOCAL) as client:
        with pytest.raises(OutboundRefused):
            await get(client, f"http://127.0.0.1:{listener.port}/", **{name: "a\r\nX-More: b"})
        assert not listener.requests


async def test_calls_that_fail_leave_no_connection_taken():
    """More failures than the pool has places, cancelled calls among them, and then a call that succeeds."""
    async with listening(answer=None) as mute, listening() as listener, outbound(*LOCAL) as client:
        calls = [client.send("GET", f"http://127.0.0.1:{mute.port}/", headers={}, timeout_s=0.2) for _ in range(100)]
        assert all(isinstance(found, OutboundError) for found in await asyncio.gather(*calls, return_exceptions=True))
        assert (await get(client, f"http://127.0.0.1:{listener.port}/")).status == 200


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority and a certificate of it for `old.example`."""
    folder = tmp_path_factory.mktemp("authority")

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test", "-days", "2",
            "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    openssl("req", *new_key, "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=old.example")
    (folder / "names").write_text("subjectAltName=DNS:old.example")
    openssl("x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "cert.pem", "-days", "2",
            "-extfile", "names")  # fmt: skip
    return folder


async def test_tls_is_checked_against_the_name_though_the_connection_is_made_by_address(authority):
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    asked = []
    serving.sni_callback = lambda _socket, name, _context: asked.append(name)
    trusting = ssl.create_default_context(cafile=str(authority / "ca.pem"))
    async with listening(tls=serving) as listener, outbound(*LOCAL, addresses=[["127.0.0.1"]], tls=trusting) as client:
        assert (await get(client, f"https://old.example:{listener.port}/")).body == b"OK"
        assert asked == ["old.example"]
        with pytest.raises(OutboundFailed, match=r"(?i)certificate"):
            await get(client, f"https://other.example:{listener.port}/")
        assert len(listener.requests) == 1
    client = Outbound(LOCAL)  # trusts the usual authorities, of which this is none
    async with listening(tls=serving) as listener:
        with pytest.raises(OutboundFailed, match=r"(?i)certificate"):
            await get(client, f"https://localhost:{listener.port}/")
        assert not listener.requests
    await client.close()
