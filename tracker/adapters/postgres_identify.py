"""What the ids of an old URL mean, as PostgreSQL has them now: by the rules of `tracker.domain.identify`, which are written once."""

from collections.abc import Sequence
from typing import Any, Final

from tracker.adapters import postgres_routes as routes
from tracker.adapters.postgres_pool import Connection
from tracker.domain.identify import Identified, identify
from tracker.domain.routes import CampaignRoute, Kind, LinkRoute, OldIdRoute, PartnerRoute, Route
from tracker.platforms.profile import Profile
from tracker.platforms.reading import Reading

OLD_IDS_OF = f"""
    SELECT x.* FROM unnest($1::text[], $2::text[], $3::text[]) AS q(source, kind, source_id)
    JOIN ({routes.OLD_IDS}) x USING (source, kind, source_id)
"""  # noqa: S608 - constants only
LINKS_OF = f"SELECT * FROM ({routes.LINKS}) x WHERE id = ANY($1::bigint[])"  # noqa: S608 - constants only
CAMPAIGNS_OF = f"SELECT * FROM ({routes.CAMPAIGNS}) x WHERE id = ANY($1::bigint[])"  # noqa: S608 - constants only
PARTNERS_OF = f"SELECT * FROM ({routes.PARTNERS}) x WHERE id = ANY($1::bigint[])"  # noqa: S608 - constants only
_BY_ID: Final = {Kind.LINK: LINKS_OF, Kind.CAMPAIGN: CAMPAIGNS_OF, Kind.PARTNER: PARTNERS_OF}
_Key = tuple[Any, ...]  # a kind, and the row's key


class Snapshot:
    """The rows that were asked for, each read once. For one transaction: what changes after a look is not seen."""

    def __init__(self) -> None:
        self._known: dict[_Key, Any] = {}
        self._wanted: set[_Key] = set()

    def old_id(self, source: str, kind: str, source_id: str) -> OldIdRoute | None:
        """What an id of a source means, as far as it was read."""
        found: OldIdRoute | None = self._get(Kind.OLD_ID, source, kind, source_id)
        return found

    def link_by_id(self, link_id: int) -> LinkRoute | None:
        """A link, as far as it was read."""
        found: LinkRoute | None = self._get(Kind.LINK, link_id)
        return found

    def campaign(self, campaign_id: int) -> CampaignRoute | None:
        """A campaign, as far as it was read."""
        found: CampaignRoute | None = self._get(Kind.CAMPAIGN, campaign_id)
        return found

    def partner(self, partner_id: int) -> PartnerRoute | None:
        """A partner, as far as it was read."""
        found: PartnerRoute | None = self._get(Kind.PARTNER, partner_id)
        return found

    def _get(self, *key: Any) -> Any:
        if key not in self._known:
            self._wanted.add(key)
        return self._known.get(key)

    async def fill(self, connection: Connection) -> bool:
        """Read what was asked for and is not known; False: that is nothing."""
        wanted, self._wanted = self._wanted, set()
        if not wanted:
            return False
        self._known |= dict.fromkeys(wanted)
        ids = [key[1:] for key in wanted if key[0] == Kind.OLD_ID]
        if ids:
            self._keep(Kind.OLD_ID, await connection.fetch(OLD_IDS_OF, *map(list, zip(*ids, strict=True))))
        for kind, statement in _BY_ID.items():
            if numbers := [key[1] for key in wanted if key[0] == kind]:
                self._keep(kind, await connection.fetch(statement, numbers))
        return True

    def _keep(self, kind: bytes, rows: Sequence[Any]) -> None:
        build = routes.KINDS[kind][1]
        for row in rows:
            route: Route = build(tuple(row))
            key = (route.source, route.kind, route.source_id) if isinstance(route, OldIdRoute) else (route.row_id,)
            self._known[(kind, *key)] = route


async def identified(connection: Connection, rows: Snapshot, source: str, profile: Profile, reading: Reading) -> Identified:
    """The link, or the campaign and the partner, that a reading of `source` means."""
    while True:  # a row leads to others: an id to a link, that to its campaign
        found = identify(rows, source, profile, reading)
        if not await rows.fill(connection):
            return found
