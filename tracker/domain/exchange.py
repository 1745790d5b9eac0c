"""Exchange rates by day: read as central banks publish them, found for a day, exact. Pure.

A conversion is turned into another currency at its own UTC day, by the last rates published on that day or at most DAYS_BACK days before
(central banks publish on working days only). Where there is none the answer is None, never a guess.
"""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final

EURO: Final = "EUR"
ECB: Final = "ecb"
DAYS_BACK: Final = 7
NOT_PUBLISHED: Final = "N/A"
PLAIN_COLUMNS: Final = ("day", "currency", "rate", "base", "source")
REQUIRED: Final = PLAIN_COLUMNS[:3]
MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_ISO_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_LONG_DAY = re.compile(r"([0-9]{1,2}) ([A-Z][a-z]+) ([0-9]{4})", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}")
_RATE = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?", re.ASCII)
_DAY = timedelta(days=1)


class BadRate(ValueError):
    """What is wrong with one value; `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Quote:
    """A published rate: one `base` is `rate` of `currency`. `source`: who published it, "" where whoever brings it has to say."""

    day: date
    currency: str
    rate: Decimal
    base: str = EURO
    source: str = ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one unit of a currency is in another. `day`: that of the quotes it is made of; none of them for the same currency."""

    rate: Fraction
    day: date
    quotes: tuple[Quote, ...] = ()


class Rates:
    """Quotes of some days, to find the rate between two currencies in."""

    def __init__(self, quotes: Iterable[Quote]) -> None:
        self._days: defaultdict[date, defaultdict[str, dict[str, Quote]]] = defaultdict(lambda: defaultdict(dict))
        for quote in quotes:
            self._days[quote.day][quote.base][quote.currency] = quote

    def find(self, source: str, target: str, day: date) -> Exchange | None:
        """The rate from `source` to `target` for what happened on `day`, of the last day whose quotes tell it; None: there is none.

        Both sides of a cross rate are of one day and one base; where several bases tell it, one of the two currencies goes first.
        """
        if source == target:
            return Exchange(Fraction(1), day)
        for back in range(DAYS_BACK + 1):
            bases: Mapping[str, Mapping[str, Quote]] = self._days.get(day - back * _DAY, {})
            for base in sorted(bases, key=lambda name: (name not in (source, target), name)):
                if found := _through(base, bases[base], source, target):
                    return found
        return None


def _through(base: str, quotes: Mapping[str, Quote], source: str, target: str) -> Exchange | None:
    used = [quotes.get(currency) for currency in (source, target) if currency != base]
    there = tuple(quote for quote in used if quote is not None)
    if len(there) < len(used):
        return None
    units = [Fraction(1) if currency == base else Fraction(quotes[currency].rate) for currency in (source, target)]
    return Exchange(units[1] / units[0], there[0].day, there)


# -- files


def read_csv(text: str) -> list[Quote]:
    """The quotes of a CSV file.

    Either as the ECB publishes them, a column for each currency (`Date, USD, JPY, …`; days such as `20 November 2026` or
    `2026-11-20`; `N/A` where there is none): their base is the euro, their source `ecb`. Or a row for each, with the columns `day`,
    `currency`, `rate`, and, where it is wanted, `base` (else the euro) and `source`.

    Raises ValueError that names line and column.
    """
    rows = _rows(text)
    line, header = next(rows, (1, []))
    names = [cell.strip() for cell in header]
    while names and not names[-1]:
        names.pop()
    if names[:1] == ["Date"]:
        quotes = _of_table(line, names, rows)
    elif set(REQUIRED) <= set(names):
        quotes = _of_list(line, names, rows)
    else:
        raise ValueError("line 1: the header must be that of the ECB, Date, USD, JPY, …, or have the columns day, currency, rate")
    return _once(quotes)


def read_fields(fields: Mapping[str, str]) -> Quote:
    """A quote of its named values, those of PLAIN_COLUMNS. BadRate."""
    found = {"base": EURO, "source": ""} | {name: value for name, value in fields.items() if value}
    for name in REQUIRED:
        if name not in found:
            raise BadRate(name, "is missing")
    day, base = _day(found["day"]), _currency("base", found["base"])
    currency, rate = _currency("currency", found["currency"]), _rate("rate", found["rate"])
    if currency == base:
        raise BadRate("currency", f"must be another than the base {base}")
    return Quote(day, currency, rate, base, found["source"])


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, with their line."""
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            raise ValueError(f"line {reader.line_num}: is no CSV ({exc})") from None
        if any(cell.strip() for cell in row):
            yield reader.line_num, [cell.strip() for cell in row]


def _once(quotes: Iterable[tuple[int, Quote]]) -> list[Quote]:
    seen: dict[tuple[date, str, str], int] = {}
    found = []
    for line, quote in quotes:
        key = (quote.day, quote.currency, quote.base)
        if key in seen:
            raise ValueError(f"line {line}: {quote.currency} of {quote.day} stands in line {seen[key]} already")
        seen[key] = line
        found.append(quote)
    if not found:
        raise ValueError("there are no rates in it")
    return found


def _of_table(line: int, names: Sequence[str], rows: Iterable[tuple[int, list[str]]]) -> Iterator[tuple[int, Quote]]:
    currencies = names[1:]
    for number, name in enumerate(currencies, start=2):
        if not _CURRENCY.fullmatch(name) or name == EURO or currencies.index(name) != number - 2:
            raise ValueError(f"line {line}, column {number}: must be a currency that no other column has, such as USD; got {name[:20]!r}")
    for at, row in rows:
        cells = _cells(at, row, names)
        with _told(at):
            day = _day(cells[0], "Date")
            yield from ((at, Quote(day, name, _rate(name, cell), EURO, ECB)) for name, cell in _published(currencies, cells[1:]))


def _published(currencies: Sequence[str], cells: Sequence[str]) -> Iterator[tuple[str, str]]:
    return ((name, cell) for name, cell in zip(currencies, cells, strict=True) if cell != NOT_PUBLISHED)


def _of_list(line: int, names: Sequence[str], rows: Iterable[tuple[int, list[str]]]) -> Iterator[tuple[int, Quote]]:
    for number, name in enumerate(names, start=1):
        if name not in PLAIN_COLUMNS or names.index(name) != number - 1:
            raise ValueError(f"line {line}, column {number}: columns are {', '.join(PLAIN_COLUMNS)}, each once; got {name[:20]!r}")
    for at, row in rows:
        with _told(at):
            yield at, read_fields(dict(zip(names, _cells(at, row, names), strict=True)))


def _cells(line: int, row: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    """As many cells as there are names; the ECB ends its lines with an empty one more."""
    if len(row) < len(names) or any(row[len(names) :]):
        raise ValueError(f"line {line}: has {len(row)} values, the header has {len(names)}")
    return row[: len(names)]


@contextmanager
def _told(line: int) -> Iterator[None]:
    """Says of a bad value in which line it stands."""
    try:
        yield
    except BadRate as exc:
        raise ValueError(f"line {line}, column {exc.field}: {exc}") from None


def _day(text: str, field: str = "day") -> date:
    """A day as in `2026-11-20`, or as in `20 November 2026`, whatever the language of the machine."""
    long = _LONG_DAY.fullmatch(text)
    try:
        if long and long[2] in MONTHS:
            return date(int(long[3]), MONTHS.index(long[2]) + 1, int(long[1]))
        if _ISO_DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise BadRate(field, f"must be a day such as 2026-11-20; got {text[:40]!r}")


def _currency(field: str, text: str) -> str:
    if not _CURRENCY.fullmatch(text):
        raise BadRate(field, f"must be an ISO 4217 code of three letters, such as USD; got {text[:40]!r}")
    return text


def _rate(field: str, text: str) -> Decimal:
    if not _RATE.fullmatch(text) or not Decimal(text):
        raise BadRate(field, f"must be a decimal above 0 with a point, such as 1.0905; got {text[:40]!r}")
    return Decimal(text)
