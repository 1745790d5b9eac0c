"""The forms of `TURNOUT_REDIS_URL`: one server, a cluster, or sentinels that know the master. Pure; no message shows a password.

    redis://[user]:[password]@host:6379/0          rediss://… with TLS          unix://[user]:[password]@/path?db=0
    redis+cluster://[user]:[password]@h1:6379,h2:6379                           rediss+cluster://…
    redis+sentinel://[user]:[password]@h1:26379,h2:26379/master/0               rediss+sentinel://…

The user and the password are those of the servers; the sentinels' own are the options `sentinel_username` and `sentinel_password`.
"""

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode

Form = Literal["server", "cluster", "sentinel"]
HostPort = tuple[str, int]

SCHEMES: dict[str, tuple[Form, str]] = {
    "redis": ("server", "redis"),
    "rediss": ("server", "rediss"),
    "unix": ("server", "unix"),
    "redis+cluster": ("cluster", "redis"),
    "rediss+cluster": ("cluster", "rediss"),
    "redis+sentinel": ("sentinel", "redis"),
    "rediss+sentinel": ("sentinel", "rediss"),
}
PORTS = {"server": 6379, "cluster": 6379, "sentinel": 26379}
# Options of the client library that change whom we talk to, not how: timeouts, retries and the protocol are ours.
PLAIN_OPTIONS = frozenset({"db", "client_name", "username", "password", "socket_keepalive"})
TLS_OPTIONS = frozenset(
    {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers"}
)
SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})

_URL = re.compile(r"([a-z+]+)://([^/?#]*)(/[^?#]*)?(?:\?([^#]*))?")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:@\s,]*)(?::([0-9]{1,5}))?")
_NO_URL = "is no URL: its host or port cannot be read (write / @ : ? # of a user or password percent-encoded)"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where to begin asking. `hosts`: the server itself, some nodes of the cluster, or the sentinels; none for a socket.

    `master` is the name that the sentinels know.
    """

    form: Form
    scheme: str
    hosts: tuple[HostPort, ...]
    master: str
    _url: str = field(repr=False)
    _user: str = field(repr=False)
    _path: str = field(repr=False)
    _options: tuple[tuple[str, str], ...] = field(repr=False)

    @property
    def url(self) -> str:
        """The URL as it was given; of use to a client only where `form` is `server`."""
        return self._url

    def server_url(self, host: str, port: int) -> str:
        """How to log in to one server of the cluster, or that the sentinels named."""
        options = [(name, value) for name, value in self._options if name not in SENTINEL_OPTIONS]
        return self._url_of(self._user, host, port, self._path, options)

    def sentinel_url(self, host: str, port: int) -> str:
        """How to log in to a sentinel."""
        known = dict(self._options)
        user, password = known.get("sentinel_username", ""), known.get("sentinel_password", "")
        options = [(name, value) for name, value in self._options if name in TLS_OPTIONS]
        return self._url_of(f"{quote(user, safe='')}:{quote(password, safe='')}@" if password else "", host, port, "", options)

    def _url_of(self, user: str, host: str, port: int, path: str, options: list[tuple[str, str]]) -> str:
        name = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{user}{name}:{port}{path}" + (f"?{urlencode(options)}" if options else "")


def parse(url: str) -> RedisAddress:
    """The address that `url` names. ValueError, one sentence without any part of the URL but option names, when it is none of the forms."""
    found = _URL.fullmatch(url)
    if not found or found[1] not in SCHEMES:
        if re.match(rf"({'|'.join(map(re.escape, SCHEMES))})://", url):
            raise ValueError(_NO_URL)
        raise ValueError(f"must begin with {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    form, scheme = SCHEMES[found[1]]
    user, at, hosts = found[2].rpartition("@")
    options = _options(found[4] or "", form, scheme)
    named = _hosts(hosts, form) if scheme != "unix" else ()
    master, path = _master_and_database(found[3] or "", form) if scheme != "unix" else ("", found[3] or "")
    if scheme == "unix" and (hosts or not path.strip("/")):
        raise ValueError("must name an absolute path after unix://, such as unix:///run/redis/redis.sock")
    return RedisAddress(form, scheme, named, master, url, user + at, path, options)


def _hosts(text: str, form: Form) -> tuple[HostPort, ...]:
    found = list[HostPort]()
    parts = text.split(",")
    if form == "server" and len(parts) > 1:
        raise ValueError("names several servers: write redis+cluster:// or redis+sentinel:// if that is what they are")
    for part in parts:
        match = _HOST.fullmatch(part)
        port = int(match[2] or PORTS[form]) if match else 0
        if not match or not 1 <= port <= 65535:
            raise ValueError(_NO_URL)
        if not match[1] and form != "server":
            raise ValueError("must name at least one host, such as host1:6379,host2:6379")
        found.append((match[1].strip("[]") or "localhost", port))
    return tuple(found)


def _master_and_database(path: str, form: Form) -> tuple[str, str]:
    master, database = "", path.removeprefix("/")
    if form == "sentinel":
        master, _, database = database.partition("/")
        if not master:
            raise ValueError("must name the master that the sentinels watch, as in redis+sentinel://host:26379/mymaster/0")
    if database and not database.isdecimal():
        raise ValueError("must end in the number of a database, as in redis://host:6379/0")
    if form == "cluster" and database not in ("", "0"):
        raise ValueError("names a database, and a cluster has only one: leave it out")
    return unquote(master), f"/{database}" if database else ""


def _options(query: str, form: Form, scheme: str) -> tuple[tuple[str, str], ...]:
    options = tuple(parse_qsl(query, keep_blank_values=True))
    allowed = PLAIN_OPTIONS | (TLS_OPTIONS if scheme == "rediss" else set()) | (SENTINEL_OPTIONS if form == "sentinel" else set())
    for name, value in options:
        if name in TLS_OPTIONS and scheme != "rediss":
            raise ValueError(f"has the option {name}, which is for rediss:// (TLS)")
        if name not in allowed:
            raise ValueError(f"has an option that is not known; known are {', '.join(sorted(allowed))}")
        if name == "db" and (not value.isdecimal() or (form == "cluster" and int(value))):
            raise ValueError("has an option db that is no number of a database (a cluster has only 0)")
    return options
