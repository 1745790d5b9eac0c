"""The audit in all four states, and that every line adds up."""

import asyncio
import json

import pytest
import redis

from tests.integration.click_source import KEY, Node, books, drain, execute
from tracker.adapters.audit import audit
from tracker.cli import books as cli
from tracker.errors import RejectedInput
from tracker.settings import Settings

pytestmark = pytest.mark.integration


async def test_nothing_at_all_is_balanced(dsn, redis_url):
    found = await books(dsn, redis_url)
    assert (found["state"], found["accepted"], found["nodes"], found["conversions"]["state"]) == ("balanced", 0, [], "balanced")


async def test_what_the_node_holds_is_in_flight(dsn, redis_url):
    node = Node(redis_url)
    node.accept(10)
    node.ship(1, 4)
    await drain(dsn, redis_url)
    node.report(held="{[5,11)}")
    found = await books(dsn, redis_url)
    assert (found["state"], found["accepted"], found["stored"], found["in_flight"]) == ("in_flight", 50, 20, 30)


async def test_a_boot_that_postgresql_does_not_know_is_in_flight_as_a_whole(dsn, redis_url):
    node = Node(redis_url)
    node.accept(3)
    node.report(held="{[1,4)}")
    found = await books(dsn, redis_url)
    assert (found["state"], found["in_flight"], found["nodes"][0]["node"]) == ("in_flight", 15, "edge-1")


async def test_what_only_the_stream_holds_is_in_flight_too(dsn, redis_url):
    node = Node(redis_url)
    node.accept(6)
    node.ship(3, 6)
    await drain(dsn, redis_url)
    node.ship(1, 2)
    node.report(held="{}")
    found = await books(dsn, redis_url)
    assert (found["state"], found["stored"], found["in_flight"], found["unaccounted"]) == ("in_flight", 20, 10, 0)


async def test_a_seq_cut_out_of_covered_is_named(dsn, redis_url):
    node = Node(redis_url)
    node.accept(9)
    node.ship(1, 9)
    node.close()
    await drain(dsn, redis_url)
    await execute(dsn, "UPDATE boots SET covered = covered - '{[4,6)}'::int8multirange, stored = stored - 10")
    with redis.Redis.from_url(redis_url) as client:
        client.delete(KEY)
    found = await books(dsn, redis_url)
    assert (found["state"], found["unaccounted"]) == ("unbalanced", 10)
    assert found["nodes"][0]["missing"] == [{"seq_from": 4, "seq_to": 5}]


async def test_a_node_that_reports_and_lacks_a_batch_is_unbalanced(dsn, redis_url):
    node = Node(redis_url)
    node.accept(4)
    node.ship(1, 2)
    node.ship(4, 4)
    await drain(dsn, redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.delete(KEY)
    node.report(held="{}")
    found = await books(dsn, redis_url)
    assert (found["state"], found["unaccounted"], found["nodes"][0]["missing"]) == ("unbalanced", 5, [{"seq_from": 3, "seq_to": 3}])


async def test_more_stored_than_accepted_is_unbalanced(dsn, redis_url):
    node = Node(redis_url)
    node.accept(2)
    node.ship(1, 2)
    node.close()
    await drain(dsn, redis_url)
    await execute(dsn, "UPDATE boots SET stored = stored + 1")
    found = await books(dsn, redis_url)
    assert (found["state"], found["unaccounted"]) == ("unbalanced", -1)


async def test_a_silent_open_boot_is_unknown_and_a_closed_one_is_not(dsn, redis_url):
    node = Node(redis_url)
    node.accept(2)
    node.ship(1, 2)
    await drain(dsn, redis_url)
    await execute(dsn, "UPDATE boots SET last_heard_at = now() - interval '2 minutes'")
    with redis.Redis.from_url(redis_url) as client:
        client.delete(KEY)
    assert (await books(dsn, redis_url))["state"] in ("unknown", "unbalanced")
    node.close()
    await drain(dsn, redis_url)
    await execute(dsn, "UPDATE boots SET last_heard_at = now() - interval '2 minutes'")
    found = await books(dsn, redis_url)
    assert (found["state"], found["nodes"][0]["boot"], found["nodes"][0]["boots"]) == ("balanced", None, 1)


async def test_without_redis_only_closed_and_complete_boots_are_known(dsn, redis_url):
    node = Node(redis_url)
    node.accept(2)
    node.ship(1, 2)
    await drain(dsn, redis_url)
    assert (await audit(dsn, "redis://127.0.0.1:1", 1))["state"] == "unknown"
    node.close()
    await drain(dsn, redis_url)
    assert (await audit(dsn, "redis://127.0.0.1:1", 1))["state"] == "balanced"


async def test_the_permitted_loss_is_unrecorded_and_balanced(dsn, redis_url):
    node = Node(redis_url)
    node.accept(4)
    node.ship(1, 3)
    node.close(unrecorded=5)
    await drain(dsn, redis_url)
    found = await books(dsn, redis_url)
    assert (found["state"], found["unrecorded"], found["unaccounted"]) == ("balanced", 5, 0)


def settings(dsn: str, redis_url: str, tmp_path) -> Settings:
    return Settings(database_url=dsn, redis_url=redis_url, data_dir=str(tmp_path), _env_file=None)


def test_the_command_prints_json_or_a_table_and_its_exit_code_says_the_state(dsn, redis_url, tmp_path, capsys):
    assert cli.audit(settings(dsn, redis_url, tmp_path), as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "balanced"
    assert cli.audit(settings(dsn, redis_url, tmp_path), as_json=False) == 0
    assert "balanced" in capsys.readouterr().out
    assert cli.audit(settings("postgresql://x@127.0.0.1:1/x", redis_url, tmp_path), as_json=False) == 3


async def test_a_boot_whose_journal_is_gone_for_good_is_closed_by_hand_and_its_loss_is_counted(dsn, redis_url):
    node = Node(redis_url)
    node.accept(9)
    node.ship(1, 3)
    node.ship(7, 9)
    await drain(dsn, redis_url)
    settings = Settings(database_url=dsn, redis_url=redis_url, _env_file=None)
    assert await asyncio.to_thread(cli.close, settings, node.boot.hex(), "disk died") == 1, "not while it was heard of"
    await execute(dsn, "UPDATE boots SET last_heard_at = now() - interval '2 minutes'")
    assert (await books(dsn, redis_url))["state"] in ("unknown", "unbalanced")
    assert await asyncio.to_thread(cli.close, settings, node.boot.hex(), "disk died") == 0
    found = await books(dsn, redis_url)
    assert (found["state"], found["unrecorded"], found["unaccounted"]) == ("balanced", 15, 0)
    assert await asyncio.to_thread(cli.close, settings, node.boot.hex(), "again") == 1


def test_closing_needs_a_boot_and_a_reason():
    settings = Settings(_env_file=None)
    with pytest.raises(RejectedInput, match="is no boot"):
        cli.close(settings, "x", "y")
    with pytest.raises(RejectedInput, match="--reason"):
        cli.close(settings, "0" * 32, "")
