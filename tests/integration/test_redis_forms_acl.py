"""The users of deploy/redis/users.acl: a click and a conversion go all their way, nothing of it is refused, and all else is."""

import asyncio
import json
import re
from contextlib import suppress
from pathlib import Path
from urllib.request import Request, urlopen

import asyncpg
import pytest
from redis.exceptions import ResponseError

from tests.integration.redis_servers import RedisServer
from tests.integration.test_conversion_journal import ADMIN_KEY, PIXEL_KEY, PROGRAMME, SECRET, TOKEN, Tracker
from tests.wait import wait_until_sync
from tracker.adapters.postgres_programme import digest
from tracker.wire import GROUP, stream_key

pytestmark = [pytest.mark.integration, pytest.mark.timeout(150)]
USERS = Path(__file__).parents[2] / "deploy/redis/users.acl"
MORE_LINKS = """
    INSERT INTO links (slug, partner_id, campaign_id, advertiser_id)
        SELECT 'l' || n, p.id, c.id, c.advertiser_id FROM partners p, campaigns c, generate_series(2, 5) n;
"""
ROLES = {"serve redirector": "redirector", "serve tracker": "tracker", "work clicks conversions": "workers", "work routes": "workers"}
# Rights that a single server never needs: they are for sentinels and clusters.
FOR_OTHER_FORMS = {"role", "cluster|slots"}
REFUSED = {
    "redirector": (
        ("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("XRANGE", "turnout:conversions:{0}", "-", "+"), ("GET", "turnout:boot:1"),
        ("XRANGE", "turnout:clicks:{0}", "-", "+"), ("XTRIM", "turnout:clicks:{0}", "MAXLEN", 0), ("DEL", "turnout:clicks:{0}"),
        ("SET", "turnout:covered:1", "x"), ("XADD", "other", "*", "v", "1"), ("ACL", "LIST"),
    ),
    "tracker": (
        ("FLUSHALL",), ("XADD", "turnout:clicks:{0}", "*", "v", "1"), ("XACK", "turnout:conversions:{0}", "writers", "1-0"),
        ("SET", "turnout:covered:1", "x"), ("EVAL", "return 1", 0), ("SET", "other", "x"),
    ),
    "workers": (
        ("FLUSHALL",), ("XADD", "turnout:clicks:{0}", "*", "v", "1"), ("DEL", "turnout:clicks:{0}"), ("SET", "turnout:boots", "x"),
        ("EVAL", "return redis.call('FLUSHALL')", 1, "turnout:covered:1"),
        ("EVAL", "return redis.call('GET', 'other')", 1, "turnout:covered:1"),
        ("CONFIG", "SET", "appendonly", "no"), ("SCRIPT", "FLUSH"),
    ),
    "operator": (
        ("FLUSHALL",), ("CONFIG", "SET", "appendonly", "no"), ("XTRIM", "turnout:clicks:{0}", "MAXLEN", 0), ("EVAL", "return 1", 0),
    ),
}  # fmt: skip


@pytest.fixture
def server(tmp_path):
    """Runs with the file as it is, but for a password for each user, and a user for the test to look on with."""
    text = re.sub(r"^user turnout-(\w+) on resetpass", r"user turnout-\1 on >\1-secret", USERS.read_text(), flags=re.MULTILINE)
    (tmp_path / "users.acl").write_text(text + "user looker on >looker ~* &* +@all\n")
    built = RedisServer(
        tmp_path / "redis", aclfile=str(tmp_path / "users.acl"), client={"username": "looker", "password": "looker"}, acllog_max_len="500"
    )
    try:
        yield built.start()
    finally:
        built.kill()


class SeparateUsers(Tracker):
    """Each part logs in as a user of its own; the commands of an operator as the operator."""

    def __init__(self, directory, dsn, server):
        self._server = server
        super().__init__(directory, dsn, self.url("operator"))

    def url(self, role):
        return f"redis://turnout-{role}:{role}-secret@{self._server.host}/0"

    def start(self, name, key=None, **environment):
        super().start(name, key, TURNOUT_REDIS_URL=self.url(ROLES[name]), **environment)

    def audit_of_the_tracker(self):
        address = f"http://127.0.0.1:{self.tracker_port}/api/v1/audit"
        with urlopen(Request(address, headers={"Authorization": f"Bearer {ADMIN_KEY}"}), timeout=30) as answer:
            return json.load(answer)

    def prepare_programme(self):
        async def fill():
            connection = await asyncpg.connect(self.dsn)
            await connection.execute(PROGRAMME + MORE_LINKS)
            for kind, secret in (("token", TOKEN), ("pixel", PIXEL_KEY)):
                await connection.execute(SECRET, kind, digest(secret))
            await connection.close()

        asyncio.run(fill())


@pytest.fixture
def parts(tmp_path, server, own_servers):
    built = SeparateUsers(tmp_path / "data", own_servers.dsn, server)
    built.prepare_programme()
    yield built
    built.close()


def test_with_the_users_of_the_file_everything_works_and_nothing_else(parts, server, own_servers):
    parts.start("work routes")
    parts.start("serve redirector")
    parts.start_tracker()
    wait_until_sync(lambda: parts.get("/c/l5", method="HEAD")[2], because="link l5 is live")
    parts.click(10)
    wait_until_sync(lambda: read_and_die(server), because="a writer took entries with it")
    parts.start("work clicks conversions")
    wait_until_sync(parts.knows_the_token, because="the token is published")
    parts.click(100)
    wait_until_sync(lambda: set(parts.accepted) <= set(parts.stored()), because="the clicks are stored")
    click = parts.accepted[0]
    assert parts.postback("before", click)[1]["status"] == "attributed"
    own_servers.postgres.kill()
    kept = [f"T-{number}" for number in range(5)]
    assert {parts.postback(txid, click)[0] for txid in kept} == {202}
    parts.click(40)
    own_servers.postgres.start()
    parts.settle_conversions(["before", *kept])
    parts.settle()
    checks = parts.turnout("doctor")[1]
    assert "maxmemory-policy" in checks
    assert parts.turnout("replay", "--since", "1h")[0] == 0
    assert parts.audit_of_the_tracker()["state"] == "balanced"
    for name in ("serve redirector", "serve tracker", "work clicks conversions"):
        parts.stop(name)
    assert denied(server) == []
    assert granted() - used(server) == FOR_OTHER_FORMS
    for role, commands in REFUSED.items():
        for command in commands:
            with pytest.raises(ResponseError, match=r"permission|user executing the script"):
                server.ask(*command, username=f"turnout-{role}", password=f"{role}-secret")


def read_and_die(server):
    stream = stream_key("clicks", 0)
    with suppress(ResponseError):
        server.ask("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
    return server.ask("XREADGROUP", "GROUP", GROUP, "dead:0", "STREAMS", stream, ">")


def denied(server):
    return [(entry["username"], entry["context"], entry["object"]) for entry in server.ask("ACL LOG")]


def granted():
    return set(re.findall(r"\+([a-z|]+)", USERS.read_text()))


def used(server):
    stats = {name.removeprefix("cmdstat_"): stat for name, stat in server.info("commandstats").items()}
    return {name for name, stat in stats.items() if stat["calls"] > stat["rejected_calls"]}
