"""`pip install .` carries all that Turnout needs at run time: tried from a wheel, in a folder far from the repository."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.integration.pipeline import ROOT, environment_without_settings
from tracker.adapters import schema

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package from a freshly built wheel; the dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder


def run(installed, *arguments, **environment):
    env = environment_without_settings() | environment | {"PYTHONPATH": str(installed / "site")}
    return subprocess.run([sys.executable, *arguments], cwd=installed, env=env, capture_output=True, text=True, check=False, timeout=60)


def test_it_runs_from_the_installed_files_and_not_from_the_repository(installed):
    done = run(installed, "-c", "import tracker, redirector, workers, migrations; print(tracker.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(installed), done.stderr


def test_the_schema_is_made_from_the_installed_revisions(installed, dsn):
    done = run(installed, "-m", "tracker", "db", "upgrade", TURNOUT_DATABASE_URL=dsn)
    assert (done.returncode, done.stdout.strip()) == (0, schema.newest()), done.stderr


def test_no_test_or_repository_file_is_in_the_wheel(installed):
    tops = {path.name for path in (installed / "site").iterdir()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"tracker", "redirector", "workers", "migrations"}
