"""The catalogue of metrics in tracker/README.md is what the parts expose: no more, no less."""

import re
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from redirector.metrics import RedirectMetrics
from tracker.adapters.journal.recording import Recording, RecordingOptions
from tracker.adapters.lmdb_routes import RouteTable
from tracker.api.intake import Breaker, Intake
from tracker.api.metrics import Metrics
from tracker.local.metrics_hub import UP_NAME
from tracker.metrics import ConversionMetrics
from workers.keeper_old_clicks import OldClickMetrics
from workers.metrics import (
    BookMetrics,
    ClickMetrics,
    HoldMetrics,
    OldReportMetrics,
    ReceiptMetrics,
    StorageMetrics,
    StreamMetrics,
    SweeperMetrics,
    TeeMetrics,
)

CATALOGUE = Path(__file__).parents[2] / "tracker" / "README.md"
ROW = re.compile(r"^\| `(turnout_\w+)(?:\{([\w,]*)\})?` \| (\w+) \|", re.MULTILINE)


def exposed(families):
    for family in families:
        name = family.name + "_total" if family.type == "counter" and not family.name.endswith("_total") else family.name
        yield name, family.type


@pytest.fixture
def everything(tmp_path):
    options = RecordingOptions("clicks", "n", tmp_path, "unix:///nowhere", "journal", 0.025, 0.0, 1, 1, 1)
    found = dict(exposed(RedirectMetrics(RouteTable(tmp_path / "routes.mdb"), Recording(options), Recording(options), Counter()).collect()))
    registry = CollectorRegistry()
    streams, conversions = StreamMetrics(registry), ConversionMetrics(registry)
    ClickMetrics(registry, streams)
    ReceiptMetrics(registry, streams, conversions, OldReportMetrics(registry, conversions))
    SweeperMetrics(registry, conversions)
    BookMetrics(registry)
    StorageMetrics(registry)
    HoldMetrics(registry)
    OldClickMetrics(registry)
    TeeMetrics(registry)
    found |= dict(exposed(registry.collect()))
    found |= dict(exposed(Metrics(Intake(None, Breaker(), options)).registry.collect()))
    return found | {UP_NAME: "gauge"}


def test_every_metric_is_in_the_catalogue_with_its_type(everything):
    rows = {name: kind for name, _, kind in ROW.findall(CATALOGUE.read_text())}
    assert rows == everything, f"missing: {set(everything) - set(rows)}; gone: {set(rows) - set(everything)}"


def test_every_row_says_what_to_do():
    for line in CATALOGUE.read_text().splitlines():
        if ROW.match(line):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == 4, line
            assert all(cells), line
