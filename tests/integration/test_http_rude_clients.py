"""Clients that reset, half-close or never read: they cost nobody else an answer, and leave no trace of an error in the log."""

import contextlib
import random
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.pipeline import Pipeline, make_programme
from tests.wait import wait_until_sync
from tracker.adapters import http_server, transports

pytestmark = pytest.mark.integration
REQUEST = b"GET /c/l1 HTTP/1.1\r\nHost: go.example\r\nUser-Agent: Mozilla/5.0 Firefox/140.0\r\n\r\n"


@pytest.fixture
async def pipeline(tmp_path, dsn, redis_url):
    await make_programme(dsn)
    built = Pipeline(tmp_path / "data", dsn, redis_url)
    yield built
    built.close()


def reset_in_the_middle(port):
    """Some of the resets arrive while the answer waits for the journal."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(REQUEST * 20)
        time.sleep(random.random() / 500)


def test_rude_clients_are_passed_over(pipeline, tmp_path):
    pipeline.start("work routes")
    pipeline.start("serve redirector")
    wait_until_sync(lambda: pipeline.get("/c/l1", method="HEAD")[0] == 302, because="the link is live")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(reset_in_the_middle, [pipeline.port] * 800))
    with socket.create_connection(("127.0.0.1", pipeline.port)) as half:
        half.sendall(REQUEST)
        half.shutdown(socket.SHUT_WR)
        half.recv(65536)  # an answer, or the end: it does not wait for ever
    with socket.create_connection(("127.0.0.1", pipeline.port)) as deaf:
        deaf.settimeout(1)
        with contextlib.suppress(OSError):
            deaf.sendall(REQUEST * 2000)
        assert pipeline.get("/c/l1")[0] == 302
    assert pipeline.get("/c/l1")[0] == 302
    pipeline.stop("serve redirector")
    told = (tmp_path / "data.log").read_text()
    assert "Traceback" not in told, told[-3000:]


async def test_only_the_going_of_a_client_is_passed_over():
    def failing(message):
        async def app(scope, receive, send):
            raise RuntimeError(message)

        return http_server._PassingOver(app)

    await failing(f"unable to perform operation on <TCPTransport>; {transports.CLOSED}")({}, None, None)
    with pytest.raises(RuntimeError, match="a bug"):
        await failing("a bug")({}, None, None)
