from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import os
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from batchkit.errors import InputUnreadable, SpoolError, UsageError
from batchkit.files import compressed, sources
from batchkit.files.sources import Scan, estimate_lines, read_lines, scan, spool_stdin

if TYPE_CHECKING:
    from pathlib import Path

PLENTY = 1 << 30
BOM = b"\xef\xbb\xbf"

# Bytes with many line ends, and with characters that other readers take for line ends.
pieces = st.lists(
    st.one_of(
        st.sampled_from([b"\n", b"\r", b"\r\n", b" ", "\u2028\u2029\u0085\v\f".encode(), BOM]), st.binary(max_size=8)
    ),
    max_size=12,
)
contents = pieces.map(b"".join).filter(
    lambda data: (
        not data.startswith((b"PK", b"BZ", b"\xfd7", b"\xff", b"\xfe", b"\x1f", b"\x28")) and data[1:4] != b"*M\x18"
    ),
)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Return a directory for files that property tests overwrite repeatedly."""
    return tmp_path_factory.mktemp("sources")


def write(path: Path, data: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(data)
    return path


def lines_of(*paths: Path, most: int = PLENTY) -> list[bytes]:
    """Return the lines of all files, without their positions."""
    return [line for _, _, line in read_lines(paths, max_line_bytes=most)]


def expected_lines(data: bytes) -> list[bytes]:
    """Return the lines by the plainest rule, from data in memory."""
    *lines, rest = data.removeprefix(BOM).split(b"\n")
    return [line.removesuffix(b"\r") for line in ([*lines, rest] if rest else lines)]


def expected_content(data: bytes) -> bytes:
    """Return the content of one file by the plainest rule."""
    data = data.removeprefix(BOM)
    return data if not data or data.endswith(b"\n") else data + b"\n"


def zstd(*parts: bytes, checksum: bool = False) -> bytes:
    """Return one frame per part; several frames have no size in the header, as in a stream."""
    compressor = zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=len(parts) == 1)
    return b"".join(compressor.compress(part) for part in parts)


SKIPPABLE = b"\x5a\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"


class TestLines:
    """Line boundaries."""

    @given(data=contents)
    def test_any_bytes(self, room, data):
        """Any file is cut at newlines only, and all readers count the same lines."""
        path = write(room / "any.jsonl", data)
        lines = lines_of(path)
        content = expected_content(data)
        assert lines == expected_lines(data)
        assert scan([path]) == Scan(len(lines), len(content), hashlib.sha256(content).hexdigest())
        assert estimate_lines([path]) == len(lines)

    @given(data=contents, cuts=st.lists(st.integers(0, 60), max_size=6), most=st.integers(0, 12))
    def test_any_chunking(self, data, cuts, most):
        """The block boundaries make no difference, and over-long lines are cut to one byte above the limit."""
        places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        blocks = (data[start:end] for start, end in itertools.pairwise(places) if start != end)
        whole = b"".join(sources._whole_lines(sources._normal(blocks), most))
        lines = [line[: most + 1] for line in whole.split(b"\n")[:-1]]
        assert lines == [line[: most + 1] for line in expected_lines(data)]

    @given(parts=st.lists(contents, min_size=1, max_size=3), checksum=st.booleans())
    def test_compression_makes_no_difference(self, room, parts, checksum):
        """Plain files, gzip with several members and zstandard with several frames give the same lines and the same digest."""
        plain = write(room / "plain", b"".join(parts))
        packed = [
            write(room / "gz", b"".join(map(gzip.compress, parts))),
            write(room / "gz-padded", gzip.compress(b"".join(parts)) + b"\0" * 512),
            write(room / "zst", zstd(*parts, checksum=checksum)),
            write(room / "zst-skippable", SKIPPABLE + zstd(*parts, checksum=checksum) + SKIPPABLE),
        ]
        for path in packed:
            assert lines_of(path) == lines_of(plain)
            assert scan([path]) == scan([plain])

    @given(parts=st.lists(contents, max_size=4))
    def test_several_files(self, room, parts):
        """Files follow each other in the given order, each numbered from 1, and an unterminated last line ends with its file."""
        paths = [write(room / f"part-{index}", part) for index, part in enumerate(parts)]
        digest = hashlib.sha256()
        found = list(read_lines(paths, max_line_bytes=PLENTY, digest=digest))
        assert found == [
            (path, number, line)
            for path, part in zip(paths, parts, strict=True)
            for number, line in enumerate(expected_lines(part), 1)
        ]
        content = b"".join(map(expected_content, parts))
        assert scan(paths) == Scan(len(found), len(content), digest.hexdigest())
        assert digest.digest() == hashlib.sha256(content).digest()

    def test_cut_between_lines(self, tmp_path):
        """An input that is cut into files between lines keeps its digest, with or without final newlines."""
        whole = write(tmp_path / "whole", b'{"a":1}\n{"b":2}\n')
        halves = [write(tmp_path / "one", b'{"a":1}'), write(tmp_path / "two", b'{"b":2}')]
        assert scan([whole]) == scan(halves)

    def test_other_separators(self, tmp_path):
        """U+2028, U+2029, U+0085 and form feeds stay inside their line."""
        line = '{"text": "a\u2028b\u2029c\u0085d\fe\v"}'.encode()
        assert lines_of(write(tmp_path / "in", line + b"\n" + line)) == [line, line]

    def test_windows(self, tmp_path):
        """A byte order mark and carriage returns at line ends are removed, once and only there."""
        path = write(tmp_path / "in", BOM + b"{}\r\n\r\n{\r}\r\r\n \r")
        assert lines_of(path) == [b"{}", b"", b"{\r}\r", b" "]

    def test_blank_lines(self, tmp_path):
        """Blank lines are lines; the empty rest after the last newline is none."""
        assert lines_of(write(tmp_path / "in", b"\n \n\n")) == [b"", b" ", b""]

    @pytest.mark.parametrize("data", [b"", BOM, gzip.compress(b"", mtime=0), zstd(b""), SKIPPABLE])
    def test_empty(self, tmp_path, data):
        """An input without content has no lines and the digest of an empty input."""
        path = write(tmp_path / "in", data)
        assert lines_of(path) == []
        assert scan([path]) == Scan(0, 0, hashlib.sha256().hexdigest())
        assert scan([]) == scan([path])

    def test_long_blocks(self, tmp_path):
        """Lines around the size of a block and far above it are returned whole and in order."""
        lines = [bytes([97 + n % 26]) * size for n, size in enumerate([5, (1 << 20) - 6, 1, 1 << 20, 3 << 20, 0, 7])]
        data = b"\n".join(lines) + b"\n"
        for name, packed in (("plain", data), ("gz", gzip.compress(data, 1)), ("zst", zstd(data))):
            assert lines_of(write(tmp_path / name, packed)) == lines


class TestOverlongLines:
    """A line above the limit is reported by its length and never held whole."""

    @pytest.mark.parametrize("end", [b"\n", b"\r\n"])
    def test_limit(self, tmp_path, end):
        """The limit counts neither newline nor carriage return."""
        path = write(tmp_path / "in", end.join([b"x" * 9, b"x" * 10, b"x" * 11, b"x" * 12, b"x" * 99, b"y", b""]))
        assert [len(line) for line in lines_of(path, most=10)] == [9, 10, 11, 11, 11, 1]

    def test_memory(self, tmp_path):
        """Sixty million bytes in one line are read with a few blocks of memory."""
        tracemalloc = pytest.importorskip("tracemalloc")
        path = write(tmp_path / "in", zstd(b"x" * 60_000_000 + b"\ny"))
        tracemalloc.start()
        try:
            found = lines_of(path, most=1000)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert [len(line) for line in found] == [1001, 1]
        assert peak < 12_000_000


class TestUnreadable:
    """An unreadable input is a usage error that names the file, the reason and the remedy."""

    @staticmethod
    def refusal(path: Path) -> InputUnreadable:
        """Read the file in all three ways, which must give the same refusal."""
        caught = []
        for read in (scan, estimate_lines, lambda paths: lines_of(*paths)):
            with pytest.raises(InputUnreadable) as raised:
                read([path])
            caught.append(raised.value)
        error = caught[0]
        assert isinstance(error, UsageError)
        assert error.exit_code == 2
        assert error.path == path
        assert error.message.startswith(f"{path}: ")
        assert error.hint
        assert {other.message for other in caught} == {error.message}
        return error

    def test_missing(self, tmp_path):
        """A missing file is named."""
        assert "no such file" in self.refusal(tmp_path / "none.jsonl").message

    def test_directory(self, tmp_path):
        """A directory is not read."""
        assert "directory" in self.refusal(tmp_path).message

    def test_pipe(self, tmp_path):
        """A named pipe is refused at once, not waited for."""
        os.mkfifo(tmp_path / "pipe")
        assert "not a regular file" in self.refusal(tmp_path / "pipe").message

    def test_permission(self, tmp_path, monkeypatch):
        """A denied open says who must do what."""

        def refuse(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
        assert "permission denied" in self.refusal(tmp_path / "in").message

    @pytest.mark.parametrize("name", ["a\0b", "x" * 300])
    def test_impossible_name(self, tmp_path, name):
        """A name that no file can have is a usage error too."""
        assert "cannot be opened" in self.refusal(tmp_path / name).message

    def test_later_file(self, tmp_path):
        """A missing last file is detected before the first line of the first."""
        good = write(tmp_path / "good", b"{}\n")
        with pytest.raises(InputUnreadable, match="no such file"):
            next(read_lines([good, tmp_path / "none"], max_line_bytes=PLENTY))

    @pytest.mark.parametrize(
        ("data", "word"),
        [
            (b"PK\x03\x04rest", "zip"),
            (b"BZh91AY", "bzip2"),
            (b"\xfd7zXZ\x00..", "xz"),
            ('{"a": 1}\n'.encode("utf-16"), "UTF-16"),
            ("\ufeff{}".encode("utf-16-be"), "UTF-16"),
        ],
    )
    def test_other_formats(self, tmp_path, data, word):
        """An unsupported format is named once, instead of an error for each line."""
        assert word in self.refusal(write(tmp_path / "in.jsonl", data)).message

    @pytest.mark.parametrize("checksum", [False, True])
    def test_truncated_zstandard(self, tmp_path, checksum):
        """A zstandard file cut anywhere is refused before its first line, which the decompressor alone would not do."""
        whole = zstd(os.urandom(200_000) + b"a" * 200_000, checksum=checksum)
        for keep in [*range(4, 24), 1000, 131_090, *range(len(whole) - 8, len(whole))]:
            error = self.refusal(write(tmp_path / "in.zst", whole[:keep]))
            assert "cut short" in error.message or "damaged" in error.message

    def test_truncated_second_frame(self, tmp_path):
        """The last frame must be complete too, and so must a skippable one."""
        for tail in (zstd(b"two\n")[:-1], SKIPPABLE[:-1], SKIPPABLE[:5]):
            assert "cut short" in self.refusal(write(tmp_path / "in.zst", zstd(b"one\n") + tail)).message

    def test_truncated_gzip(self, tmp_path):
        """A gzip file cut anywhere is refused."""
        whole = gzip.compress(b'{"a": 1}\n' * 99)
        for keep in [2, 5, 10, 20, *range(len(whole) - 9, len(whole))]:
            assert "cut short" in self.refusal(write(tmp_path / "in.gz", whole[:keep])).message

    @pytest.mark.parametrize("pack", [gzip.compress, zstd])
    def test_trailing_garbage(self, tmp_path, pack):
        """Foreign bytes after the compressed data count as damage."""
        assert "damaged" in self.refusal(write(tmp_path / "in", pack(b"{}\n") + b"garbage")).message

    @given(place=st.integers(20, 2000), value=st.integers(1, 255))
    def test_flipped_bits(self, room, place, value):
        """A flipped bit in checksummed data is an error and never another input."""
        data = bytes(range(256)) * 8
        for packed in (gzip.compress(data, 0), zstd(data + hashlib.sha256(data).digest() * 60, checksum=True)):
            broken = bytearray(packed)
            # Do not change the magic number: without it the file is of another kind, and its bytes are lines.
            broken[4 + place % (len(packed) - 4)] ^= value
            path = write(room / "broken", bytes(broken))
            try:
                lines = lines_of(path)
            except InputUnreadable:
                continue
            # Bits without meaning, such as the system's name in a gzip header, may flip.
            assert lines == lines_of(write(room / "sound", packed))

    def test_failing_disk(self, tmp_path, monkeypatch):
        """A read error in the middle of a file names the file."""
        path = write(tmp_path / "in", b"{}\n")

        class Failing(io.RawIOBase):
            def read(self, _size=-1):
                raise OSError(5, "Input/output error")

        monkeypatch.setattr(compressed, "open_file", lambda _path, **_more: Failing())
        assert "Input/output error" in self.refusal(path).message


class TestNames:
    """The name of a file does not matter."""

    @pytest.mark.parametrize("name", ["in", "in.json", "in.ndjson", "in.gz", "in.zst", "in.txt"])
    def test_content_decides(self, tmp_path, name):
        """The first bytes of a file decide its format, whatever its name is."""
        for data in (b"{}\n", gzip.compress(b"{}\n"), zstd(b"{}\n")):
            assert lines_of(write(tmp_path / name, data)) == [b"{}"]


class TestSpool:
    """Standard input becomes a file that can be read again."""

    @given(data=st.binary(max_size=50))
    def test_copy(self, room, data):
        """The copy has the same bytes and is named after them; the same input makes the same file."""
        path = spool_stdin(io.BytesIO(data), room / "spool")
        assert path.read_bytes() == data
        assert hashlib.sha256(data).hexdigest() in path.name
        assert spool_stdin(io.BytesIO(data), room / "spool") == path
        assert not list(path.parent.glob("*.part"))

    @pytest.mark.parametrize(
        ("pack", "suffix"), [(bytes, ".jsonl"), (gzip.compress, ".jsonl.gz"), (zstd, ".jsonl.zst")]
    )
    def test_compressed(self, tmp_path, pack, suffix):
        """Compressed input stays compressed and has its suffix."""
        path = spool_stdin(io.BytesIO(pack(b"{}\n")), tmp_path)
        assert path.name.endswith(suffix)
        assert lines_of(path) == [b"{}"]

    def test_small_reads(self, tmp_path):
        """A pipe that returns a few bytes at a time is read completely."""

        class Pipe(io.RawIOBase):
            left = packed = zstd(b"{}\n")

            def read(self, _size=-1):
                given, self.left = self.left[:3], self.left[3:]
                return given

        path = spool_stdin(Pipe(), tmp_path)
        assert path.read_bytes() == Pipe.packed
        assert path.name.endswith(".jsonl.zst")

    def test_private(self, tmp_path):
        """Other users cannot read the copy."""
        assert spool_stdin(io.BytesIO(b"{}"), tmp_path).stat().st_mode & 0o077 == 0

    def test_interrupted(self, tmp_path):
        """An interrupted copy leaves no files."""

        class Interrupted(io.RawIOBase):
            def read(self, _size=-1):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            spool_stdin(Interrupted(), tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_unreadable_stream(self, tmp_path):
        """A stream that fails is a usage error and leaves no files."""

        class Broken(io.RawIOBase):
            def read(self, _size=-1):
                raise OSError(5, "Input/output error")

        with pytest.raises(InputUnreadable, match="Input/output error"):
            spool_stdin(Broken(), tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_unwritable_directory(self, tmp_path):
        """A directory that cannot be created is a spool error with a remedy."""
        with pytest.raises(SpoolError) as raised:
            spool_stdin(io.BytesIO(b"{}"), write(tmp_path / "file", b"") / "spool")
        assert raised.value.hint

    def test_full_disk(self, tmp_path, monkeypatch):
        """A full disk leaves no partial copy."""

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(SpoolError, match="No space left"):
            spool_stdin(io.BytesIO(b"{}"), tmp_path)
        assert list(tmp_path.iterdir()) == []
