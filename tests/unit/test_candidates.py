"""Who earns: the order of candidates, a campaign's model, its windows, and why each of the others lost."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.domain.candidates import CLICKS, Candidate, Rules, decide

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
RULES = Rules(30 * DAY)


def candidate(kind="click", age=HOUR, *, name="", advertiser=1, campaign=10, rules=RULES):
    return Candidate(kind, name, advertiser, campaign, None if kind == "coupon" else AT - age, rules)


def decided(*candidates):
    return decide(candidates, advertiser=1, converted_at=AT, received_at=AT)


def test_nobody_is_nobody():
    assert (decided().winner, decided().trace) == (None, [])


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (candidate(advertiser=2), "the click: another advertiser's"),
        (candidate(age=31 * DAY), "the click: outside its window of 30 days"),
        (candidate("old_click", age=31 * DAY), "the old platform's click: outside its window of 30 days"),
        (candidate("cookie", age=31 * DAY, name="01k"), "click 01k of the cookie: outside its window of 30 days"),
        (candidate("coupon", name="SPRING", advertiser=2), "coupon SPRING: another advertiser's"),
        (
            candidate(age=timedelta(seconds=9), rules=Rules(30 * DAY, soonest=timedelta(seconds=10))),
            "the click: 9 s before the conversion, the campaign asks for 10 s at least",
        ),
        (
            candidate(age=timedelta(seconds=11), rules=Rules(30 * DAY, latest=timedelta(seconds=10))),
            "the click: 11 s before the conversion, the campaign allows 10 s at most",
        ),
        (
            candidate("customer", age=8 * DAY, rules=Rules(DAY, customer_window=7 * DAY)),
            "the customer's earlier order: more than 7 days ago",
        ),
    ],
)
def test_who_may_not_earn_is_told_why(one, reason):
    assert (decided(one).winner, decided(one).trace) == (None, [reason])


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (candidate(), "the click, inside its window of 30 days"),
        (
            candidate(age=timedelta(seconds=10), rules=Rules(30 * DAY, soonest=timedelta(seconds=10))),
            "the click, inside its window of 30 days",
        ),
        (
            candidate(age=timedelta(seconds=10), rules=Rules(30 * DAY, latest=timedelta(seconds=10))),
            "the click, inside its window of 30 days",
        ),
        (candidate(age=-HOUR), "the click, inside its window of 30 days; its clock is ahead of ours"),
        (candidate("coupon", name="SPRING"), "coupon SPRING"),
        (
            candidate("customer", age=7 * DAY, rules=Rules(DAY, customer_window=7 * DAY)),
            "the customer's earlier order, not more than 7 days ago",
        ),
        (candidate("named"), "the partner whom the report names, with a token of the store"),
    ],
)
def test_one_who_may_earn_does(one, reason):
    assert (decided(one).winner, decided(one).trace) == (one, [reason])


def test_the_order_of_kinds_decides_and_losers_are_told():
    click, coupon, customer = candidate(), candidate("coupon", name="SPRING"), candidate("customer", rules=Rules(DAY, customer_window=DAY))
    found = decided(click, coupon, customer)
    assert found.winner is click
    assert found.trace == [
        "the click, inside its window of 30 days, the last of those who may earn",
        "coupon SPRING: the click goes before it",
        "the customer's earlier order: the click goes before it",
    ]


def test_a_coupon_goes_first_where_its_campaign_says_so():
    click, coupon = candidate(), candidate("coupon", name="SPRING", rules=Rules(30 * DAY, coupon_first=True))
    found = decided(click, coupon)
    assert found.winner is coupon
    assert found.trace == ["coupon SPRING, which goes before clicks", "the click: coupon SPRING goes before it"]
    assert decided(coupon).trace == ["coupon SPRING"]


@pytest.mark.parametrize(("model", "wins"), [("last", 1), ("first", 2)])
def test_among_clicks_of_a_campaign_its_model_decides(model, wins):
    rules = Rules(30 * DAY, model=model)
    clicks = [
        candidate(age=2 * HOUR, rules=rules),
        candidate("cookie", age=HOUR, name="b", rules=rules),
        candidate("cookie", age=3 * HOUR, name="c", rules=rules),
        candidate("cookie", age=timedelta(0), name="d", campaign=11, rules=rules),
        candidate("cookie", age=40 * DAY, name="e", rules=rules),
    ]
    assert decided(*clicks).winner is clicks[wins]


def test_of_two_clicks_of_one_instant_the_stores_own_wins():
    own, other = candidate(), candidate("cookie", name="b")
    assert decided(own, other).winner is own


kinds = st.sampled_from(["click", "old_click", "coupon", "cookie", "customer"])
rules = st.builds(
    Rules,
    st.integers(1, 40).map(lambda days: days * DAY),
    st.sampled_from(["last", "first"]),
    st.booleans(),
    st.integers(0, 100).map(lambda s: timedelta(seconds=s)),
    st.one_of(st.none(), st.integers(1, 100).map(lambda days: days * DAY)),
    st.integers(0, 40).map(lambda days: days * DAY),
)
candidates = st.builds(
    lambda kind, age, advertiser, campaign, rule: candidate(kind, age, advertiser=advertiser, campaign=campaign, rules=rule),
    kinds,
    st.integers(-60, 60 * 24 * 60).map(lambda m: timedelta(minutes=m)),
    st.integers(1, 2),
    st.integers(10, 11),
    rules,
)


@given(st.lists(candidates, max_size=6))
def test_every_candidate_is_told_of_once_and_the_winner_would_win_alone(found):
    decision = decided(*found)
    assert len(decision.trace) == len(found)
    if decision.winner is None:
        assert all(decided(one).winner is None for one in found)
    else:
        assert decided(decision.winner).winner is decision.winner
        able = [one for one in found if decided(one).winner is one]
        first = next((one for one in able if one.kind == "coupon" and one.rules.coupon_first), able[0])
        assert decision.winner is first or (first.kind in CLICKS and decision.winner.campaign == first.campaign)
