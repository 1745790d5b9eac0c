"""What the tests of the chaos harness need: a PostgreSQL with the real schema, made by the command line."""

import asyncio
import contextlib

import pytest

from loadtests.chaos.processes import ROOT, Workplace
from loadtests.chaos.servers import Postgres, postgres_programs
from loadtests.chaos.turnout import clean_environment, run_cli


class Database:
    """A PostgreSQL of the harness, for tests without an event loop."""

    def __init__(self, postgres):
        self._postgres = postgres

    def run(self, work):
        """The result of `work(connection)`, inside a transaction that is rolled back."""
        return asyncio.run(self._run(work))

    async def _run(self, work):
        connection = await self._postgres.connect()
        transaction = connection.transaction()
        await transaction.start()
        try:
            return await work(connection)
        finally:
            await transaction.rollback()
            await connection.close()


@pytest.fixture(scope="session")
def database():
    place = Workplace()
    loop = asyncio.new_event_loop()
    try:
        postgres = Postgres(place, postgres_programs())
        loop.run_until_complete(postgres.create())
        settings = {"TURNOUT_DATABASE_URL": postgres.url(), "TURNOUT_DATA_DIR": str(place.root / "data")}
        code, _, errors = loop.run_until_complete(run_cli(clean_environment(ROOT) | settings, ("db", "upgrade")))
        assert code == 0, errors
        yield Database(postgres)
        with contextlib.suppress(ProcessLookupError):
            postgres.process.terminate()
        loop.run_until_complete(postgres.process.wait())
    finally:
        loop.close()
        place.close()
