"""The spool: files of shards as they are sent, and of answers as they were received. Readable by their owner only."""

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
from batchkit.owners import is_writer_dead, new_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchkit.models import Shard

_PART_SUFFIX = ".part"
_PART_NAME_BYTES = 160
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


def directory_name(workload_name: str, key: str) -> str:
    """Return the name of a workload's folder: readable, unique by ``key``, and always inside the spool."""
    slug = _UNSAFE.sub("-", workload_name).strip(".-")[:40] or "workload"
    return f"{slug}-{key}"


@contextmanager
def disk_errors(action: str, path: Path | str) -> Iterator[None]:
    """Raise errors of the operating system as ``SpoolError`` with a hint."""
    try:
        yield
    except OSError as error:
        raise disk_error(action, path, error) from error


def disk_error(action: str, path: Path | str, error: OSError) -> SpoolError:
    """Return the error for a failed operation on a file, with a hint."""
    return SpoolError(
        f"cannot {action} {path}: {error.strerror or error}",
        hint="make room or mend the permissions (BATCHKIT_HOME moves the folder), then run the same command again",
    )


def sync_directory(path: Path) -> None:
    """Sync a folder, so that renames in it survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private_folder(folder: Path) -> None:
    """Create a folder and its missing parents, for their owner only; existing ones are not changed."""
    if not folder.is_dir():
        make_private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def scratch_folder(home: Path, owner: str, *, is_dead: Callable[[str], bool]) -> Iterator[Path]:
    """Yield a folder of ``owner`` below ``home`` for the ``with`` block; folders of dead owners are deleted.

    Raises ``SpoolError``.
    """
    root = home.absolute() / "scratch"
    # As for a workbench: a name that can be decoded, without characters that are special for a file system.
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
        # It is not empty while another call of this process uses it.
        with suppress(OSError):
            mine.rmdir()


class Spool:
    """The folder ``BATCHKIT_HOME/spool``. Paths in the store are relative to it, and everything stays until ``clean``."""

    def __init__(self, home: Path) -> None:
        self.root = home.absolute() / "spool"

    def path(self, relative: str) -> Path:
        """Return the absolute path of a spool file, and create its folder. Raises ``SpoolError``."""
        path = self.inside(relative)
        with disk_errors("create the folder of", path):
            make_private_folder(path.parent)
        return path

    def local(self, relative: str) -> Path:
        """Return the path of a file that only this machine has and keeps until ``clean``; create its folder. Raises ``SpoolError``."""
        return self.path(relative)

    def publish(self, part: Path, final: Path) -> None:
        """Rename a finished temporary file; from then on it is never changed."""
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
        """Yield a shard's file for the ``with`` block. Raises ``SpoolError`` when it is lost or changed."""
        path = self.inside(path_of(shard))
        if not self.holds(shard):
            raise lost_shard(shard, path)
        yield path

    def keep(self, source: Path, relative: str) -> None:
        """Copy a finished file to ``relative``: it appears there whole, and is never changed afterwards."""
        final = self.path(relative)
        part = part_of(final)
        with disk_errors("write", part):
            part.unlink(missing_ok=True)
            shutil.copyfile(source, part)
            part.chmod(0o600)
            with part.open("rb") as handle:
                os.fsync(handle.fileno())
        self.publish(part, final)

    def keep_local(self, relative: str) -> None:
        """Keep a file of this machine (see ``local``), so that ``kept`` finds it. No-op: here it is kept already."""

    def kept(self, relative: str) -> Path:
        """Return the path of a kept file, valid until this spool is closed. Raises ``SpoolError`` when it is lost."""
        path = self.inside(relative)
        if not path.is_file():
            raise lost_file(path)
        return path

    def holds(self, shard: Shard) -> bool:
        """Whether a shard's file is here, with the size that was written. Raises ``SpoolError``."""
        path = self.inside(path_of(shard))
        with disk_errors("read", path):
            return path.is_file() and path.stat().st_size == shard.byte_count

    def open_shard(self, shard: Shard) -> IO[bytes]:
        """Open a shard's file for reading. Raises ``SpoolError`` as ``reading`` does."""
        # An open file can be read to its end, also after it was unlinked.
        with self.reading(shard) as path, disk_errors("read", path):
            return path.open("rb")

    def done_with(self, answers: Path) -> None:
        """No-op: the local spool keeps downloaded files after their merge."""

    def sweep(self, is_dead: Callable[[str], bool]) -> None:
        """No-op: the local spool keeps nothing per process. ``is_dead`` decides whether an owner is dead."""

    def close(self) -> None:
        """No-op: the local spool keeps nothing per process."""

    def remove_tree(self, directory: str) -> int:
        """Delete a workload's folder; returns the freed bytes."""
        root = self.inside(directory)
        with disk_errors("delete", root):
            size = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file()) if root.is_dir() else 0
            if root.is_dir():
                shutil.rmtree(root)
                _remove_empty(root.parent, below=self.root)
        return size

    def inside(self, relative: str) -> Path:
        """Return the absolute path for a path of the store.

        Raises ``SpoolError`` for a path outside the spool or of the whole spool: somebody has changed the database.
        """
        path = self.root / relative
        if ".." in path.parts or path == self.root or not path.is_relative_to(self.root):
            raise SpoolError(
                f"{relative!r} in the database does not lie in {self.root}; nothing was touched",
                hint="somebody has changed the database by hand: put it back as it was",
            )
        return path


def _remove_empty(folder: Path, *, below: Path) -> None:
    """Delete a folder, and its parents below another folder, as far as they are empty."""
    # Another process may write into one of them now.
    with suppress(OSError):
        while folder != below:
            folder.rmdir()
            folder = folder.parent


def path_of(shard: Shard) -> str:
    """Return the path of a shard's file in the spool. Raises ``SpoolError`` for one whose file was never known."""
    if shard.path is None:
        raise SpoolError(
            f"the requests of batch {shard.batch_id} are not known: it was adopted without its input file",
            hint="nothing of it can be sent again",
        )
    return shard.path


def lost_shard(shard: Shard, place: object) -> SpoolError:
    """Return the error of a shard whose file is missing or was changed."""
    return SpoolError(
        f"the file of shard {shard.number} ({place}) is missing or was changed",
        hint="put BATCHKIT_HOME back as it was, or set the BATCHKIT_SPOOL_URL that the workload was split with, then run the"
        " same command again; if the file is lost, `batchkit cancel` the workload and start a new one",
    )


def lost_file(place: object) -> SpoolError:
    """Return the error of a workload's file that is missing."""
    return SpoolError(
        f"{place} is missing",
        hint="put BATCHKIT_HOME back as it was, or set the BATCHKIT_SPOOL_URL that the workload was made with, then run the"
        " same command again",
    )


@contextmanager
def whole_file(target: Path, *, private: bool = False, sweeps: bool = True) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears whole, by a rename at the end, or not at all.

    Several writers may have the same target at the same time: each writes a hidden part file beside it, and the last one to end
    decides what the target holds. Part files of processes that are certainly dead are removed, unless it ``sweeps`` not: the folder may
    have a file for each of a million answers. A new file gets the default
    permissions, a replaced one keeps its permissions; a ``private`` one can be read by its owner only.
    """
    if not private:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
    if sweeps:
        _remove_dead_parts(target)
    part = target.with_name(f"{_part_prefix(target)}{new_writer()}{_PART_SUFFIX}")
    mode = 0o600 if private else 0o666
    with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb", buffering=1 << 20) as handle:
        try:
            if not private:
                # A new file has no earlier permissions.
                with suppress(FileNotFoundError):
                    os.fchmod(handle.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
            part.replace(target)
        except BaseException:
            # The error that ended the writing is worth more than a second one.
            with suppress(OSError):
                part.unlink()
            raise
    sync_directory(target.absolute().parent)


def _part_prefix(target: Path) -> str:
    """Return the prefix of a part file's name, short enough that the whole name fits for any target."""
    return f".{os.fsencode(target.name)[:_PART_NAME_BYTES].decode(errors='ignore')}."


def _remove_dead_parts(target: Path) -> None:
    prefix = _part_prefix(target)
    # In a folder that may be written but not listed old part files stay.
    with suppress(OSError):
        for path in target.absolute().parent.iterdir():
            if path.name.startswith(prefix) and path.name.endswith(_PART_SUFFIX):
                writer = path.name[len(prefix) : -len(_PART_SUFFIX)]
                if is_writer_dead(writer):
                    path.unlink(missing_ok=True)


def part_of(final: Path) -> Path:
    """Return the path of the temporary neighbour of a file."""
    return final.with_name(final.name + _PART_SUFFIX)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file. Raises ``SpoolError``."""
    with disk_errors("read", path), path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
