"""Whatever an input file holds, it is cut into shards byte for byte, or refused with a message."""

from __future__ import annotations

import gzip
import json  # noqa: TID251 - reads with other eyes than the code under test
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from batchkit.errors import InputInvalid, InputUnreadable, UsageError
from batchkit.files.spool import path_of
from batchkit.steps.split_plan import plan
from batchkit.store import workloads
from tests.properties.lab import DEFAULTS, Lab
from tests.properties.odd_json import changed, mutations, nearly_json, written
from tests.workloads import audio_line, chat_line

if TYPE_CHECKING:
    from collections.abc import Callable

MEBIBYTE = 1 << 20
GOOD = written(chat_line("row-1"))
OTHER = written(chat_line("row-2"))


@st.composite
def odd_lines(draw: st.DrawFn) -> bytes:
    """Draw a line of an input: good, changed, mutated, or nearly JSON."""
    custom_id = draw(st.sampled_from(["a", "b", "c", "d", "\u00e9", " ", "x" * 512]))
    record = draw(st.sampled_from([chat_line, audio_line]))(custom_id)
    match draw(st.integers(0, 9)):
        case 0:
            return draw(nearly_json)
        case 1:
            return draw(mutations(written(record)))
        case 2:
            return written(draw(changed(record)))
        case _:
            return written(record)


def stored(lab: Lab) -> list[bytes]:
    """Return the requests' lines from the shard files, in input order, after checking each shard."""
    lines: dict[str, bytes] = {}
    for shard in lab.shards():
        data = lab.contexts["a"].spool.path(path_of(shard)).read_bytes()
        assert (len(data), data.count(b"\n")) == (shard.byte_count, shard.line_count)
        for line in data.split(b"\n")[:-1]:
            lines[json.loads(line)["custom_id"]] = line
    return [lines[row.custom_id] for row in lab.rows()]


def nothing_is_left(lab: Lab) -> bool:
    """Return whether a refused input has left no row and no file."""
    with lab.store.read() as connection:
        found = workloads.find(connection, lab.name)
    spool = lab.folder / "home" / "spool"
    return found is None and not [path for path in spool.rglob("*") if path.is_file()]


def _unless_refused(work: Callable[[], Any]) -> Any:
    """Return the result of the work, or the usage error that it raises; other errors propagate."""
    try:
        return work()
    except UsageError as error:
        return error


def test_any_input_is_split_or_refused(sqlite_store, folder, effort):
    """A good input is kept to the byte and in order; a bad one leaves nothing; a dry run reports the same for both."""

    @effort(quick=30, deep=3_000)
    @given(
        lines=st.lists(odd_lines(), max_size=6),
        end=st.sampled_from([b"\n", b"\r\n"]),
        first=st.sampled_from([b"", b"", b"\xef\xbb\xbf"]),
        is_closed=st.booleans(),
        pack=st.sampled_from([bytes, gzip.compress, zstandard.compress]),
        shard_lines=st.integers(1, 3),
        shard_bytes=st.sampled_from([1_500, 100_000_000]),
    )
    def holds(lines, end, first, is_closed, pack, shard_lines, shard_bytes) -> None:
        lab = Lab(sqlite_store, folder)
        data = pack(first + end.join(lines) + (end if lines and is_closed else b""))
        source = lab.folder / "input"
        source.write_bytes(data)
        options = {"shard_lines": shard_lines, "shard_bytes": shard_bytes}
        planned = _unless_refused(
            lambda: plan([source], options=lab.options(**options), defaults=DEFAULTS, advance=lambda _lines: None)
        )
        done = _unless_refused(lambda: lab.split_file(source, **options))
        if isinstance(planned, UsageError):
            assert (type(done), str(done)) == (type(planned), str(planned))
            assert planned.hint
            assert nothing_is_left(lab)
            places = [problem.line for problem in getattr(planned, "problems", ())]
            assert all(0 < place <= max(len(lines), 1) for place in places)
            return
        if lines and not lines[-1] and not is_closed:
            lines = lines[:-1]
        kept = stored(lab)
        assert kept == [line.removesuffix(b"\r") for line in lines]
        assert [row.custom_id for row in lab.rows()] == [json.loads(line)["custom_id"] for line in lines]
        cut = lab.shards()
        assert sorted((shard.endpoint, shard.line_count, shard.byte_count) for shard in cut) == sorted(planned.shards)
        assert all(shard.line_count <= shard_lines and shard.byte_count <= shard_bytes for shard in cut)

    holds()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\xef\xbb\xbf",
        b"\x00",
        b"\x00" * MEBIBYTE,
        b"null\n",
        b"[]\n",
        GOOD + b"\x00\n",
        GOOD + GOOD,
        GOOD + b"\n" + GOOD,
        GOOD + b"\n\xef\xbb\xbf" + OTHER,
        GOOD.replace(b"row-1", b"\\ud800"),
        GOOD.replace(b"row-1", b"\xed\xa0\x80"),
        GOOD.replace(b"row-1", b"\\u0000"),
        GOOD.replace(b"row-1", b"\xff"),
        GOOD.replace(b"row-1", b"x" * 513),
        GOOD.replace(b"row-1", b"x" * MEBIBYTE) + b"\n" + GOOD.replace(b"row-1", b"x" * MEBIBYTE),
        GOOD[:-2] + b', "temperature": NaN}}',
        GOOD[:-2] + b', "temperature": 1e999}}',
        GOOD[:-2] + b', "seed": Infinity}}',
        GOOD[:-2] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        GOOD[:-2] + b', "x": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}}",
        GOOD.decode().encode("utf-16"),
        GOOD.decode().encode("utf-16-le"),
        GOOD.decode().encode("utf-32"),
        gzip.compress(GOOD, mtime=0)[:-1],
        zstandard.compress(GOOD)[:-1],
        gzip.compress(gzip.compress(GOOD, mtime=0), mtime=0),
    ],
    ids=lambda data: repr(data[-24:])[:40],
)
def test_unusable_inputs_are_refused_with_a_short_message(sqlite_store, folder, data):
    """The error is a readable usage error, and no trace of the input is left."""
    lab = Lab(sqlite_store, folder)
    with pytest.raises(UsageError) as raised:
        lab.split(data)
    error = raised.value
    words = [str(error), *(str(problem) for problem in getattr(error, "problems", ()))]
    assert error.hint
    assert all(len(word) < 2_000 and "\x00" not in word and word.encode() for word in words)
    assert nothing_is_left(lab)


@pytest.mark.parametrize(
    ("data", "custom_ids"),
    [
        (GOOD, ["row-1"]),
        (b"\xef\xbb\xbf" + GOOD + b"\r\n" + OTHER, ["row-1", "row-2"]),
        # With two equal keys, every known parser behind such an API keeps the last.
        (b'{"custom_id": "not-me", ' + GOOD[1:], ["row-1"]),
        (GOOD[:-2] + b', "x": 123456789012345678901234567890}}', ["row-1"]),
        (GOOD[:-2] + b', "user": "\\u0000"}}', ["row-1"]),
        (GOOD[:-2] + ', "user": "\u2028\u2029\x85"}}'.encode(), ["row-1"]),
        (GOOD[:-2] + b', "x": ' + b"[" * 900 + b"]" * 900 + b"}}", ["row-1"]),
    ],
    ids=["no newline", "mark and CRLF", "keys twice", "large integer", "NUL", "separators", "deep"],
)
def test_odd_inputs_are_split_byte_for_byte(sqlite_store, folder, data, custom_ids):
    """Legal lines are sent unchanged."""
    lab = Lab(sqlite_store, folder)
    lab.split(data)
    assert [row.custom_id for row in lab.rows()] == custom_ids
    assert stored(lab) == data.removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"").split(b"\n")


def test_a_source_that_is_no_file_is_refused_at_once(sqlite_store, folder):
    """Directories, pipes, devices, sockets and dangling links are named in the error, and never waited for."""
    os.mkfifo(folder / "pipe")
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "round").symlink_to(folder / "round")
    names = [folder, folder / "pipe", Path(os.devnull), Path("/dev/zero"), folder / "dangling", folder / "round"]
    for name in names:
        lab = Lab(sqlite_store, folder)
        with pytest.raises(InputUnreadable):
            lab.split_file(name)
        assert nothing_is_left(lab)


def test_file_name_with_invalid_utf8_is_accepted(store, folder):
    """File systems allow such names."""
    source = folder / os.fsdecode(b"caf\xe9.jsonl")
    source.write_bytes(GOOD)
    lab = Lab(store, folder)
    lab.split_file(source)
    assert len(lab.rows()) == 1
    with store.read() as connection:
        workloads.get(connection, lab.id).source.encode()


def peak_of(work: Any) -> int:
    """Return the peak of the memory that ``work`` holds, in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstandard"])
def test_bomb_is_refused_with_little_memory(sqlite_store, folder, pack):
    """A line of sixty megabytes in a few kilobytes of input needs no more memory than the longest line that is allowed."""
    source = folder / "bomb"
    source.write_bytes(pack(GOOD + b"\n" + b" " * (60 * MEBIBYTE)))
    lab = Lab(sqlite_store, folder)

    def work() -> None:
        with pytest.raises(InputInvalid, match="1 problem"):
            lab.split_file(source, shard_bytes=MEBIBYTE)

    assert peak_of(work) < 16 * MEBIBYTE
    assert nothing_is_left(lab)


_PEAK = """
import sys
from pathlib import Path
from batchkit.errors import InputInvalid
from batchkit.provider.groq.dialect import GROQ
from batchkit.steps.split import SplitDefaults, SplitOptions
from batchkit.steps.split_plan import plan
from tests.processes import own_peak_bytes
defaults = SplitDefaults("24h", "7d", None, int(sys.argv[2]), 5, 10, GROQ)
before = own_peak_bytes()
try:
    plan([Path(sys.argv[1])], options=SplitOptions(), defaults=defaults, advance=lambda lines: None)
    print("planned")
except InputInvalid:
    print("refused")
print(own_peak_bytes() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit_bytes", "outcome", "peak_bytes"),
    [(100_000_000, "planned", 450_000_000), (10_000_000, "refused", 60_000_000)],
)
def test_line_of_a_hundred_megabytes_is_held_a_few_times(tmp_path, limit_bytes, outcome, peak_bytes):
    """The memory for one line is bounded by its length, or by the limit if it is longer, as measured by the kernel."""
    source = tmp_path / "long"
    source.write_bytes(GOOD.replace(b"Peru", b"P" * 99_000_000) + b"\n" + OTHER)
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(source), str(limit_bytes)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    words = done.stdout.split()
    assert words[0] == outcome
    assert int(words[1]) < peak_bytes
