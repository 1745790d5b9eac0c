"""What the end-to-end tests run against: a `turnout up` that they start, or a deployment that the command line names."""

import os

import pytest

from tests.cluster import give_cluster
from tests.e2e.deployment import Deployment
from tests.e2e.installation import Installation

KEY_VARIABLE = "TEST_ADMIN_KEY"


def pytest_addoption(parser):
    group = parser.getgroup("turnout", "a deployment of Turnout to run tests/e2e against")
    group.addoption("--base-url", help="its redirector, such as https://go.brand.example; else `turnout up` is started")
    group.addoption("--tracker-url", help="its tracker, such as https://tracker.brand.example")
    group.addoption("--admin-key", help=f"a key with the role admin or operator (default: ${KEY_VARIABLE})")


def named(config):
    """The redirector, tracker and key that the command line names; None when it names none. UsageError for half of it."""
    redirector, tracker = (config.getoption(name, default=None) for name in ("--base-url", "--tracker-url"))
    key = config.getoption("--admin-key", default=None) or os.environ.get(KEY_VARIABLE)
    if not redirector and not tracker:
        return None
    if not (redirector and tracker and key):
        raise pytest.UsageError(f"--base-url, --tracker-url and --admin-key (or {KEY_VARIABLE}) go together")
    return Deployment(redirector, tracker, key)


def pytest_configure(config):
    named(config)


@pytest.fixture
def installation(request, tmp_path):
    """A data directory of this test's own, with the schema and free ports; nothing runs yet.

    Skips on a deployment: these tests kill and look inside.
    """
    if named(request.config) is not None:
        pytest.skip("starts, kills or looks into processes of its own: not on the deployment that --base-url names")
    give_cluster(tmp_path / "data")
    built = Installation(tmp_path / "data")
    yield built
    built.close()


@pytest.fixture(scope="module")
def deployment(request, tmp_path_factory):
    """The deployment that the command line names, else a `turnout up` of this module's own."""
    found = named(request.config)
    if found is not None:
        yield found
        return
    built = Installation(tmp_path_factory.mktemp("up") / "data")
    give_cluster(built.directory)
    try:
        built.up()
        yield built.deployment()
        built.down()
    finally:
        built.close()
