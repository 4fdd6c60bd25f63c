"""Files at a URL that fsspec knows (S3, Google Storage, a mounted folder, ...): put whole, fetched and checked, deleted by folder.

fsspec and the library of the service are loaded by the first call, so that commands without remote files do not wait for them.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import random
import re
import secrets
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from batchkit.backoff import backoff_seconds
from batchkit.errors import ConfigurationError, SpoolError
from batchkit.files.spool import make_private_folder, sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

T = TypeVar("T")

_RETRY_SECONDS = 60.0
#: The opened file system of a URL, by URL and process. Shared by all ``RemoteFiles`` of the process, because opening S3's takes a
#: third of a second and starts a thread.
_OPENED: dict[tuple[str, int], tuple[Any, str]] = {}
_LOCK = threading.Lock()

#: Services with atomic puts: an object has its new content or its old one. Elsewhere a file is put under another name and then
#: moved.
_ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})
#: The libraries hold a few chunks of a file in memory.
_CHUNK_BYTES = 16 << 20
_CHUNKS_AT_ONCE = 2
#: The shape of our names: they cannot leave the folder, and hold nothing that fsspec reads as a pattern.
_NAME = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*")
_PATTERN_SIGNS = frozenset("*?[")

#: Errors that another try cannot mend: a person has to. Other errors of any library may pass, and the call is repeated.
_PERMANENT = (
    PermissionError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    ImportError,
    ValueError,
    TypeError,
    NotImplementedError,  # raised by fsspec for what a kind of storage cannot do
)
_PERMANENT_NUMBERS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EINVAL, errno.ENAMETOOLONG, errno.ENOSYS, errno.EPERM}
)
#: Errors of botocore, by name because it need not be installed. A person has to fix them, not the network.
_PERMANENT_NAMES = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "ProfileNotFound",
        "ParamValidationError",
    }
)
_EXTRAS = {"s3": "s3", "s3a": "s3"}

_HINT_AGAIN = "check the service and the connection to it, then run the same command again: nothing is lost"
_HINT_RIGHTS = (
    "give this process the service's usual credentials (for S3: AWS_ACCESS_KEY_ID, AWS_PROFILE, ...), and them"
    " the right to read, write, list and delete there"
)
_HINT_PLACE = "is BATCHKIT_SPOOL_URL spelled right? A bucket must exist already"


class _TryAgain(Exception):
    """Carries an error without secrets; another try may succeed."""

    def __init__(self, error: SpoolError) -> None:
        super().__init__(error)
        self.error = error


class RemoteFiles:
    """The files below a URL. Names are relative, with ``/``; every method raises ``SpoolError`` for names of other shapes.

    After passing errors a call is repeated, up to ``attempts`` times within a minute, beyond the retries of the libraries. May be
    used in any thread. ``sleep`` waits for seconds, ``clock`` returns monotonic seconds, ``jitter`` a number from 0 to 1; tests
    pass them in.
    """

    def __init__(
        self,
        url: str,
        *,
        attempts: int = 8,
        sleep: Callable[[float], object] = time.sleep,  # noqa: TID251 - the default of a wait that is passed in
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._url = url
        self._attempts = attempts
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter
        self._secrets = _secrets_in(url)
        self.display_url = displayed(url).rstrip("/")

    def put(self, source: Path, name: str) -> None:
        """Copy a local file to ``name``; it appears there whole, or not at all."""
        self._call("write", name, lambda files, target: _put(files, source, target))

    def get(self, name: str, target: Path, *, size_bytes: int | None = None, sha256: str | None = None) -> bool:
        """Copy ``name`` to a local file, readable by its owner only; returns False when there is no such file.

        Raises ``SpoolError`` when size or digest, if given, do not match; the content of ``target`` is then undefined.
        """

        def get(files: Any, source: str) -> bool:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
            try:
                files.get_file(source, str(target), **_get_options(files))
            except FileNotFoundError:
                return False
            if size_bytes not in (None, target.stat().st_size) or sha256 not in (None, _sha256_of(target)):
                raise _TryAgain(
                    SpoolError(
                        f"{self.display_url}/{name} is not what was written there",
                        hint="put it back; if it is lost, `batchkit cancel` the workload and start a new one",
                    )
                )
            return True

        return self._call("read", name, get)

    def remove_tree(self, name: str) -> int:
        """Delete everything below ``name``; returns the freed bytes."""

        def remove(files: Any, folder: str) -> int:
            try:
                found = files.find(folder, detail=True)
                if not found:
                    return 0
                files.rm(folder, recursive=True)
            except FileNotFoundError:
                return 0
            return sum(int(info.get("size") or 0) for info in found.values())

        return self._call("delete", name, remove)

    def try_out(self) -> None:
        """Write, read back and delete a small file."""
        name = f"batchkit-doctor-{secrets.token_hex(8)}"

        def try_out(files: Any, path: str) -> bytes:
            with TemporaryDirectory(prefix="batchkit-doctor-") as scratch:
                source = Path(scratch) / "file"
                source.write_bytes(name.encode())
                _put(files, source, path)
            try:
                return bytes(files.cat_file(path))
            finally:
                files.rm_file(path)

        if self._call("write, read and delete", name, try_out) != name.encode():
            raise SpoolError(f"{self.display_url} does not give back what was written there", hint=_HINT_AGAIN)

    def _call(self, action: str, name: str, act: Callable[[Any, str], T]) -> T:
        if not _NAME.fullmatch(name) or {".", ".."}.intersection(name.split("/")):
            raise SpoolError(
                f"{name!r} in the database is no name of a file of ours; nothing was touched",
                hint="somebody has changed the database by hand: put it back as it was",
            )

        started = self._clock()
        failures = 0
        while True:
            try:
                return self._try_once(action, name, act)
            except _TryAgain as again:
                told, cause = again.error, again.__cause__
            failures += 1
            wait = backoff_seconds(failures, self._jitter())
            if failures >= self._attempts or self._clock() - started + wait > _RETRY_SECONDS:
                # Raised out here, so that the wrapper does not show up as its context.
                raise told from cause
            if failures == 1:
                logger.warning("%s; it is tried again", told.message)
            self._sleep(wait)

    def _try_once(self, action: str, name: str, act: Callable[[Any, str], T]) -> T:
        files, base = self._open()
        try:
            return act(files, f"{base}/{name}")
        except _TryAgain:
            raise
        except Exception as error:  # noqa: BLE001 - every library has errors of its own
            told = self._told(action, name, error)
            # The libraries' messages may quote the URL and its secrets.
            cause = None if self._secrets else error
            if _is_permanent(error):
                raise told from cause
            raise _TryAgain(told) from cause

    def _open(self) -> tuple[Any, str]:
        """Load the library of the URL's service, once in a process. Raises ``ConfigurationError``."""
        # The libraries keep threads, which a forked process lacks.
        key = (self._url, os.getpid())
        with _LOCK:
            if key not in _OPENED:
                _OPENED[key] = self._load()
            return _OPENED[key]

    def _load(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - most commands touch no file

        protocol = self._url.partition("://")[0]
        try:
            # Cached listings would hide the changes of other processes.
            files, base = url_to_fs(self._url, use_listings_cache=False, skip_instance_cache=True)
        except ImportError as error:
            extra = _EXTRAS.get(protocol)
            hint = f"pip install 'groq-batchkit[{extra}]'" if extra else "pip install what fsspec names for it"
            raise ConfigurationError(f"{protocol}:// needs a library that is missing: {error}", hint=hint) from None
        except Exception as error:  # noqa: BLE001 - as above, and all of them are about the URL
            raise ConfigurationError(
                f"BATCHKIT_SPOOL_URL ({self.display_url}) cannot be used: {self._without_secrets(str(error))}",
                hint="name a place that fsspec knows, such as s3://bucket/folder",
            ) from None
        base = str(base).rstrip("/")
        if not base.strip("/") or _PATTERN_SIGNS.intersection(base):
            raise ConfigurationError(
                f"BATCHKIT_SPOOL_URL ({self.display_url}) names no folder",
                hint="name a bucket or a folder of one, such as s3://bucket/folder, without *, ? and [",
            )
        return files, base

    def _told(self, action: str, name: str, error: Exception) -> SpoolError:
        reason = self._without_secrets(str(error)) or type(error).__name__
        match error:
            case PermissionError():
                hint = _HINT_RIGHTS
            case FileNotFoundError():
                hint = _HINT_PLACE
            case _:
                hint = _HINT_RIGHTS if type(error).__name__ in _PERMANENT_NAMES else _HINT_AGAIN
        return SpoolError(f"cannot {action} {self.display_url}/{name}: {reason}", hint=hint)

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return displayed(text)


def _sha256_of(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def displayed(url: str) -> str:
    """Return a URL without its possible secrets: user, password, and the values of its options."""
    return re.sub(r"([?&][^=&\s]+=)[^&\s]*", r"\1***", re.sub(r"://\S*@", "://***@", url))


def _secrets_in(url: str) -> list[str]:
    """Return the possible secrets of a URL, encoded and decoded; the longest first."""
    signed_in = re.search(r"://(\S*)@", url)
    parts = signed_in.group(1).split(":", 1) if signed_in else []
    parts += re.findall(r"[?&][^=&\s]+=([^&\s]*)", url)
    return sorted({form for part in parts for form in (part, unquote(part)) if form}, key=len, reverse=True)


def _is_permanent(error: Exception) -> bool:
    if isinstance(error, TimeoutError):
        return False
    if isinstance(error, _PERMANENT) or type(error).__name__ in _PERMANENT_NAMES:
        return True
    return isinstance(error, OSError) and error.errno in _PERMANENT_NUMBERS


def _protocols(files: Any) -> tuple[str, ...]:
    protocol = files.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _put_options(files: Any) -> dict[str, int]:
    """Return the chunk sizes for S3's library: by default it reads up to 100 MB at once."""
    return {"chunksize": _CHUNK_BYTES, "max_concurrency": _CHUNKS_AT_ONCE} if "s3" in _protocols(files) else {}


def _get_options(files: Any) -> dict[str, int]:
    """Return options that make S3's library stream: parallel parts would each be held whole in memory."""
    return {"max_concurrency": 1} if "s3" in _protocols(files) else {}


def _put(files: Any, source: Path, target: str) -> None:
    if _ATOMIC.intersection(_protocols(files)):
        files.put_file(str(source), target, **_put_options(files))
        return
    part = f"{target}.{secrets.token_hex(4)}.part"
    try:
        _put_by_moving(files, source, part, target)
    except BaseException:
        # The error that ended the put is worth more than a second one, of whatever library.
        with suppress(Exception):
            files.rm_file(part)
        raise


def _put_by_moving(files: Any, source: Path, part: str, target: str) -> None:
    """Put a file where puts are not atomic; on a disk it is also synced, and readable by its owner only."""
    if "file" in _protocols(files):
        make_private_folder(Path(target).parent)
        descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as handle, source.open("rb") as original:
            shutil.copyfileobj(original, handle, 1 << 20)
            handle.flush()
            os.fsync(handle.fileno())
        Path(part).replace(target)
        sync_directory(Path(target).parent)
        return
    files.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
    files.put_file(str(source), part)
    size = files.info(part)["size"]
    if size != source.stat().st_size:
        raise OSError(f"only {size:,} bytes arrived")
    files.mv(part, target)
