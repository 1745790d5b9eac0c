"""All platforms together: told by host, and whole URLs read."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from tracker.domain.urls import host_key
from tracker.platforms.compiled import Source
from tracker.platforms.reader import read
from tracker.platforms.reading import NOTHING, Reading

LABELS_MAX: Final = 127  # of a name of 253 bytes
_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*):(?=//)")
_WRAPPERS = b" \t\r\n\x0b\x0c\x00<>\"'"


class Platforms:
    """The platforms of an installation. Immutable; build a new one when profiles or sources change."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = dict(sources)
        self._exact: dict[str, str] = {}
        self._suffix: dict[str, str] = {}
        for source in self._sources.values():
            hosts = source.profile.hosts
            for name in (*source.settings.hosts, *hosts.exact, *hosts.seen):
                self._exact.setdefault(host_key(name.encode()), source.platform)
            for name in hosts.suffix:
                self._suffix.setdefault(host_key(name.encode()), source.platform)

    def __iter__(self) -> Iterator[Source]:
        return iter(self._sources.values())

    def source(self, name: str) -> Source | None:
        """The platform of that name."""
        return self._sources.get(name)

    def platform_of(self, host: bytes) -> str | None:
        """The platform that a host tells, whole labels only; None when no profile has it."""
        name = host_key(host).partition(":")[0]
        found = self._exact.get(name)
        for _ in range(LABELS_MAX):
            if found is not None:
                break
            _, dot, name = name.partition(".")
            if not dot:
                break
            found = self._suffix.get(name)
        return found

    def read_url(self, url: str | bytes, platform: str | None = None) -> Reading:
        """What a whole URL says, by `platform` or else by the platform that its host tells. Never raises.

        `platform` is not checked against the host. A URL without scheme is taken as `https`; blanks, quotes and angle
        brackets around it are dropped. KeyError: there is no platform of that name.
        """
        scheme, host, target = split_url(url)
        name = platform if platform is not None else self.platform_of(host)
        return NOTHING if name is None else read(self._sources[name], host, target, scheme)


def split_url(url: str | bytes) -> tuple[bytes, bytes, bytes]:
    """Scheme, host as given, and target with its fragment, of `https://host/…`, `//host/…`, `host/…` or `/…` alone."""
    data = (url.encode("utf-8", "surrogatepass") if isinstance(url, str) else url).strip(_WRAPPERS)
    match = _SCHEME.match(data)
    scheme, rest = (match[1].lower(), data[match.end() :]) if match else (b"https", data)
    if rest.startswith(b"//"):
        rest = rest[2:]
    elif rest[:1] in (b"/", b"?", b"#", b""):
        return scheme, b"", rest if rest.startswith(b"/") else b"/" + rest
    end = min(at for at in (rest.find(b"/"), rest.find(b"?"), rest.find(b"#"), len(rest)) if at >= 0)
    target = rest[end:]
    return scheme, rest[:end].rpartition(b"@")[2], target if target.startswith(b"/") else b"/" + target
