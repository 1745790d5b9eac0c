"""Payout plans as people write them, JSON or a line of text, and as they are kept. Pure."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final, TypeVar, cast, get_args

from tracker.domain import money
from tracker.domain.plans import Bonus, By, Counting, Level, LevelOf, Part, Plan, Rate, Recurring, Rule, Step, Tiers

T = TypeVar("T")
Values = Mapping[str, Any]
LEVELS_MAX: Final = 99
LIST_MAX: Final = 100
WORD_MAX: Final = 255
COUNT_MAX: Final = 10**9
SIMPLE: Final = '{"type":"fixed","amount":"5.00","currency":"EUR"} or {"type":"percent","percent":"10"}'
FIELDS: Final = (
    *("type", "rate", "currency", "rules", "recurring", "minimum_order", "cap", "tiers", "bonuses", "per_click", "levels", "split"),
)
_CURRENCY: Final = re.compile(r"[A-Za-z]{3}", re.ASCII)
_BAD: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?", re.ASCII)
_TEXT: Final = re.compile(r"\s*([0-9.]+)\s*(%|[A-Za-z]{3})?\s*", re.ASCII)
_SLUG: Final = re.compile(r"[a-z0-9_-]{1,64}", re.ASCII)


def read(value: Any, partners: Mapping[str, int], *, currency: str | None = None) -> Plan:
    """The plan of `{"type":"plan",…}`, of one of the simple forms, or of text: `5.00 EUR`, `10%`.

    `partners` gives the ids of those it is split with (`shared_with`); `currency` is what amounts are in where the plan does not say.

    Raises:
        ValueError: names the part and says what is allowed.
    """
    if isinstance(value, Mapping) and value.get("type") == "plan":
        return _plan(value, partners, currency)
    rate, said = read_rate(value)
    return _in_currency(Plan(rate), [said] if said else [], currency)


def shared_with(value: Any) -> list[str]:
    """The slugs of the partners that a plan says it is split with, whatever else is wrong with it."""
    split = value.get("split") if isinstance(value, Mapping) else None
    parts = [part for part in split if isinstance(part, Mapping)] if isinstance(split, list) else []
    return [part["partner"] for part in parts if isinstance(part.get("partner"), str)]


def read_rate(value: Any) -> tuple[Rate, str | None]:
    """A rate in one of its forms, and the currency that it names. ValueError says what is allowed."""
    if isinstance(value, str):
        value = _of_text(value)
    if not isinstance(value, Mapping) or value.get("type") not in ("fixed", "percent"):
        raise ValueError(f'must be {SIMPLE}, or 5.00 EUR, or 10%, or a plan {{"type":"plan",…}}')
    _only(value, ("type", "amount", "currency") if value["type"] == "fixed" else ("type", "percent"))
    if value["type"] == "percent":
        return Rate(percent_micros=_percent(value.get("percent"), "percent")), None
    said = value.get("currency")
    return Rate(amount_micros=_amount(value.get("amount"), "amount")), None if said is None else _currency(said)


def _of_text(text: str) -> dict[str, Any]:
    match = _TEXT.fullmatch(text)
    if not match:
        raise ValueError("must be an amount such as 5.00 EUR, or a percentage such as 10%")
    if match[2] == "%":
        return {"type": "percent", "percent": match[1]}
    return {"type": "fixed", "amount": match[1], "currency": match[2]}


def _plan(value: Values, partners: Mapping[str, int], currency: str | None) -> Plan:
    _only(value, FIELDS)
    said = [_currency(value["currency"])] if value.get("currency") is not None else []

    def rate(given: Any) -> Rate:
        found, named = read_rate(given)
        said.extend([named] if named else [])
        return found

    plan = Plan(
        rate=_part(value, "rate", rate, Rate(percent_micros=0)),
        rules=_each(value, "rules", lambda one: _rule(one, rate)),
        recurring=_part(value, "recurring", lambda one: _recurring(one, rate), None),
        minimum_order_micros=_part(value, "minimum_order", _plain_amount, 0),
        cap_micros=_part(value, "cap", _plain_amount, None),
        tiers=_part(value, "tiers", lambda one: _tiers(one, rate), None),
        bonuses=_each(value, "bonuses", _bonus),
        per_click_micros=_part(value, "per_click", _plain_amount, 0),
        levels=_each(value, "levels", _level, most=LEVELS_MAX),
        split=_each(value, "split", lambda one: _split(one, partners)),
    )
    _check_split(plan.split)
    return _in_currency(plan, said, currency)


def _in_currency(plan: Plan, said: Sequence[str], missing: str | None) -> Plan:
    """`plan` with the currency of its amounts: one, for it pays in one."""
    if len(set(said)) > 1:
        raise ValueError(f"must have one currency, not {' and '.join(sorted(set(said)))}")
    if not (said or _has_amounts(plan)):
        return plan
    if not said and missing is None:
        raise ValueError("must name the currency of its amounts, such as EUR")
    return replace(plan, currency=said[0] if said else missing)


def _has_amounts(plan: Plan) -> bool:
    rates = [plan.rate, *(rule.rate for rule in plan.rules)]
    rates += [plan.recurring.rate] if plan.recurring else []
    rates += [step.rate for step in plan.tiers.steps] if plan.tiers else []
    by_revenue = plan.tiers is not None and plan.tiers.by == "revenue"
    sums = plan.minimum_order_micros or plan.cap_micros is not None or plan.bonuses or plan.per_click_micros
    return bool(sums) or by_revenue or any(rate.amount_micros is not None for rate in rates)


def _rule(value: Any, rate: Callable[[Any], Rate]) -> Rule:
    given = _object(value, ("goals", "categories", "skus", "customer", "rate"))
    return Rule(
        rate=_part(given, "rate", rate),
        goals=_words(given, "goals"),
        categories=_words(given, "categories"),
        skus=_words(given, "skus"),
        customer=cast("Any", _part(given, "customer", lambda word: _one_of(word, ("new", "returning")), "")),
    )


def _recurring(value: Any, rate: Callable[[Any], Rate]) -> Recurring:
    given = _object(value, ("rate", "payments", "months"))
    return Recurring(_part(given, "rate", rate), *(_part(given, name, _count, 0) for name in ("payments", "months")))


def _tiers(value: Any, rate: Callable[[Any], Rate]) -> Tiers:
    given = _object(value, ("by", "counts", "steps"))
    by: By = _part(given, "by", lambda word: _one_of(word, get_args(By)))
    counts: Counting = _part(given, "counts", lambda word: _one_of(word, get_args(Counting)), "from_there")
    steps = _each(given, "steps", lambda one: _step(one, by, rate))
    if not steps or any(low.start >= high.start for low, high in pairwise(steps)):
        raise ValueError("steps must be one or more, each from more than the one before")
    return Tiers(by, counts, steps)


def _step(value: Any, by: By, rate: Callable[[Any], Rate]) -> Step:
    given = _object(value, ("from", "rate"))
    return Step(_part(given, "from", _count if by == "conversions" else _plain_amount), _part(given, "rate", rate))


def _bonus(value: Any) -> Bonus:
    given = _object(value, ("conversions", "amount"))
    return Bonus(_part(given, "conversions", _count), _part(given, "amount", _plain_amount))


def _level(value: Any) -> Level:
    given = _object(value, ("percent", "of"))
    of: LevelOf = _part(given, "of", lambda word: _one_of(word, get_args(LevelOf)), "child_payout")
    return Level(_percent(given.get("percent"), "percent"), of)


def _split(value: Any, partners: Mapping[str, int]) -> Part:
    given = _object(value, ("partner", "percent"))
    slug = given.get("partner")
    if not isinstance(slug, str) or not _SLUG.fullmatch(slug) or slug not in partners:
        raise ValueError("partner must be the slug of a partner")
    return Part(partners[slug], _percent(given.get("percent"), "percent"))


def _check_split(split: Sequence[Part]) -> None:
    if len({part.partner for part in split}) < len(split):
        raise ValueError("split names a partner twice")
    if sum(part.percent_micros for part in split) > money.PERCENT_MICROS:
        raise ValueError("split must be 100 percent at most")


_REQUIRED: Final = object()


def _part(value: Values, name: str, read: Callable[[Any], T], missing: Any = _REQUIRED) -> T:
    """`value[name]`, read; errors name it."""
    given = value.get(name)
    if given is None and missing is not _REQUIRED:
        return cast("T", missing)
    try:
        return read(given)
    except ValueError as exc:
        raise ValueError(f"{name} {exc}") from None


def _each(value: Values, name: str, read: Callable[[Any], T], *, most: int = LIST_MAX) -> tuple[T, ...]:
    """The list `value[name]`, each read; errors name the place, from 0. None where it is missing."""
    given = value.get(name)
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) > most:
        raise ValueError(f"{name} must be a list of at most {most}")
    found = list[T]()
    for number, one in enumerate(given):
        try:
            found.append(read(one))
        except ValueError as exc:
            raise ValueError(f"{name}.{number} {exc}") from None
    return tuple(found)


def _object(value: Any, fields: Collection[str]) -> Values:
    if not isinstance(value, Mapping):
        raise ValueError(f"must be an object with {', '.join(fields)}")  # noqa: TRY004 - bad input, not a bug
    _only(value, fields)
    return value


def _only(value: Values, fields: Collection[str]) -> None:
    if unknown := sorted(str(name) for name in set(value) - set(fields)):
        raise ValueError(f"has an unknown part {unknown[0]!r}; known ones are {', '.join(fields)}")


def _words(value: Values, name: str) -> frozenset[str]:
    def word(given: Any) -> str:
        if not isinstance(given, str) or not 0 < len(given) <= WORD_MAX or _BAD.search(given):
            raise ValueError(f"must be a text of 1 to {WORD_MAX} characters, without control characters")
        return given

    return frozenset(_each(value, name, word))


def _one_of(value: Any, allowed: Sequence[str]) -> Any:
    if value not in allowed:
        raise ValueError(f"must be one of {', '.join(allowed)}")
    return value


def _count(value: Any) -> int:
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value, re.ASCII) else value
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= COUNT_MAX:
        raise ValueError(f"must be a whole number from 1 to {COUNT_MAX}")
    return number


def _plain_amount(value: Any) -> int:
    return _amount(value, "")


def _amount(value: Any, name: str) -> int:
    micros = _decimal(value, name)
    if micros < 0:
        raise ValueError(f"{name} must not be negative".strip())
    return micros


def _percent(value: Any, name: str) -> int:
    percent = _decimal(value, name)
    if not 0 <= percent <= money.PERCENT_MICROS:
        raise ValueError(f"{name} must be from 0 to 100")
    return percent


def _decimal(value: Any, name: str) -> int:
    if isinstance(value, bool) or not _DECIMAL.fullmatch(str(value).strip()):
        raise ValueError(f"{name} must be a decimal string such as 5.00".strip())
    try:
        return money.parse_micros(str(value))
    except ValueError as exc:
        raise ValueError(f"{name} {exc}".strip()) from None


def _currency(value: Any) -> str:
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        raise ValueError("currency must be an ISO 4217 code of three letters, such as EUR")
    return value.upper()


def written(plan: Plan, slugs: Mapping[int, str]) -> dict[str, Any]:
    """`plan` as it is kept and shown; `slugs` are those of the partners it is split with. `read` takes it back."""
    currency = plan.currency or ""

    def amount(micros: int) -> str:
        return money.format_micros(micros, currency)

    def rate(of: Rate) -> dict[str, str]:
        if of.percent_micros is not None:
            return {"type": "percent", "percent": _written_percent(of.percent_micros)}
        return {"type": "fixed", "amount": amount(of.amount_micros or 0), "currency": currency}

    shown: dict[str, Any] = {"type": "plan", "rate": rate(plan.rate)}
    shown |= {"currency": plan.currency} if plan.currency else {}
    shown |= {"rules": [_written_rule(rule, rate) for rule in plan.rules]} if plan.rules else {}
    if plan.recurring:
        limits = {name: getattr(plan.recurring, name) for name in ("payments", "months") if getattr(plan.recurring, name)}
        shown["recurring"] = {"rate": rate(plan.recurring.rate)} | limits
    shown |= {"minimum_order": amount(plan.minimum_order_micros)} if plan.minimum_order_micros else {}
    shown |= {} if plan.cap_micros is None else {"cap": amount(plan.cap_micros)}
    if plan.tiers:
        of = str if plan.tiers.by == "conversions" else amount
        steps = [{"from": of(step.start), "rate": rate(step.rate)} for step in plan.tiers.steps]
        shown["tiers"] = {"by": plan.tiers.by, "counts": plan.tiers.counts, "steps": steps}
    bonuses = [{"conversions": bonus.conversions, "amount": amount(bonus.amount_micros)} for bonus in plan.bonuses]
    shown |= {"bonuses": bonuses} if bonuses else {}
    shown |= {"per_click": amount(plan.per_click_micros)} if plan.per_click_micros else {}
    levels = [{"percent": _written_percent(level.percent_micros), "of": level.of} for level in plan.levels]
    shown |= {"levels": levels} if levels else {}
    split = [{"partner": slugs[part.partner], "percent": _written_percent(part.percent_micros)} for part in plan.split]
    return shown | ({"split": split} if split else {})


def _written_percent(micros: int) -> str:
    return money.format_micros(micros, "JPY")  # no digits after the point but those it needs


def _written_rule(rule: Rule, rate: Callable[[Rate], dict[str, str]]) -> dict[str, Any]:
    words = {name: sorted(getattr(rule, name)) for name in ("goals", "categories", "skus") if getattr(rule, name)}
    return words | ({"customer": rule.customer} if rule.customer else {}) | {"rate": rate(rule.rate)}
