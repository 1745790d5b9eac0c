"""Redis or Valkey servers of a test's own, in every form that operators have: one, a cluster, behind a sentinel, with TLS.

All on loopback, below the ephemeral ports, so that a killed server finds its port free again. `TEST_REDIS_BINARY` names another binary.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.ports import free_port
from tests.wait import wait_until_sync
from tracker.errors import BadConfiguration
from tracker.local import child
from tracker.local.valkey import server_binary

FAILOVER_AFTER_MS = 3000
NEVER_MS = 60_000  # for tests in which nothing dies: a busy machine must not look like a dead one
DISTRIBUTIONS = ("/usr/bin/redis-server", "/usr/bin/valkey-server")


def find_binary(*, tls=False):
    """A server binary; with TLS if that is asked for. Skips the test when this machine has none."""
    embedded = ()
    with contextlib.suppress(BadConfiguration):
        embedded = (str(server_binary()),)
    for path in filter(None, (os.environ.get("TEST_REDIS_BINARY"), *embedded, *DISTRIBUTIONS)):
        if shutil.which(path) and (not tls or _has_tls(path)):
            return path
    return pytest.skip(f"this machine has no Redis or Valkey binary{' with TLS' if tls else ''}")


def _has_tls(path):
    """Whether it gets as far as to miss the certificates."""
    command = [path, "--port", "0", "--tls-port", str(free_port()), "--tls-cert-file", "/nowhere"]
    with contextlib.suppress(subprocess.TimeoutExpired):
        return b"configure TLS" in subprocess.run(command, capture_output=True, timeout=10, check=False, cwd="/").stdout
    return False


class RedisServer:
    """One server. `options` are those of redis.conf, without the dashes; `client` those of the client that talks to it."""

    def __init__(self, directory, *, binary=None, tls=False, client=None, **options):
        self.directory, self.port = Path(directory), free_port()
        self.directory.mkdir(parents=True)
        self._binary, self._tls, self._process = binary or find_binary(tls=tls), tls, None
        self._client_options = client or {}
        self._options = {
            "port": "0" if tls else str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.directory),
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "repl-diskless-sync-delay": "0",
            "logfile": str(self.directory / "log"),
        } | {name.replace("_", "-"): value for name, value in options.items()}
        if tls:
            self._options["tls-port"] = str(self.port)

    @property
    def host(self):
        return f"127.0.0.1:{self.port}"

    def _argv(self):
        flags = [
            word for name, value in self._options.items() for word in (f"--{name}", *(value if isinstance(value, tuple) else (value,)))
        ]
        return [self._binary, *flags]

    def start(self):
        environment = child.environment(os.environ)
        self._process = subprocess.Popen(child.command(self._argv()), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until_sync(self.answers, because=f"{self._binary} answers, see {self.directory}/log")
        return self

    def answers(self):
        if self._process.poll() is not None:
            log = self.directory / "log"
            raise AssertionError(f"{self._binary} ended: {log.read_text()[-2000:] if log.exists() else 'no log'}")
        with contextlib.suppress(RedisError, OSError):
            self.ask("PING")
            return True
        return False

    def ask(self, *command, **options):
        with redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5, **(self._client_options | options)) as client:
            return client.execute_command(*command)

    def info(self, section):
        return self.ask("INFO", section)

    def role(self):
        with contextlib.suppress(RedisError, OSError):
            return self.ask("ROLE")[0].decode()
        return "away"

    def signal(self, number):
        self._process.send_signal(number)

    def kill(self):
        """kill -9, of a paused one too."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Cluster:
    """Masters that share all slots, and as many replicas; every node is formed by the commands an operator's tool would send."""

    def __init__(self, directory, masters=3, replicas=0, dead_after_ms=NEVER_MS, **options):
        settings = {
            "cluster_enabled": "yes", "cluster_node_timeout": str(dead_after_ms), "cluster_config_file": "nodes.conf",
            "cluster_replica_validity_factor": "0", "cluster_allow_replica_migration": "no",
        }  # fmt: skip
        self.masters = [RedisServer(f"{directory}/m{n}", **settings, cluster_port=str(free_port()), **options) for n in range(masters)]
        self.replicas = [RedisServer(f"{directory}/r{n}", **settings, cluster_port=str(free_port()), **options) for n in range(replicas)]

    @property
    def nodes(self):
        return [*self.masters, *self.replicas]

    @property
    def url(self):
        return f"redis+cluster://{','.join(node.host for node in self.masters)}"

    def start(self):
        for node in self.nodes:
            node.start()
        step = 16384 // len(self.masters)
        for number, node in enumerate(self.masters):
            last = 16383 if node is self.masters[-1] else (number + 1) * step - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", number * step, last)
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number:
                bus = int(self.nodes[0]._options["cluster-port"])
                node.ask("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, bus)
        wait_until_sync(lambda: all(self._knows_all(node) for node in self.nodes), because="all nodes have met")
        for master, replica in zip(self.masters, self.replicas, strict=False):
            name = master.ask("CLUSTER", "MYID")
            replica.ask("CLUSTER", "REPLICATE", name)
        wait_until_sync(self.is_whole, because="the cluster is whole")
        return self

    def _knows_all(self, node):
        return node.ask("CLUSTER INFO")["cluster_known_nodes"] == str(len(self.nodes))

    def is_whole(self):
        """Whether every node says so, and knows of each replica that is in step."""
        in_step = all(replica.info("replication").get("master_link_status") == "up" for replica in self.replicas)
        rows = [row for node in self.nodes for row in node.ask("CLUSTER", "SLOTS")]
        return (
            in_step
            and {self.state(node) for node in self.nodes} == {"ok"}
            and sum(len(row) - 3 for row in rows) == len(self.replicas) * len(self.nodes)
        )

    def state(self, node):
        return node.ask("CLUSTER INFO")["cluster_state"]

    def master_of(self, key):
        """The master that owned the key's slot when the cluster was formed."""
        return self.masters[min(key_slot(key.encode()) // (16384 // len(self.masters)), len(self.masters) - 1)]

    def replica_of(self, master):
        return self.replicas[self.masters.index(master)]

    def client(self):
        return redis.RedisCluster(host="127.0.0.1", port=self.masters[0].port)

    def kill(self):
        for node in self.nodes:
            node.kill()


class Sentinels:
    """A master with a replica, watched by one sentinel; each with a password of its own."""

    def __init__(self, directory, password, sentinel_password):
        directory = Path(directory)
        shared = {"requirepass": password, "masterauth": password, "client": {"password": password}}
        self.master = RedisServer(directory / "master", **shared)
        self.replica = RedisServer(directory / "replica", **shared, replicaof=("127.0.0.1", str(self.master.port)))
        self.sentinel = _Sentinel(directory / "sentinel", self.master.port, password, sentinel_password)
        self._passwords = password, sentinel_password

    @property
    def url(self):
        password, sentinel_password = self._passwords
        return f"redis+sentinel://:{password}@127.0.0.1:1,{self.sentinel.host}/mymaster/0?sentinel_password={sentinel_password}"

    def start(self):
        self.master.start()
        self.replica.start()
        wait_until_sync(lambda: self.replica.info("replication")["master_link_status"] == "up", because="the replica is in step")
        self.sentinel.start()
        wait_until_sync(lambda: len(self.sentinel.ask("SENTINEL REPLICAS", "mymaster")) == 1, because="the sentinel knows the replica")
        return self

    def kill(self):
        for server in (self.sentinel, self.replica, self.master):
            server.kill()


class _Sentinel(RedisServer):
    def __init__(self, directory, master_port, password, sentinel_password):
        super().__init__(directory, client={"password": sentinel_password})
        (self.directory / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.directory}\nlogfile {self.directory}/log\nrequirepass {sentinel_password}\n"
            f"sentinel monitor mymaster 127.0.0.1 {master_port} 1\nsentinel auth-pass mymaster {password}\n"
            f"sentinel down-after-milliseconds mymaster {FAILOVER_AFTER_MS}\nsentinel failover-timeout mymaster 10000\n"
        )

    def _argv(self):
        return [self._binary, str(self.directory / "sentinel.conf"), "--sentinel"]


class Certificates:
    """A certificate authority of the test's own, and a certificate for 127.0.0.1."""

    def __init__(self, directory):
        if not shutil.which("openssl"):
            pytest.skip("this machine has no openssl to make certificates with")
        self.directory = Path(directory)
        self.directory.mkdir(parents=True)
        self._run(
            "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=test ca", "-keyout", "ca.key", "-out", "ca.crt"
        )
        self._run("req", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=server", "-keyout", "own.key", "-out", "own.csr")
        (self.directory / "names").write_text("subjectAltName=IP:127.0.0.1")
        self._run(
            "x509", "-req", "-in", "own.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names",
            "-out", "own.crt",
        )  # fmt: skip

    def _run(self, *words):
        subprocess.run(["openssl", *words], cwd=self.directory, check=True, capture_output=True, timeout=60)

    def path(self, name):
        return str(self.directory / name)

    def server_options(self):
        return {
            "tls": True, "tls_ca_cert_file": self.path("ca.crt"), "tls_cert_file": self.path("own.crt"),
            "tls_key_file": self.path("own.key"), "tls_replication": "yes", "tls_cluster": "yes",
            "client": {
                "ssl": True, "ssl_ca_certs": self.path("ca.crt"), "ssl_certfile": self.path("own.crt"), "ssl_keyfile": self.path("own.key"),
            },
        }  # fmt: skip

    def url_options(self):
        return f"ssl_ca_certs={self.path('ca.crt')}&ssl_certfile={self.path('own.crt')}&ssl_keyfile={self.path('own.key')}"


PAUSE, GO_ON = signal.SIGSTOP, signal.SIGCONT
