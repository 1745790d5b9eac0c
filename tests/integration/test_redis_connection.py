"""One connection, used by tasks that may be cancelled."""

import asyncio
import contextlib
import itertools
import socket
import struct
import threading
import time

import pytest
import uvloop

from tracker.adapters.redis_connection import RedisConnection
from tracker.errors import StreamUnavailable

pytestmark = pytest.mark.integration


async def test_the_answer_to_a_cancelled_command_is_not_taken_for_the_next_one(redis_url):
    connection = RedisConnection(redis_url)
    await connection.command("SET", "turnout:test", "mine", "EX", 60)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await connection.command("XREAD", "BLOCK", 400, "STREAMS", "turnout:nothing", "$")
    assert await connection.command("GET", "turnout:test") == b"mine"
    await connection.drop()


def test_a_server_that_resets_new_connections_is_an_outage_and_no_bug():
    """Under uvloop, as the parts run: a reset between connect and write is a RuntimeError there."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        port = listener.getsockname()[1]
        threading.Thread(target=_reset_all, args=(listener,), daemon=True).start()
        assert uvloop.run(_outages(f"redis://127.0.0.1:{port}", 400)) == 400


def _reset_all(listener):
    for number in itertools.count():
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        time.sleep(number % 30 / 20_000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


async def _outages(url, tries):
    found = 0
    for _ in range(tries):
        connection = RedisConnection(url)
        with contextlib.suppress(StreamUnavailable):
            await connection.command("PING", near="x")
            found -= 1
        found += 1
        await connection.drop()
    return found
