"""Every benchmark works, at a size at which it says nothing about speed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks import lab as labs
from tests.benchmarks.clock import Figure
from tests.benchmarks.lab import Lab
from tests.benchmarks.parts import PARTS
from tests.benchmarks.table import as_table
from tests.workloads import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

LINES = 2_000


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def lab(request, tmp_path_factory) -> Iterator[Lab]:
    """Prepare a small lab on each kind of database."""
    server = None if request.param == "sqlite" else request.getfixturevalue("postgres_server").server_url
    small = Lab(tmp_path_factory.mktemp("bench"), LINES, server)
    small.prepare()
    yield small
    small.clear()


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_part_and_its_floor_do_the_same_bytes(lab, part, tmp_path):
    """Both run to their end on the same input, and leave the golden stores as they were."""
    before = sorted(path.name for path in lab.folder.iterdir())

    part.floor(lab, tmp_path)
    with part.ready(lab) as runner:
        part.work(runner, lab)

    assert sorted(path.name for path in lab.folder.iterdir()) == before


def test_the_answers_are_as_they_are_in_real_life(lab):
    """Of what is merged 2 % have failed, and every request has its result."""
    with lab.fresh("look", copy_of="merged") as runner:
        counts = runner.progress(runner.find(labs.NAME).id).counts
        target = runner.settings.home / "out.jsonl"
        runner.export(labs.NAME, target)
        states = Counter(line["status"] for line in read_lines(target))

    assert (counts.succeeded, counts.failed) == (1_960, 40)
    assert states == {"succeeded": 1_960, "failed": 40}


def test_the_table_shows_ratio_goal_and_what_it_was_before():
    """One Markdown line per figure, with the earlier ratio beside it when there is one."""
    figure = Figure("split", "SQLite", 1_000, "a floor", 0.5, 1.0, 0.9, 2.0, 1.9, 2.2, 2.4, 5_000_000)

    lines = as_table([figure], {("split", "SQLite"): {"ratio": 4.7}}).splitlines()

    assert lines[-1] == "| split, SQLite | a floor | 1.00 / 0.50 | 2.00 (1.90-2.20) | 2.4 | 1,000 | 5 MB | 4.70 |"
    assert [line.count("|") for line in lines] == [9, 9, 9]
