"""A spool at a URL, shared by machines that share no disk.

A shard's file is put before its row is committed, so a committed row always has its file; a crash in between leaves a file that
nobody reads until ``clean`` deletes the workload's folder. The local disk is only a workbench: it holds a shard while it is written or
read, and nothing afterwards.

Answers are not put there. They are merged right after their download, in one transaction that stores their bodies; until then
the provider keeps them, so that another machine can fetch them when this one dies. Putting them first would cost a transfer per
batch and save none.
"""

from __future__ import annotations

import secrets
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from batchkit.files.spool import Spool, disk_errors, lost_file, lost_shard, path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batchkit.files.remote import RemoteFiles
    from batchkit.models import Shard


class SharedSpool(Spool):
    """A spool with its shards in ``remote``. ``owner`` is the process, which has its own workbench folder below ``home``.

    Shards that were cut before a URL was set are still read from, and cleaned out of, the local spool.
    """

    def __init__(self, home: Path, remote: RemoteFiles, *, owner: str) -> None:
        super().__init__(home)
        self._before = Spool(home)
        self._remote = remote
        self._workbenches = home.absolute() / "workbench"
        # A name that can be decoded, without characters that are special for a file system.
        self.root = self._workbenches / quote(owner, safe="")

    def local(self, relative: str) -> Path:
        """Return the path of a file of this machine, in its local spool: a later process finds it there. Raises ``SpoolError``."""
        return self._before.path(relative)

    def publish(self, part: Path, final: Path) -> None:
        """Put a finished file at the URL, and delete it from the workbench. Raises ``SpoolError``."""
        self._remote.put(part, final.relative_to(self.root).as_posix())
        with disk_errors("delete", part):
            part.unlink()

    @contextmanager
    def reading(self, shard: Shard) -> Iterator[Path]:
        """Fetch a shard's file for the ``with`` block. Raises ``SpoolError`` when it is lost or changed."""
        if self._before.holds(shard):
            with self._before.reading(shard) as path:
                yield path
            return
        relative = path_of(shard)
        path = self.path(f"{relative}.{secrets.token_hex(4)}")
        try:
            if not self._remote.get(relative, path, size_bytes=shard.byte_count, sha256=shard.sha256):
                raise lost_shard(shard, f"{self._remote.display_url}/{relative}")
            yield path
        finally:
            # There is no file if the fetch failed; one that cannot be deleted goes with the workbench.
            with suppress(OSError):
                path.unlink()

    def keep_local(self, relative: str) -> None:
        """Put a file of this machine at the URL, where every machine finds it. Raises ``SpoolError``."""
        self.keep(self.local(relative), relative)

    def kept(self, relative: str) -> Path:
        """Fetch a kept file, once. Raises ``SpoolError`` when it is lost."""
        before = self._before.inside(relative)
        if before.is_file():
            return before
        path = self.path(relative)
        if not path.is_file():
            part = self.path(f"{relative}.{secrets.token_hex(4)}")
            if not self._remote.get(relative, part):
                raise lost_file(f"{self._remote.display_url}/{relative}")
            with disk_errors("write", path):
                part.replace(path)
        return path

    def done_with(self, answers: Path) -> None:
        """Delete a downloaded file that is merged. Raises ``SpoolError``."""
        with disk_errors("delete", answers):
            answers.unlink(missing_ok=True)

    def sweep(self, is_dead: Callable[[str], bool]) -> None:
        """Delete the workbenches of dead processes. Raises ``SpoolError``."""
        with disk_errors("delete the left-overs in", self._workbenches):
            left = list(self._workbenches.iterdir()) if self._workbenches.is_dir() else []
            for folder in left:
                if is_dead(unquote(folder.name)):
                    shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Delete this process's workbench; what cannot be deleted is left to a later ``sweep``."""
        shutil.rmtree(self.root, ignore_errors=True)

    def remove_tree(self, directory: str) -> int:
        """Delete a workload's folder, here and at the URL; returns the freed bytes. Raises ``SpoolError``."""
        return sum(
            (
                super().remove_tree(directory),
                self._before.remove_tree(directory),
                self._remote.remove_tree(directory),
            )
        )
