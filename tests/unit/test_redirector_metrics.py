"""Several redirectors' figures as one: `flock` tells processes apart even inside one process, so the pages are tried here as they are."""

import re
from collections import Counter
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redirector.figures import Figures, of_host
from redirector.metrics import RedirectMetrics
from redirector.metrics_pages import HALF_BYTES, MetricsPages, pages_of
from tracker.adapters.journal.counter_page import SHARED_MEMORY
from tracker.adapters.journal.recording import Recording, RecordingOptions
from tracker.adapters.lmdb_routes import RouteTable

GAUGES = ("turnout_journal_bytes", "turnout_journal_kept_bytes", "turnout_journal_oldest_age_seconds", "turnout_redis_breaker_state")
_names = count()


class Process:
    """The metrics of one redirector; `die` is what kill -9 leaves of it."""

    def __init__(self, directory, elsewhere):
        options = RecordingOptions("clicks", "n", elsewhere, "unix:///nowhere", "journal", 0.025, 0.0, 1, 1, 1)
        self.recording, self.receipts, self.pages = Recording(options), Recording(options), MetricsPages(directory)
        self.metrics = RedirectMetrics(RouteTable(elsewhere / "routes.mdb"), self.recording, self.receipts, Counter(), self.pages)
        self.metrics.tick()

    def redirect(self, times=1, outcome="ok"):
        for _ in range(times):
            self.metrics.observe(outcome, None, 0.003)
        self.recording.line.accepted += times

    def scrape(self):
        text = self.metrics.exposition().decode()
        return {name: float(value) for name, value in re.findall(r"^(turnout_\S+) (\S+)$", text, re.MULTILINE)}

    def redirects(self, outcome="ok"):
        return self.scrape().get(f'turnout_redirects_total{{outcome="{outcome}"}}', 0)

    def die(self):
        self.pages.let_go()


@pytest.fixture
def start(tmp_path):
    return lambda: Process(tmp_path / "pages", tmp_path)


def test_each_process_tells_the_figures_of_all(start):
    first, second = start(), start()
    first.redirect(3)
    second.redirect(4)
    second.redirect(2, outcome="unknown")
    for process in (first, second):
        process.metrics.tick()
    for scraped in (first.scrape(), second.scrape()):
        assert scraped['turnout_redirects_total{outcome="ok"}'] == 7
        assert scraped['turnout_redirects_total{outcome="unknown"}'] == 2
        assert scraped["turnout_clicks_accepted_total"] == 9
        assert scraped["turnout_redirect_duration_seconds_count"] == 9
        assert scraped['turnout_redirect_duration_seconds_bucket{le="0.002"}'] == 0
        assert scraped['turnout_redirect_duration_seconds_bucket{le="0.005"}'] == 9
        assert scraped["turnout_redirect_duration_seconds_sum"] == pytest.approx(0.027)


def test_what_one_process_told_the_next_one_asked_knows_without_a_tick(start):
    first, second = start(), start()
    first.redirect(5)
    assert first.redirects() == 5
    assert second.redirects() == 5


def test_an_heir_goes_on_from_the_counts_of_the_dead(start, tmp_path):
    first, second = start(), start()
    first.redirect(3)
    assert first.redirects() == 3
    first.die()
    assert second.redirects() == 3
    heir = start()
    heir.redirect(2)
    assert heir.redirects() == second.redirects() == 5
    assert len(list((tmp_path / "pages").iterdir())) == 2


def gauges(*values):
    return dict(zip(GAUGES, values, strict=True))


def test_bytes_are_summed_and_the_worst_age_and_breaker_told_of_the_living_alone():
    first, second, dead = (
        Figures({}, gauges(*values)) for values in ((1.0, 10.0, 7.0, 2.0), (2.0, 20.0, 9.0, 0.0), (4.0, 40.0, 99.0, 2.0))
    )
    assert of_host(first, [(second, True), (dead, False)]).gauges == gauges(3.0, 30.0, 9.0, 2.0)
    assert of_host(second, [(first, True)]).gauges == gauges(3.0, 30.0, 9.0, 2.0)
    assert first.gauges == gauges(1.0, 10.0, 7.0, 2.0)


def test_a_page_says_whether_its_process_lives(tmp_path):
    first, second = MetricsPages(tmp_path), MetricsPages(tmp_path)
    for pages in (first, second):
        pages.take()
        pages.save(Figures({}, {}))
    assert [is_alive for _, is_alive in first.others()] == [True]
    second.let_go()
    assert [is_alive for _, is_alive in first.others()] == [False]
    first.leave()


@pytest.mark.parametrize(("torn_half", "left"), [(1, 3), (0, 4)])
def test_who_dies_while_writing_leaves_the_figures_before(start, tmp_path, torn_half, left):
    first = start()  # has written the second half
    first.redirect(3)
    first.metrics.tick()
    first.redirect(1)
    first.metrics.tick()  # and now again
    first.die()
    with (tmp_path / "pages" / "redirector-0").open("r+b") as page:
        page.seek(torn_half * HALF_BYTES + 60)
        page.write(b"\xff" * 40)
    assert start().redirects() == left


@pytest.mark.parametrize("broken", [b"", b"\0" * 100, b"\xff" * 2 * HALF_BYTES, b"TRM1" + b"\xff" * 60])
def test_a_page_that_cannot_be_read_counts_nothing_and_is_taken_again(start, tmp_path, broken):
    (tmp_path / "pages").mkdir(mode=0o700)
    (tmp_path / "pages" / "redirector-0").write_bytes(broken)
    (tmp_path / "pages" / "redirector-1").write_bytes(broken)
    process = start()
    process.redirect()
    assert process.redirects() == 1
    assert start().redirects() == 1


def test_without_a_place_for_pages_a_process_tells_its_own_and_shares_as_soon_as_it_can(start, tmp_path):
    (tmp_path / "pages").write_text("a file where the directory should be")
    first, second = start(), start()
    first.redirect(2)
    second.redirect(1)
    first.metrics.tick()
    assert (first.redirects(), second.redirects()) == (2, 1)
    (tmp_path / "pages").unlink()
    first.metrics.tick()
    second.metrics.tick()
    assert (first.redirects(), second.redirects()) == (3, 3)


def test_a_directory_that_is_a_link_to_elsewhere_is_not_used(start, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "pages").symlink_to(tmp_path / "elsewhere")
    process = start()
    process.redirect()
    assert process.redirects() == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_figures_too_large_for_a_page_are_told_by_their_own_process_alone(start):
    first, second = start(), start()
    first.redirect(3)
    first.metrics.tick()
    first.redirect(1, outcome="x" * HALF_BYTES)
    assert first.redirects("x" * HALF_BYTES) == 1
    assert second.redirects() == 3


def test_a_process_that_leaves_has_counted_and_the_last_one_takes_the_pages_with_it(start, tmp_path):
    first, second = start(), start()
    first.redirect(3)
    first.metrics.close()
    assert second.redirects() == 3
    second.metrics.close()
    assert not (tmp_path / "pages").exists()
    assert start().redirects() == 0


def test_pages_lie_in_memory_and_each_data_directory_has_its_own():
    one, other = pages_of(Path("/srv/one")), pages_of(Path("/srv/other"))
    assert one != other
    assert one == pages_of(Path("/srv/one"))
    assert one.parent == SHARED_MEMORY


@given(st.lists(st.tuples(st.sampled_from(("redirect", "tick", "scrape", "die", "leave", "start")), st.integers(0, 3)), max_size=40))
def test_whatever_happens_counters_never_go_back_and_never_exceed_what_happened(tmp_path_factory, steps):
    directory = tmp_path_factory.getbasetemp() / f"law-{next(_names)}"
    processes, happened, told = [Process(directory, directory.parent)], 0, 0
    for step, which in steps:
        process = processes[which % len(processes)]
        if step == "redirect":
            process.redirect(which + 1)
            happened += which + 1
        elif step == "tick":
            process.metrics.tick()
        elif step == "scrape":
            assert told <= (told := process.redirects()) <= happened
        elif step == "start":
            processes.append(Process(directory, directory.parent))
        elif len(processes) > 1:
            processes.remove(process)
            if step == "die":
                process.die()
            else:
                process.metrics.close()
    for process in processes:
        assert told <= (told := process.redirects()) <= happened
    for process in processes:
        process.metrics.close()
