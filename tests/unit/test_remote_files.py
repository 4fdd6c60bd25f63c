"""Files at a URL: written whole or not at all, verified when fetched, deleted by folder; errors show no secrets."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import uuid
from functools import partial
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from batchkit.errors import ConfigurationError, SpoolError
from batchkit.files import remote as remote_module
from batchkit.files.remote import displayed

#: No test waits before a retry.
RemoteFiles = partial(remote_module.RemoteFiles, sleep=lambda _seconds: None)
LINES = b"a line\n" * 1_000
DIGEST = hashlib.sha256(LINES).hexdigest()
NO_NAMES = [
    "..",
    "../x",
    "a/../x",
    "/",
    "/etc",
    "",
    ".",
    "a//b",
    "*",
    "a/*",
    "a?",
    "[a]",
    "a b",
    "a\n",
    "~",
    "s3://x/y",
]


class Moving(MemoryFileSystem):  # type: ignore[misc]  # fsspec brings no types
    """An in-memory service without an atomic put, which fails when a test says so."""

    protocol = "moving"
    store: dict[str, object] = {}  # noqa: RUF012 - as the class above has it
    pseudo_dirs = [""]  # noqa: RUF012 - as above
    trouble: list[Exception] = []  # noqa: RUF012 - taken from its end, one for each put
    puts = 0

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("moving://"))

    def put_file(self, lpath, rpath, **more):
        """Copy the first half, and the rest unless the test wants an error."""
        type(self).puts += 1
        if self.trouble:
            self.pipe_file(rpath, Path(lpath).read_bytes()[:100])
            raise self.trouble.pop()
        super().put_file(lpath, rpath, **more)


@pytest.fixture
def moving(monkeypatch):
    """Return the class of an empty service whose files are moved into place."""
    from fsspec import register_implementation  # noqa: PLC0415 - beside what it is undone with

    register_implementation("moving", Moving, clobber=True)
    for name, value in {"store": {}, "pseudo_dirs": [""], "trouble": [], "puts": 0}.items():
        monkeypatch.setattr(Moving, name, value)
    return Moving


@pytest.fixture(params=["file", "memory", "moving", "s3"])
def url(request, tmp_path) -> str:
    """Return the URL of an empty folder on each kind of service."""
    if request.param == "s3":
        s3_url: str = request.getfixturevalue("s3_url")
        return s3_url
    if request.param == "file":
        return f"file://{tmp_path}/shared/folder"
    if request.param == "moving":
        request.getfixturevalue("moving")
    return f"{request.param}://{uuid.uuid4().hex}/folder"


@pytest.fixture
def source(tmp_path) -> Path:
    """Return a local file."""
    path: Path = tmp_path / "source"
    path.write_bytes(LINES)
    return path


def fetch(remote, name, target):
    """Fetch the file that was put from ``source``."""
    return remote.get(name, target, size_bytes=len(LINES), sha256=DIGEST)


def test_a_file_that_was_put_is_fetched_by_another_machine(url, source, tmp_path):
    """It has the same bytes and is readable by its owner only; a missing file is reported as missing."""
    RemoteFiles(url).put(source, "evals-1/shards/a.jsonl")
    target = tmp_path / "target"
    other = RemoteFiles(url)
    assert fetch(other, "evals-1/shards/a.jsonl", target)
    assert target.read_bytes() == LINES
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert not fetch(other, "evals-1/shards/b.jsonl", target)


def test_a_folder_is_deleted_with_its_content_and_nothing_else(url, source, tmp_path):
    """The freed bytes are returned; folders with a common name prefix stay; a second deletion frees nothing."""
    remote = RemoteFiles(url)
    for name in ("evals-1/shards/a.jsonl", "evals-1/shards/b.jsonl", "evals-10/shards/a.jsonl", "evals/a.jsonl"):
        remote.put(source, name)
    assert RemoteFiles(url).remove_tree("evals-1") == 2 * len(LINES)
    assert not fetch(remote, "evals-1/shards/a.jsonl", tmp_path / "target")
    assert fetch(remote, "evals-10/shards/a.jsonl", tmp_path / "target")
    assert fetch(remote, "evals/a.jsonl", tmp_path / "target")
    assert remote.remove_tree("evals-1") == 0


def test_a_second_put_replaces_the_first(url, source, tmp_path):
    """A repeated upload does the same."""
    remote = RemoteFiles(url)
    longer = tmp_path / "longer"
    longer.write_bytes(LINES * 2)
    remote.put(longer, "evals-1/a")
    remote.put(source, "evals-1/a")
    assert fetch(remote, "evals-1/a", tmp_path / "target")


def test_the_check_leaves_no_files(url):
    """The check writes, reads and deletes a file."""
    remote = RemoteFiles(url, attempts=1)
    remote.try_out()
    files, base = remote._open()
    assert files.find(base) == []


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_that_leave_the_folder_are_refused(tmp_path, source, name):
    """Neither a path out of the folder nor a pattern reaches the service."""
    remote = RemoteFiles(f"file://{tmp_path}/shared")
    remote.put(source, "evals-1/a")
    for use in (
        lambda: remote.put(source, name),
        lambda: fetch(remote, name, tmp_path / "target"),
        lambda: remote.remove_tree(name),
    ):
        with pytest.raises(SpoolError, match="nothing was touched") as caught:
            use()
        assert caught.value.hint
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a", "source"]


def test_a_shared_folder_is_for_its_owner_only(tmp_path, source):
    """This holds for any umask."""
    before = os.umask(0)
    try:
        RemoteFiles(f"file://{tmp_path}/shared/folder").put(source, "evals-1/a")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "shared").rglob("*")}
    assert modes == {"folder": 0o700, "evals-1": 0o700, "a": 0o600}


@pytest.mark.parametrize("other", [LINES[:-1], LINES + b"x", LINES.replace(b"a", b"b")])
def test_changed_bytes_are_refused(tmp_path, source, other):
    """They may be fewer, more, or others of the same length."""
    remote = RemoteFiles(f"file://{tmp_path}/shared", attempts=3)
    remote.put(source, "evals-1/a")
    (tmp_path / "shared" / "evals-1" / "a").write_bytes(other)
    with pytest.raises(SpoolError, match="is not what was written") as caught:
        fetch(remote, "evals-1/a", tmp_path / "target")
    assert caught.value.hint


def test_a_temporary_error_is_not_noticed(moving, source, tmp_path):
    """A put that failed half-way is repeated, and until it is complete there is no file of that name."""
    moving.trouble = [TimeoutError("slow"), ConnectionResetError("gone"), OSError(errno.EIO, "InternalError")]
    remote = RemoteFiles("moving://x/folder")
    remote.put(source, "evals-1/a")
    assert moving.puts == 4
    assert fetch(remote, "evals-1/a", tmp_path / "target")
    assert [path.rpartition("/")[2] for path in remote._open()[0].find("/x")] == ["a"]


def test_a_permanent_error_is_reported(moving, source):
    """The error has the operation, the place, the library's message and a hint; a half file has no name that is ever read."""
    moving.trouble = [TimeoutError("slow")] * 9
    remote = RemoteFiles("moving://x/folder", attempts=3)
    with pytest.raises(SpoolError) as caught:
        remote.put(source, "evals-1/a")
    assert caught.value.message == "cannot write moving://x/folder/evals-1/a: slow"
    assert "same command again" in (caught.value.hint or "")
    assert caught.value.exit_code == 4
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert moving.puts == 3
    assert remote._open()[0].find("/x") == []


def test_errors_are_retried_after_waits_that_double(moving, source, caplog):
    """Waits grow from half a second to eight and are reported once; none begins that would end a minute after the start."""
    moving.trouble = [TimeoutError("slow")] * 20
    waited: list[float] = []
    remote = RemoteFiles(
        "moving://x/folder", attempts=20, sleep=waited.append, clock=lambda: sum(waited), jitter=lambda: 1.0
    )
    with pytest.raises(SpoolError, match="slow"):
        remote.put(source, "evals-1/a")
    assert waited == [0.5, 1, 2, 4, 8, 8, 8, 8, 8, 8]
    assert moving.puts == len(waited) + 1
    assert caplog.text.count("it is tried again") == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError("Access Denied"), "credentials"),
        (FileNotFoundError("The specified bucket does not exist"), "BATCHKIT_SPOOL_URL"),
        (OSError(errno.ENOSPC, "No space left"), "nothing is lost"),
    ],
)
def test_an_error_that_needs_a_person_is_reported_at_once(moving, source, error, words):
    """The operation is not retried."""
    moving.trouble = [error] * 9
    with pytest.raises(SpoolError) as caught:
        RemoteFiles("moving://x/folder").put(source, "evals-1/a")
    assert words in (caught.value.hint or "")
    assert moving.puts == 1


def test_a_service_that_stores_half_is_detected(moving, source, monkeypatch):
    """The size is checked before the file gets its name."""
    monkeypatch.setattr(moving, "put_file", lambda self, _lpath, rpath, **_: self.pipe_file(rpath, LINES[:100]))
    with pytest.raises(SpoolError, match="only 100 bytes"):
        RemoteFiles("moving://x/folder", attempts=2).put(source, "evals-1/a")


SECRET = "p%40ss:w/o@rd"
URLS = {
    f"sftp://me:{SECRET}@host/folder": "sftp://***@host/folder",
    f"s3://{SECRET}@bucket/folder": "s3://***@bucket/folder",
    "https://host/folder?token=abc&sig=def": "https://host/folder?token=***&sig=***",
    "s3://bucket/folder": "s3://bucket/folder",
    "/mnt/shared": "/mnt/shared",
}


@pytest.mark.parametrize(("given", "shown"), URLS.items(), ids=range(len(URLS)))
def test_secrets_in_a_url_are_not_shown(given, shown):
    """User names, passwords and the values of options are hidden."""
    assert displayed(given) == shown
    assert RemoteFiles(given).display_url == shown


def test_errors_do_not_repeat_the_hidden_parts_of_the_url(moving, source, caplog):
    """This covers the message, its causes, which a traceback would print, and the log."""
    url = "moving://me:p%40ss-word@host/folder"
    words = f"cannot sign in to {url} with p@ss-word"
    for error in (PermissionError(words), TimeoutError(words)):
        moving.trouble = [error] * 9
        with caplog.at_level("DEBUG", logger="batchkit"), pytest.raises(SpoolError) as caught:
            RemoteFiles(url, attempts=2).put(source, "evals-1/a")
        causes: list[BaseException] = [caught.value]
        while before := causes[-1].__cause__ or (None if causes[-1].__suppress_context__ else causes[-1].__context__):
            causes.append(before)
        said = " ".join(map(str, causes)) + caplog.text
        assert "ss-word" not in said
        assert "moving://***@host/folder" in said


@pytest.mark.parametrize("url", ["nonsense://bucket/folder", "s3://", "memory://", "file:///", "s3://bucket/a*"])
def test_an_unusable_url_is_refused(url, source):
    """The error has a hint, and comes before anything is written."""
    with pytest.raises(ConfigurationError, match="BATCHKIT_SPOOL_URL") as caught:
        RemoteFiles(url).put(source, "evals-1/a")
    assert caught.value.hint


def test_a_missing_library_is_named(source, monkeypatch):
    """The hint names the extra that installs it."""

    def missing(*_arguments, **_more):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(ConfigurationError, match="s3fs") as caught:
        RemoteFiles("s3://bucket/folder").put(source, "evals-1/a")
    assert "groq-batchkit[s3]" in (caught.value.hint or "")


def test_s3_without_credentials_or_bucket(s3_url, source, monkeypatch):
    """The error is immediate and says what to do."""
    with pytest.raises(SpoolError) as caught:
        RemoteFiles(s3_url.replace("bucket-", "no-bucket-")).put(source, "evals-1/a")
    assert "bucket must exist" in (caught.value.hint or "")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SpoolError) as caught:
        RemoteFiles(f"{s3_url}/other").put(source, "evals-1/a")
    assert "credentials" in (caught.value.hint or "")


@pytest.mark.slow
def test_s3_accepts_large_files_in_parts(s3_url, tmp_path):
    """The file is larger than a single put of the library; the parts make the same bytes."""
    source, target = tmp_path / "source", tmp_path / "target"
    data = os.urandom(1 << 20) * 33
    source.write_bytes(data)
    remote = RemoteFiles(s3_url)
    remote.put(source, "evals-1/a")
    assert remote.get("evals-1/a", target, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
