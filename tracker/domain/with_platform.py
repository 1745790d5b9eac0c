"""Hosts that nobody registered yet, taken as hosts of a platform: for questions, never for visitors. Pure."""

from msgspec.structs import replace

from tracker.domain.resolve import OLD_HOST, RouteReader
from tracker.domain.routes import HostRoute
from tracker.errors import RejectedInput


class WithPlatform:
    """A `RouteReader` on which old hosts that have no platform, and hosts that nobody registered, are ones of `platform`.

    Their ids are those of `source`; empty: of the platform's name. RejectedInput when no profile describes the platform.
    """

    def __init__(self, table: RouteReader, platform: str, source: str = "") -> None:
        if table.source_of(HostRoute(host_id=0, host="", platform=platform)) is None:
            raise RejectedInput(
                "invalid_platform", f"there is no platform {platform!r}; turnout platforms list names them", field="platform"
            )
        self._table, self._platform, self._source = table, platform, source
        self.get_link, self.alias, self.installation = table.get_link, table.alias, table.installation
        self.source_of, self.old_link = table.source_of, table.old_link

    def host(self, name: str) -> HostRoute | None:
        """See `RouteReader`. Without a row a name with a port has no answer here: the name alone is asked for next."""
        found = self._table.host(name)
        if found is None:
            return None if ":" in name else HostRoute(host_id=0, host=name, platform=self._platform, source=self._source)
        return replace(found, platform=self._platform) if found.kind == OLD_HOST and not found.platform else found
