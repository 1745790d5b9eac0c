"""Clicks of an old platform from its exports: files read row by row, checked, and stored, each row accounted for."""

import csv
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import orjson

from tracker.adapters import postgres_old_clicks, postgres_old_imports
from tracker.adapters.log_files import LogFile
from tracker.adapters.postgres_identify import Snapshot
from tracker.adapters.postgres_old_clicks import Ids, Meaning
from tracker.adapters.postgres_old_imports import Begins, Origin
from tracker.adapters.postgres_pool import Database
from tracker.domain.old_click_rows import BadRow, NoZone, OldClick, Times, columns_of, read_row, without
from tracker.domain.urls import host_key
from tracker.errors import NotFound, RejectedInput, TransientError, TurnoutError
from tracker.platforms.loader import Shelf
from tracker.platforms.profile import Profile, SourceSettings

LINE_MAX_BYTES: Final = 65_536
BATCH: Final = 5_000
SHOWN_MAX: Final = 20
MEANINGS_MAX: Final = 100_000  # distinct combinations of old ids that are kept in mind
SEPARATORS: Final = ",;\t|"
READING: Final = "reading"
Row = dict[str, str]


@dataclass(slots=True)
class Outcome:
    """What became of a file's rows: every one is imported, already there, or refused."""

    rows: int = 0
    imported: int = 0
    refused: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)
    unknown_partners: Counter[str] = field(default_factory=Counter)
    unknown_offers: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None

    def refuse(self, line: int, why: str) -> None:
        """Count a row that tells of no click."""
        self.refused += 1
        if len(self.problems) < SHOWN_MAX:
            self.problems.append((line, why))

    def seen(self, click: OldClick, whose: Meaning) -> None:
        """Count a click, and what of it nobody knows yet."""
        self.first_at = min(self.first_at or click.clicked_at, click.clicked_at)
        self.last_at = max(self.last_at or click.clicked_at, click.clicked_at)
        self.unknown += whose.partner is None or whose.campaign is None
        if whose.campaign is None:
            self.unknown_offers[click.offer or ""] += 1
        if whose.partner is None and whose.campaign is not None:
            self.unknown_partners[click.partner or ""] += 1

    def as_dict(self) -> dict[str, Any]:
        """For programs and people."""
        return {
            "rows": self.rows,
            "imported": self.imported,
            "already_there": self.rows - self.imported - self.refused,
            "refused": self.refused,
            "unknown": self.unknown,
            "unknown_partners": dict(self.unknown_partners.most_common(SHOWN_MAX)),
            "unknown_offers": dict(self.unknown_offers.most_common(SHOWN_MAX)),
            "first_clicked_at": self.first_at,
            "last_clicked_at": self.last_at,
            "problems": [{"line": line, "problem": why} for line, why in self.problems],
        }


class OldClicks:
    """Imports and looks up clicks of old platforms."""

    def __init__(self, database: Database, shelf: Shelf) -> None:
        self._database, self._shelf = database, shelf

    async def origin(self, *, host: str | None = None, source: str | None = None, platform: str | None = None) -> Origin:
        """Whose ids a file has: those of a registered host, or of a source, whose platform is told where no host has it.

        RejectedInput: there is no such host or platform.
        """
        if (host is None) == (source is None):
            raise RejectedInput("invalid_source", "name either the old host (--host) or the source of its ids (--source)")
        found = await postgres_old_imports.origin_of(self._database, host=host and host_key(host.encode()), source=source)
        if host is not None and (found is None or not found.source):
            raise RejectedInput("invalid_host", f"{host} is no registered host with a platform; see: turnout host list", field="host")
        origin = found or Origin(source or "", "", {})
        if platform is not None or not origin.platform:
            self._check(platform, source)
            origin = Origin(origin.source, platform or "", origin.settings)
        return origin

    def _check(self, platform: str | None, source: str | None) -> None:
        if platform is None:
            raise RejectedInput(
                "invalid_source", f"no host has the source {source!r}; --platform says whose exports it has", field="platform"
            )
        if self._shelf.source(platform) is None:
            raise RejectedInput(
                "invalid_platform", f"there is no platform {platform!r}; turnout platforms list names them", field="platform"
            )

    async def load(
        self, file: LogFile, origin: Origin, *, times: Times, batch: str, actor: str, is_dry: bool, moved: Callable[[], None]
    ) -> Outcome:
        """Import a file: 5,000 rows a transaction; what is there already stays as it is, so that the same file may be imported again.

        RejectedInput: it is no file of clicks, or its times need a zone; TransientError, OSError: a store or the file failed. What came
        before is imported, counts at once, and the error tells its batch and how many rows that are.
        """
        outcome = Outcome()
        work = _Import(batch, actor, origin, file.path, outcome, _Meanings(self._database, origin), is_dry)
        try:
            await self._load(file, work, times, moved)
        except (TurnoutError, OSError) as exc:
            if is_dry or not outcome.imported:
                raise
            with suppress(TransientError):  # it may be what stopped the import
                await postgres_old_imports.try_again(self._database, origin.source)
            raise _stopped(exc, work) from exc
        if not is_dry:
            await postgres_old_imports.try_again(self._database, origin.source)
        return outcome

    async def _load(self, file: LogFile, work: "_Import", times: Times, moved: Callable[[], None]) -> None:
        columns = columns_of(self._profile(work.origin.platform))
        outcome, clicks = work.outcome, list[OldClick]()
        for line, row in rows_of(file.lines(LINE_MAX_BYTES), lambda header: _check_header(header, columns)):
            outcome.rows += 1
            if isinstance(row, str):
                outcome.refuse(line, row)
                continue
            try:
                clicks.append(read_row(row, columns, times, datetime.now(UTC)))
            except BadRow as exc:
                outcome.refuse(line, str(exc))
            except NoZone as exc:
                raise RejectedInput(
                    "invalid_time_zone",
                    f"line {line}: the time {str(exc)[:40]!r} says no zone; --time-zone says which, such as Europe/Berlin",
                ) from None
            if len(clicks) == BATCH:
                await self._store(clicks, work)
                clicks.clear()
                moved()
        await self._store(clicks, work)
        if file.problem:
            outcome.refuse(outcome.rows + 1, file.problem)
            outcome.rows += 1

    async def _store(self, clicks: list[OldClick], work: "_Import") -> None:
        if not clicks:
            return
        for click, whose in zip(clicks, await work.meanings.of(clicks), strict=True):
            work.outcome.seen(click, whose)
        after = {"source": work.origin.source, "platform": work.origin.platform, "file": work.path}
        begins = None if work.has_begun else Begins(work.actor, after)
        work.outcome.imported += await postgres_old_imports.store(
            self._database, work.batch, work.origin.source, clicks, begins=begins, is_dry=work.is_dry
        )
        work.has_begun = True

    async def shown(self, old_click_id: str, source: str | None) -> list[dict[str, Any]]:
        """What is known under an id, newest first. `earns`: the click that an order of now would belong to, one an advertiser."""
        async with self._database.connection() as connection:
            rows = await postgres_old_clicks.known(connection, old_click_id, source, now=datetime.now(UTC))
        for row in rows:
            days = row.pop("window_days")
            row["until"] = None if days is None else row["clicked_at"] + timedelta(days=days)
            del row["id"]
        return rows

    async def undo(self, batch: str, *, actor: str) -> dict[str, Any]:
        """Take a batch away, but for the clicks that conversions came from. NotFound: there was no such batch."""
        try:
            found = await postgres_old_imports.undo(self._database, UUID(batch), actor=actor)
        except ValueError:
            found = None
        if found is None:
            raise NotFound("unknown_batch", f"no import has the number {batch!r}; an import tells its own")
        return {"batch": batch, "removed": found[0], "used": found[1]}

    def zone_of(self, origin: Origin) -> str:
        """The zone in which the platform writes times: by the host's settings, else by the profile; `""`: nobody says."""
        try:
            settings = msgspec.convert(origin.settings.get(READING) or {}, SourceSettings)
        except msgspec.ValidationError:
            settings = SourceSettings()
        profile = self._profile(origin.platform)
        export = profile.export.get("clicks") if profile else None
        return settings.time_zone or (export.time_zone if export else "")

    def _profile(self, platform: str) -> Profile | None:
        source = self._shelf.source(platform)
        return source.profile if source else None


@dataclass(slots=True)
class _Import:
    """One import on its way. `has_begun`: rows of it are stored, and the audit trail has it."""

    batch: str
    actor: str
    origin: Origin
    path: str
    outcome: Outcome
    meanings: "_Meanings"
    is_dry: bool
    has_begun: bool = False


class _Meanings:
    """What old ids mean, each combination looked up once."""

    def __init__(self, database: Database, origin: Origin) -> None:
        self._database, self._origin = database, origin
        self._known: dict[Ids, Meaning] = {}

    async def of(self, clicks: list[OldClick]) -> list[Meaning]:
        asked = [Ids(self._origin.source, self._origin.platform, click.partner, click.offer, click.creative) for click in clicks]
        if len(self._known) > MEANINGS_MAX:
            self._known.clear()
        if new := [ids for ids in dict.fromkeys(asked) if ids not in self._known]:
            async with self._database.connection(postgres_old_imports.TIMEOUT_S) as connection:
                self._known |= zip(new, await postgres_old_clicks.meanings(connection, new, Snapshot()), strict=True)
        return [self._known[ids] for ids in asked]


def _stopped(exc: Exception, work: _Import) -> TurnoutError:
    """The same error, with what of the import is stored."""
    text = f"{exc}; the {work.outcome.imported} rows before it are imported as batch {work.batch} (turnout old-clicks undo takes them back)"
    if isinstance(exc, RejectedInput):
        return RejectedInput(exc.code, text, field=exc.field)
    return TransientError(text) if isinstance(exc, TransientError) else TurnoutError(text)


def time_zone(name: str) -> ZoneInfo | None:
    """The zone of that name, None for `""`. RejectedInput: there is none."""
    try:
        return ZoneInfo(name) if name else None
    except (OSError, ValueError, KeyError):
        raise RejectedInput("invalid_time_zone", f"there is no time zone {name!r}; one is Europe/Berlin", field="time_zone") from None


def rows_of(lines: Iterator[bytes], check: Callable[[Collection[str]], None]) -> Iterator[tuple[int, Row | str]]:
    """The rows of a CSV (comma, semicolon, tab or bar, as its header tells) or of JSON lines, by lower-case names, with their lines;
    of an unreadable one in place of it what is wrong. `check` is asked once about the names, and raises what is wrong with the file."""
    for number, line in enumerate(lines, start=1):
        if text := line.decode("utf-8", "replace").strip():
            yield from (_json_rows if text.startswith("{") else _csv_rows)(number, text, lines, check)
            return
    raise RejectedInput("invalid_file", "the file has no rows")


def _json_rows(first: int, text: str, lines: Iterator[bytes], check: Callable[[Collection[str]], None]) -> Iterator[tuple[int, Row | str]]:
    row = _json_row(text.encode())
    check(row.keys() if isinstance(row, dict) else ())
    yield first, row
    for number, line in enumerate(lines, start=first + 1):
        if line.strip():
            yield number, _json_row(line)


def _json_row(line: bytes) -> Row | str:
    if len(line) > LINE_MAX_BYTES:
        return _too_long()
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        return f"no JSON: {exc}"
    return _flat(found) if isinstance(found, dict) else "no JSON object"


def _flat(found: Mapping[str, Any], before: str = "") -> Row:
    """The texts and numbers of an object, those of an object within it as `outer.inner`."""
    row: Row = {}
    for name, value in found.items():
        key = f"{before}{name}".lower()
        if isinstance(value, dict) and key.count(".") < 5:
            row |= _flat(value, f"{key}.")
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            row[key] = str(value)
    return row


def _csv_rows(first: int, text: str, lines: Iterator[bytes], check: Callable[[Collection[str]], None]) -> Iterator[tuple[int, Row | str]]:
    separator = max(SEPARATORS, key=text.count)
    header = [name.strip().lower() for name in next(csv.reader([text], delimiter=separator))]
    check(header)
    long = set[int]()
    reader = csv.reader(_texts(lines, long), delimiter=separator)
    end = 0
    while True:
        start, problem, cells = end + 1, "", list[str]()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            problem = f"no CSV: {exc}"
        end = reader.line_num
        if not cells and not problem:
            continue
        if long.intersection(range(start, end + 1)):
            problem = _too_long()
            long.clear()
        yield first + start, problem or _csv_row(header, cells)


def _texts(lines: Iterator[bytes], long: set[int]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if len(line) > LINE_MAX_BYTES:
            long.add(number)
        yield line.decode("utf-8", "replace") + "\n"


def _csv_row(header: list[str], cells: list[str]) -> Row | str:
    if len(cells) != len(header):
        return f"{'more' if len(cells) > len(header) else 'fewer'} cells than the header has"
    return dict(zip(header, cells, strict=True))


def _too_long() -> str:
    return f"longer than {LINE_MAX_BYTES} bytes"


def _check_header(header: Collection[str], columns: Mapping[str, tuple[str, ...]]) -> None:
    if missing := without(columns, header):
        raise RejectedInput(
            "invalid_file", f"the file has no column {', and none '.join(missing)}; its columns are {', '.join(header) or 'none'}"
        )
