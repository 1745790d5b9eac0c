"""The OpenAPI document against the tracker itself: a process, real PostgreSQL, requests that Schemathesis makes from the document.

Always the same requests in the same order: the examples of the document, then CASES valid and CASES invalid ones for each operation.
"""

import asyncio
import socket

import asyncpg
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests import launcher
from tests.integration.api_client import ADMIN_KEY
from tests.integration.pipeline import PROGRAMME, ROOT, environment_without_settings
from tests.thorough import examples
from tests.wait import wait_until_sync
from tracker.api.app import create
from tracker.api.document import CHANGES, EXAMPLES
from tracker.programme import THINGS
from tracker.settings import Settings

pytestmark = pytest.mark.integration

CASES = examples(4, 8)  # of each kind: with some eighty operations, about 700 requests
SEED = 20260131
FAIL_MAX = 10  # told at once
HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
SAFE = [not_a_server_error]
CONFORMING = [*SAFE, status_code_conformance, content_type_conformance, response_schema_conformance, response_headers_conformance]
PACE = settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # a failure is told as it came: requests change the database, a shrunk one would meet another
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def document(tmp_path):
    """The application's own."""
    return create(Settings(database_url="postgresql://nowhere/x", data_dir=str(tmp_path), admin_key=ADMIN_KEY, _env_file=None)).openapi()


@pytest.fixture
def tracker(dsn, tmp_path):
    """Address of a tracker on a small programme."""
    asyncio.run(execute(dsn, PROGRAMME))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.set_inheritable(True)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    given_settings = {"TURNOUT_DATABASE_URL": dsn, "TURNOUT_DATA_DIR": str(tmp_path / "data"), "TURNOUT_ADMIN_KEY": ADMIN_KEY}
    environment = environment_without_settings() | given_settings | {"PYTHONPATH": str(ROOT)}
    words = ["-m", "tracker", "serve", "tracker", "--fd", str(listener.fileno())]
    with (tmp_path / "log").open("wb") as log:
        process = launcher.launch(words, env=environment, pass_fds=[listener.fileno()], stderr=log)
    try:
        wait_until_sync(lambda: requests.get(f"{address}/readyz", timeout=20).status_code == 200)
        yield address
    finally:
        process.terminate()
        process.wait(30)
        listener.close()


async def execute(dsn, statement):
    connection = await asyncpg.connect(dsn, timeout=10)
    await connection.execute(statement)
    await connection.close()


def strategies(operation):
    """Of its examples, of what its description allows, of what it does not allow; each with how many to take."""
    yield from ((strategy, 1) for strategy in operation.get_strategies_from_examples())
    yield operation.as_strategy(generation_mode=GenerationMode.POSITIVE), CASES
    if can_be_wrong(operation.definition.raw):
        yield operation.as_strategy(generation_mode=GenerationMode.NEGATIVE), CASES


def can_be_wrong(description):
    """Whether something the document forbids can be sent: in a path or query, everything is a string."""
    schemas = [parameter["schema"] for parameter in description.get("parameters", [])]
    return "requestBody" in description or any(schema["type"] != "string" or "enum" in schema for schema in schemas)


def every_case(operation, handle):
    """Call `handle` with each case of an operation."""
    for strategy, count in strategies(operation):

        @seed(SEED)
        @settings(PACE, max_examples=count)
        @given(case=strategy)
        def run(case):
            handle(case)

        run()


def test_whatever_the_document_allows_or_forbids_is_answered_as_it_says(document, tracker):
    schema = schemathesis.openapi.from_dict(document)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) == sum(len(methods) for methods in document["paths"].values())
    failures, sent = [], [0]
    with requests.Session() as session:

        def handle(case):
            sent[0] += 1
            response = case.call(base_url=tracker, session=session, headers=HEADERS, allow_redirects=False, timeout=30)
            try:
                case.validate_response(response, checks=CONFORMING, headers=HEADERS)
            except (Failure, FailureGroup) as failure:
                failures.append(told(case, response, failure))

        for operation in operations:
            every_case(operation, handle)
    assert not failures, f"{len(failures)} of {sent[0]}:\n" + "\n\n".join(failures[:FAIL_MAX])
    assert sent[0] >= CASES * len(operations)


def told(case, response, failure):
    reasons = getattr(failure, "exceptions", [failure])
    said = "; ".join(f"{reason.title}: {reason.message}" for reason in reasons)
    return f"{case.operation.label} → {response.status_code} {response.text[:200]}\n  {said}\n  {case.as_curl_command(headers=HEADERS)}"


def operations_of_the_programme(document):
    for path, methods in document["paths"].items():
        if path.split("/")[3:4] and path.split("/")[3] in THINGS:
            yield from ((f"{method.upper()} {path}", description) for method, description in methods.items())


def has_example(described):
    return bool({"example", "examples"} & {*described, *described.get("schema", {})})


def test_every_body_and_parameter_of_the_programme_has_an_example(document):
    bare = []
    for name, description in operations_of_the_programme(document):
        bodies = description.get("requestBody", {}).get("content", {}).values()
        described = [*description.get("parameters", []), *bodies]
        bare += [f"{name}: {one.get('name', 'body')}" for one in described if not has_example(one)]
    assert not bare
    assert set(EXAMPLES) == set(CHANGES) == set(THINGS)


async def test_the_examples_of_the_document_make_a_programme_and_change_it(api):
    for plural, example in EXAMPLES.items():
        made = await api.admin("POST", f"/api/v1/{plural}", example)
        assert made.status_code == 201, made.text
        shown = made.json()
        named = example.get(THINGS[plural].key, shown["id"])
        changed = await api.admin("PATCH", f"/api/v1/{plural}/{named}", CHANGES[plural])
        assert changed.status_code == 200, changed.text
