"""The tracker: API, postbacks, pixel, reports. `create` wires it, `serve` is its composition root."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI, Request, Response
from prometheus_client import disable_created_metrics

from tracker.adapters import http_server, postgres_conversions
from tracker.adapters.postgres_conversions_read import Conversions
from tracker.adapters.postgres_old_reports import OldReports
from tracker.adapters.postgres_pool import Database
from tracker.adapters.postgres_programme import Programme
from tracker.adapters.postgres_programme_keys import Keys, PostbackTokens, SigningSecrets
from tracker.api import (
    balances,
    bulk,
    explain,
    matching,
    old_reports,
    orphans,
    payouts,
    postbacks,
    rates,
    reports,
    system,
    tee,
    terms,
    things,
    visits,
    webhooks,
)
from tracker.api import conversions as conversion_routes
from tracker.api.answers import handle_errors, problem
from tracker.api.auth import Authenticate, Authority, admin_key
from tracker.api.intake import Breaker, Intake
from tracker.api.metrics import Metrics
from tracker.api.old_hosts import OldHosts
from tracker.api.reporters import Reporters
from tracker.api.tokens import Tokens
from tracker.journals import conversion_journal
from tracker.matching import Matching
from tracker.old_reports import OldReportBook
from tracker.orphans import Orphans
from tracker.payouts.balances import Balances
from tracker.payouts.bulk import Bulk
from tracker.payouts.rates import ExchangeRates
from tracker.payouts.recompute import Recomputing
from tracker.payouts.runs import Payouts
from tracker.payouts.terms import TermsBook
from tracker.route_table import profiles, route_table
from tracker.settings import Settings
from tracker.tee import Tee

log = logging.getLogger(__name__)

DESCRIPTION = (
    "Click and conversion tracker. The API below /api/v1 needs `Authorization: Bearer KEY` (turnout key create); "
    "refusals are application/problem+json with a stable `code`."
)


def create(settings: Settings) -> FastAPI:
    """The application; it connects to PostgreSQL when it first has to. BadConfiguration when there is no admin key to be had."""
    disable_created_metrics()  # type: ignore[no-untyped-call] # untyped in the client
    database = Database(settings.dsn, name="tracker")
    programme = Programme(database, link_base=settings.link_base)
    keys, conversions = Keys(database), Conversions(database)
    breaker = Breaker()
    intake = Intake(partial(postgres_conversions.receive, database), breaker, conversion_journal(settings))
    secrets = SigningSecrets(database)
    table = route_table(settings)
    tokens = Tokens(table, conversions, secrets, breaker)
    metrics = Metrics(intake)
    reporters = Reporters(tokens, metrics, settings.trusted_proxies)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await intake.start()
        yield
        await intake.stop()
        tokens.close()
        await database.close()

    app = FastAPI(
        title="Turnout", description=DESCRIPTION, version="1", docs_url=None, redoc_url=None, lifespan=lifespan, redirect_slashes=False
    )
    app.state.database = database
    handle_errors(app)
    desk = postbacks.Desk(
        tokens, reporters, conversions, metrics, settings, intake, refused=partial(postgres_conversions.reject, database), table=table
    )
    app.include_router(postbacks.routes(desk))
    app.include_router(visits.routes(tokens, table, metrics, settings))
    app.include_router(webhooks.routes(desk))
    app.include_router(things.routes(programme, keys, PostbackTokens(database), secrets))
    app.include_router(conversion_routes.routes(conversions))
    app.include_router(bulk.routes(Bulk(database)))
    app.include_router(matching.routes(Matching(database, metrics.matched)))
    app.include_router(balances.routes(Balances(database)))
    app.include_router(payouts.routes(Payouts(database, settings)))
    app.include_router(reports.routes(database, settings))
    app.include_router(rates.routes(ExchangeRates(database)))
    app.include_router(terms.routes(TermsBook(database), Recomputing(database)))
    app.include_router(explain.routes(settings))
    app.include_router(orphans.routes(Orphans(database, programme, partial(route_table, settings))))
    app.include_router(tee.routes(Tee(database, profiles(settings))))
    app.include_router(old_reports.routes(OldReportBook(database, OldReports(profiles(settings)))))
    app.include_router(system.routes(database, conversions, metrics, settings))
    system.add_docs(app)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(Authenticate, authority=Authority(admin_key(settings), keys))
    app.add_middleware(OldHosts, table=table, intake=intake, metrics=metrics, settings=settings, routes=app.routes)
    return app


async def _bug(request: Request, error: Exception) -> Response:
    log.error("request.failed", exc_info=error, extra={"path": request.url.path, "method": request.method})
    return problem(500, "internal_error", "This is a bug of ours; it is in the log.")


def serve(settings: Settings, fd: int | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then finish running requests; returns the exit code.

    `fd` is a listening socket that was inherited; without it HOST:TRACKER_PORT is bound. BadConfiguration when that fails.
    """
    return http_server.serve(create(settings), host=settings.host, port=settings.tracker_port, fd=fd, name="tracker")
