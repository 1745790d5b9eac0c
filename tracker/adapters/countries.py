"""Countries of addresses: registry data inside the package, or the operator's own MaxMind-format file. Loads no storage driver."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

import iptocc
import maxminddb

from tracker.errors import BadConfiguration

CACHED = 50_000  # networks; a dict of short strings, some 8 MB when full


class CountryLookup:
    """Country of an address. Cached per /24 or /48: registries give out nothing smaller that is worth telling apart."""

    def __init__(self, database: str = "") -> None:
        """`database`: path of a MaxMind-format file with `country.iso_code`; empty: registry data. BadConfiguration if unreadable."""
        self._find: Callable[[str], str] = _in_registries
        self._cache: dict[bytes, str] = {}
        if database:
            try:
                self._reader = maxminddb.open_database(database)
            except (OSError, maxminddb.InvalidDatabaseError) as exc:
                raise BadConfiguration(f"TURNOUT_GEOIP_DB {database} cannot be read ({exc}); name a MaxMind-format file") from exc
            self._find = self._in_file

    def country(self, address: str) -> str:
        """ISO 3166-1 alpha-2 in capitals; empty when unknown, private or no address at all. Never fails."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return ""
        network = _network(parsed)
        found = self._cache.get(network)
        if found is None:
            if len(self._cache) >= CACHED:
                self._cache.clear()
            found = self._cache[network] = self._find(address)
        return found

    def _in_file(self, address: str) -> str:
        record = self._reader.get(address)
        country = record.get("country") if isinstance(record, dict) else None
        code = country.get("iso_code") if isinstance(country, dict) else None
        return code if isinstance(code, str) else ""


def _network(address: IPv4Address | IPv6Address) -> bytes:
    return address.packed[:3] if address.version == 4 else address.packed[:6]


def _in_registries(address: str) -> str:
    return iptocc.country_code(address) or ""
