"""Where files lie: shards as they are sent, answers as they came. Readable by their owner only."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, unquote

from batchkit.errors import SpoolError
from batchkit.leases import is_writer_dead, new_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchkit.models import Shard

_PART_SUFFIX = ".part"
_PART_NAME_BYTES = 160
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


def directory_name(workload_name: str, key: str) -> str:
    """Name a workload's folder: readable, unique by ``key``, and never a way out of the spool."""
    slug = _UNSAFE.sub("-", workload_name).strip(".-")[:40] or "workload"
    return f"{slug}-{key}"


@contextmanager
def disk_errors(action: str, path: Path | str) -> Iterator[None]:
    """Turn the operating system's error into one that says what to do."""
    try:
        yield
    except OSError as error:
        raise disk_error(action, path, error) from error


def disk_error(action: str, path: Path | str, error: OSError) -> SpoolError:
    """Say what the operating system refused, where, and what to do."""
    return SpoolError(
        f"cannot {action} {path}: {error.strerror or error}",
        hint="make room or mend the permissions (BATCHKIT_HOME moves the folder), then run the same command again",
    )


def sync_directory(path: Path) -> None:
    """Make renames in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private_folder(folder: Path) -> None:
    """Make a folder, and those missing above it, for their owner only; one that is there stays as it is."""
    if not folder.is_dir():
        make_private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def scratch_folder(home: Path, owner: str, *, is_dead: Callable[[str], bool]) -> Iterator[Path]:
    """Give a folder of ``owner``'s own below ``home`` until the ``with`` block ends; those of dead owners are deleted.

    Raises ``SpoolError``.
    """
    root = home.absolute() / "scratch"
    # As for a workbench: a name that can be read back, and whose signs mean nothing to a file system.
    mine = root / quote(owner, safe="")
    with disk_errors("create a folder in", root):
        make_private_folder(mine)
        for folder in root.iterdir():
            if folder != mine and is_dead(unquote(folder.name)):
                shutil.rmtree(folder, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=mine))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            mine.rmdir()


class Spool:
    """The folder ``BATCHKIT_HOME/spool``. Paths in the store are relative to it, and everything stays until ``clean``."""

    def __init__(self, home: Path) -> None:
        self.root = home.absolute() / "spool"

    def path(self, relative: str) -> Path:
        """Give the whole path of a spool file, its folder made. Raises ``SpoolError``."""
        path = self.inside(relative)
        with disk_errors("create the folder of", path):
            make_private_folder(path.parent)
        return path

    def publish(self, part: Path, final: Path) -> None:
        """Give a finished temporary file its name; from then on it is never changed."""
        with disk_errors("write", final):
            part.replace(final)
            sync_directory(final.parent)

    def open_part(self, final: Path) -> IO[bytes]:
        """Open the temporary neighbour ``final.part`` for writing."""
        part = part_of(final)
        with disk_errors("write", part):
            return os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb", buffering=1 << 20)

    @contextmanager
    def reading(self, shard: Shard) -> Iterator[Path]:
        """Give a shard's file, which may be gone after the ``with`` block. Raises ``SpoolError`` when it is lost or changed."""
        path = self.inside(shard.path)
        if not self.holds(shard):
            raise lost_shard(shard, path)
        yield path

    def keep(self, source: Path, relative: str) -> None:
        """Keep a copy of a finished file under a name: it appears there whole, and from then on is never changed."""
        final = self.path(relative)
        part = part_of(final)
        with disk_errors("write", part):
            part.unlink(missing_ok=True)
            shutil.copyfile(source, part)
            part.chmod(0o600)
            with part.open("rb") as handle:
                os.fsync(handle.fileno())
        self.publish(part, final)

    def kept(self, relative: str) -> Path:
        """Find a file that ``keep`` was given, for reading, until this spool is closed. Raises ``SpoolError`` when it is lost."""
        path = self.inside(relative)
        if not path.is_file():
            raise lost_file(path)
        return path

    def holds(self, shard: Shard) -> bool:
        """Whether a shard's file lies here, as long as it was written. Raises ``SpoolError``."""
        path = self.inside(shard.path)
        with disk_errors("read", path):
            return path.is_file() and path.stat().st_size == shard.byte_count

    def open_shard(self, shard: Shard) -> IO[bytes]:
        """Open a shard's file for reading. Raises ``SpoolError`` as ``reading`` does."""
        # An open file can be read to its end, also when its name is gone.
        with self.reading(shard) as path, disk_errors("read", path):
            return path.open("rb")

    def done_with(self, answers: Path) -> None:
        """Note that a downloaded file is merged; here it stays for whoever wants to look at it."""

    def sweep(self, is_dead: Callable[[str], bool]) -> None:
        """Delete what processes left that ended in mid-work; ``is_dead`` knows owners. Here nothing is any process's own."""

    def close(self) -> None:
        """Delete what is of use to this process only. Here nothing is."""

    def remove_tree(self, directory: str) -> int:
        """Delete a workload's folder; returns the bytes that this freed."""
        root = self.inside(directory)
        with disk_errors("delete", root):
            size = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file()) if root.is_dir() else 0
            if root.is_dir():
                shutil.rmtree(root)
        return size

    def inside(self, relative: str) -> Path:
        """Find a path that the store names; one that leads out of the spool, or to all of it, is nobody's but an intruder's.

        Raises ``SpoolError`` for those.
        """
        path = self.root / relative
        if ".." in path.parts or path == self.root or not path.is_relative_to(self.root):
            raise SpoolError(
                f"{relative!r} in the database does not lie in {self.root}; nothing was touched",
                hint="somebody has changed the database by hand: put it back as it was",
            )
        return path


def lost_shard(shard: Shard, place: object) -> SpoolError:
    """Say that the file of a shard is not where it was, or not what it was."""
    return SpoolError(
        f"the file of shard {shard.number} ({place}) is missing or was changed",
        hint="put BATCHKIT_HOME back as it was, or set the BATCHKIT_SPOOL_URL that the workload was split with, then run the"
        " same command again; if the file is lost, `batchkit cancel` the workload and start a new one",
    )


def lost_file(place: object) -> SpoolError:
    """Say that a file that belongs to a workload is not where it was."""
    return SpoolError(
        f"{place} is missing",
        hint="put BATCHKIT_HOME back as it was, or set the BATCHKIT_SPOOL_URL that the workload was made with, then run the"
        " same command again",
    )


@contextmanager
def whole_file(target: Path, *, private: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears whole, by a rename at the end, or not at all.

    Several writers may have the same target at the same time: each writes a hidden part file of its own beside it, and the last
    one to end decides what the target holds. Part files of processes that are certainly dead are removed.
    It is the user's own: a new one gets the rights that any new file gets, one that is replaced keeps those it had; a
    ``private`` one may be read by its owner only.
    """
    if not private:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
    _remove_dead_parts(target)
    part = target.with_name(f"{_part_prefix(target)}{new_writer()}{_PART_SUFFIX}")
    mode = 0o600 if private else 0o666
    with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb", buffering=1 << 20) as handle:
        try:
            if not private:
                with suppress(FileNotFoundError):
                    os.fchmod(handle.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
            part.replace(target)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
    sync_directory(target.absolute().parent)


def _part_prefix(target: Path) -> str:
    """Begin the name of a part file, so short that the whole of it is a file name whatever the target is called."""
    return f".{os.fsencode(target.name)[:_PART_NAME_BYTES].decode(errors='ignore')}."


def _remove_dead_parts(target: Path) -> None:
    prefix = _part_prefix(target)
    # A folder that may be written but not listed keeps what was left in it.
    with suppress(OSError):
        for path in target.absolute().parent.iterdir():
            if path.name.startswith(prefix) and path.name.endswith(_PART_SUFFIX):
                writer = path.name[len(prefix) : -len(_PART_SUFFIX)]
                if is_writer_dead(writer):
                    path.unlink(missing_ok=True)


def part_of(final: Path) -> Path:
    """Name the temporary neighbour of a file."""
    return final.with_name(final.name + _PART_SUFFIX)


def sha256_of(path: Path) -> str:
    """Digest a file. Raises ``SpoolError``."""
    with disk_errors("read", path), path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
