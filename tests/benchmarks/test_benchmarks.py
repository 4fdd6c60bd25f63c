"""Every benchmark works, at a size that is too small for its figures."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pytest

from batchkit.files import jsonl
from batchkit.models import FileId
from batchkit.provider.client import BatchApi
from batchkit.provider.groq.dialect import GROQ
from tests.benchmarks import benchmark_stores, machine, runs, transfers
from tests.benchmarks.benchmark_stores import BenchmarkStores
from tests.benchmarks.data import write_answers, write_requests
from tests.benchmarks.file_server import serving
from tests.benchmarks.measurements import MEASUREMENTS, Measurement
from tests.benchmarks.table import as_row, as_table, growth_table
from tests.benchmarks.timing import Figure, Sample, figure_of, measure
from tests.workloads import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

LINES = 1_000
FIGURE = Figure(
    "split",
    "SQLite",
    100_000,
    "a floor",
    size_bytes=72_000_000,
    floor_seconds=0.5,
    seconds=1.0,
    cpu_seconds=0.9,
    value=2.0,
    lowest=1.9,
    highest=2.2,
    goal=2.4,
    peak_bytes=95_000_000,
    grown_bytes=5_000_000,
)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def stores(request, tmp_path_factory) -> Iterator[BenchmarkStores]:
    """Prepare small stores on each kind of database."""
    server = None if request.param == "sqlite" else request.getfixturevalue("postgres_server").server_url
    small = BenchmarkStores(tmp_path_factory.mktemp("bench"), LINES, server, lines_per_shard=250)
    small.prepare({part.stage for part in MEASUREMENTS if part.stage is not None})
    yield small
    small.clear()


@pytest.mark.parametrize("part", MEASUREMENTS, ids=lambda part: part.name)
def test_a_part_and_its_floor_run_on_the_same_bytes(stores, part):
    """Both run on the same input, return a row of the table, and leave the template stores unchanged."""
    before = {path.name for path in stores.folder.iterdir()}

    figure = measure(part, stores, rounds=1, alone=False)

    print(as_row(figure, {}))  # noqa: T201 - for the log
    assert figure.failure == ""
    assert figure.seconds > 0
    assert {path.name for path in stores.folder.iterdir()} - before <= {"requests-100.jsonl"}


@pytest.mark.parametrize("part", transfers.TRANSFERS, ids=lambda part: part.name)
def test_a_file_is_uploaded_and_downloaded(part, tmp_path):
    """The server in another process accepts uploads and serves downloads, from curl and from batchkit."""
    file = transfers.largest_file(tmp_path / "bench", LINES)
    with serving(file) as url:
        figure = measure(part, transfers.Line(tmp_path / "bench", file, url, LINES), rounds=1, alone=False)

        assert figure.failure == ""
        assert figure.size_bytes == file.stat().st_size
        with BatchApi(GROQ, api_key="gsk_none", base_url=url) as provider:
            provider.download_file(FileId("file_1"), tmp_path / "copy.jsonl")
    assert (tmp_path / "copy.jsonl").read_bytes() == file.read_bytes()


def test_without_curl_plain_sockets_are_used(tmp_path):
    """The floor of a machine without curl moves the same bytes."""
    file = transfers.largest_file(tmp_path, LINES)
    with serving(file) as url:
        line = transfers.Line(tmp_path, file, url, LINES)
        transfers._plain_up(line, tmp_path)
        transfers._plain_down(line, tmp_path)
    assert (tmp_path / "answers.jsonl").read_bytes() == file.read_bytes()


def test_the_whole_command_is_measured(stores):
    """A run against an emulator in its own process returns its figure and leaves no file."""
    if stores.server_url is not None:
        pytest.skip("the command is the same as on SQLite, and starting it takes seconds")
    (figure,) = runs.figures(stores, [runs.PLAIN], rounds=1)

    assert figure.value > 0
    assert figure.peak_bytes > 30_000_000
    assert "the emulator took" in figure.note
    assert not list(stores.folder.glob("run-*"))


@pytest.mark.slow
def test_the_command_is_measured_with_prefect(stores):
    """End to end, Prefect's share and memory come from the same runs."""
    figures = runs.figures(stores, runs.RUNS, rounds=1)

    assert [figure.part for figure in figures] == list(runs.RUNS)
    assert all(figure.value > 0 for figure in figures)


def test_each_part_runs_in_its_own_process(tmp_path):
    """A part whose library is missing reports that in the table, and the other parts are measured."""
    missing = Measurement("parquet", None, _without_its_library, "", None)

    figure = measure(missing, BenchmarkStores(tmp_path, LINES), rounds=1)

    assert figure.failure == "no_such_library is not installed"
    assert "not measured: no_such_library is not installed" in as_table([figure], {})


def _without_its_library(_runner, _stores):
    importlib.import_module("no_such_library")


def test_the_answers_are_realistic(stores):
    """Of the merged requests 2 % have failed, and every request has its result."""
    with stores.fresh("check", copy_of="merged") as runner:
        counts = runner.progress(runner.find(benchmark_stores.NAME).id).counts
        target = runner.settings.home / "out.jsonl"
        runner.export(benchmark_stores.NAME, target)
        states = Counter(line["status"] for line in read_lines(target))

    assert (counts.succeeded, counts.failed) == (980, 20)
    assert states == {"succeeded": 980, "failed": 20}


def test_lines_have_realistic_lengths(tmp_path):
    """Requests have 600 to 900 bytes, answers 900 to 1,500 in another order, ids are unordered, and a quarter is not ASCII."""
    requests, output, error = (tmp_path / name for name in ("requests", "output", "error"))
    write_requests(requests, 2_000)
    with requests.open("rb") as handle:
        write_answers(handle, output, error)

    lines, answers = (path.read_bytes().splitlines(keepends=True) for path in (requests, output))
    ids, answered = ([jsonl.loads(line)["custom_id"] for line in every] for every in (lines, answers))
    assert sum(600 <= len(line) <= 900 for line in lines) > 0.98 * len(lines)
    assert sum(900 <= len(line) <= 1_500 for line in answers) > 0.98 * len(answers)
    assert 0.2 < sum(not line.isascii() for line in lines) / len(lines) < 0.3
    assert ids != sorted(ids)
    assert answered != [custom_id for custom_id in ids if custom_id in set(answered)]


def test_the_ratio_is_that_of_paired_rounds():
    """Each round's work is divided by its own floor; the result is the median, and for memory its growth."""
    works = [Sample(2.0, 1.0, 90, 10), Sample(9.0, 1.5, 80, 30), Sample(3.0, 2.0, 70, 20)]
    floors = [Sample(1.0, 1.0, 1, 1), Sample(3.0, 1.0, 1, 1), Sample(1.2, 1.0, 1, 1)]

    figure = figure_of(Figure("a", "SQLite", 1), works, floors)

    assert (figure.value, figure.lowest, figure.highest) == (2.5, 2.0, 3.0)
    assert (figure.seconds, figure.floor_seconds, figure.cpu_seconds) == (3.0, 1.2, 1.5)
    assert (figure.peak_bytes, figure.grown_bytes) == (90, 30)


def test_the_table_shows_ratio_goal_and_earlier_value():
    """Each figure has one Markdown row; a change counts only if the spreads do not overlap."""
    before = {("split", "SQLite"): asdict(replace(FIGURE, value=4.7, lowest=4.5, highest=4.9))}
    figures = [
        FIGURE,
        replace(FIGURE, highest=4.6),
        replace(FIGURE, lowest=5.0, highest=5.1),
        replace(FIGURE, value=2.5),
    ]
    rows = as_table(figures, before).splitlines()[2:]

    assert rows[0] == (
        "| split | SQLite | a floor | 0.500 | 1.00 | 2.00 (1.90-2.20) | 2.4 | 100,000 | 72 | 0.900 | 95 (+5) | 4.70, better |"
    )
    assert [row.split(" | ")[-1] for row in rows[1:3]] == ["4.70, same |", "4.70, worse |"]
    assert "2.4, missed" in rows[3]
    assert as_row(replace(FIGURE, lines=10_000), before).endswith("| - |")
    assert {line.count("|") for line in as_table([FIGURE], before).splitlines()} == {13}


def test_the_growth_of_a_part_is_relative_to_its_floor():
    """Ten times the lines in ten times the time is a factor of one, however fast the machine is."""
    larger = replace(FIGURE, lines=1_000_000, seconds=12.0, floor_seconds=5.0, value=2.4)

    rows = growth_table([[FIGURE], [larger]]).splitlines()

    assert rows[2] == "| split | SQLite | 100,000 | 5.00 | 10.00 | 2.00 | - | - |"
    assert rows[3] == "| split | SQLite | 1,000,000 | 5.00 | 12.00 | 2.40 | 1.20 | 1.1, missed |"


def test_figures_are_read_back_from_their_file(postgres_server):
    """The file for a later comparison holds the facts of the machine."""
    known = machine.facts(postgres_server.server_url)

    again = jsonl.loads(jsonl.dumps({"machine": known, "figures": [asdict(FIGURE)]}))

    assert Figure(**again["figures"][0]) == FIGURE
    assert known["postgres"] in machine.in_a_sentence(again["machine"])


def test_a_part_name_that_does_not_exist_is_an_error():
    """A mistyped part ends with an error instead of an empty table."""
    command = [sys.executable, "-m", "tests.benchmarks", "--lines", "1000", "--only", "slpit", "--database", "sqlite"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "no part of this name" in ended.stderr
