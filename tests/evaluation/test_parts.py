"""Runs about a part of the rows: the first ones, or some at random of each slice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from batchkit.api.evaluations import PartOfRows
from batchkit.evaluation import runs
from batchkit.evaluation.results import find_run, scored_rows
from batchkit.evaluation.sampling import chosen_places
from tests.cli.conftest import _own_folder, batchkit, open_emulator
from tests.evaluation.support import night, reviews_suite, write_reviews, write_suite
from tests.steps.conftest import open_harness

__all__ = ["_own_folder", "batchkit", "open_emulator", "open_harness"]


@pytest.mark.parametrize("seed", range(5))
def test_each_stratum_has_its_share(seed):
    """Remainders go to the strata with the largest ones; the places are in order, each once, and the same for the same seed."""
    strata = np.repeat([0, 1, 2], [60, 30, 10])
    np.random.default_rng(7).shuffle(strata)
    places = chosen_places(strata, 25, seed)
    assert places.tolist() == sorted(set(places.tolist()))
    assert Counter(strata[places].tolist()) in ({0: 15, 1: 8, 2: 2}, {0: 15, 1: 7, 2: 3})
    assert places.tolist() == chosen_places(strata, 25, seed).tolist()
    assert places.tolist() != chosen_places(strata, 25, seed + 100).tolist()


def test_no_more_rows_are_taken_than_there_are():
    """A subset of more rows than the table has is the table."""
    assert chosen_places([0, 1, 1], 9, 0).tolist() == [0, 1, 2]
    assert chosen_places([], 3, 0).tolist() == []


def partial(file, **chosen):
    """Return the suite about a part of its rows."""
    return PartOfRows(**chosen).of(file)


@pytest.mark.parametrize(("chosen", "count"), [({"limit": 4}, 4), ({"subset": 9}, 9)])
def test_a_partial_run_is_outside_the_series(open_harness, tmp_path, chosen, count):
    """It is compared with the last run, by key; neither the next number nor the next comparison knows it."""
    harness = open_harness()
    runner, file = harness.runner, reviews_suite(tmp_path, 24)
    night(runner, file)
    found = night(runner, partial(file, **chosen), is_partial=True)
    assert (found.run, found.previous, found.verdict) == ("reviews.partial-1", "reviews-1", "passed")
    assert [change.pairs for change in found.changes] == [count, count]
    assert find_run(runner, found.run).number is None
    following = night(runner, file)
    assert (following.run, following.previous) == ("reviews-2", "reviews-1")
    assert harness.emulator.ledger().totals.requests_executed == 2 * (24 + count + 24)


def test_a_subset_keeps_the_shares_of_the_slices_and_resumes_as_the_same_rows(sqlite_harness, tmp_path):
    """A third of the rows is English; the unfinished partial run is resumed, another seed is another run."""
    runner, file = sqlite_harness.runner, reviews_suite(tmp_path, 24)
    part = partial(file, subset=6, subset_seed=3)
    begun = runs.begin(runner, part, is_partial=True)
    assert runs.begin(runner, part, is_partial=True).id == begun.id
    assert runs.begin(runner, file).id != begun.id
    assert night(runner, part, is_partial=True).run == begun.name
    rows = [row.row for row in scored_rows(runner, begun.name)]
    assert Counter(row["language"] for row in rows) == {"de": 8, "en": 4}
    assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), key=lambda name: int(name[1:]))


def test_a_part_is_asked_for_on_the_command_line(batchkit, open_emulator):
    """--limit, --subset and --dry-run; numbers below 1 are refused."""
    emulator = open_emulator()
    write_reviews(Path(), 12)
    suite = write_suite(Path())
    assert "5 rows, 10 requests; nothing was sent" in batchkit("eval", suite, "--subset", "5", "--dry-run").out
    ended = batchkit("eval", suite, "--no-prefect", "--subset", "5")
    assert ended.code == 0, ended.err
    assert "reviews.partial-1: first" in ended.out
    assert "reviews.partial-2: first" in batchkit("eval", suite, "--no-prefect", "--limit", "3").out
    assert emulator.ledger().totals.requests_executed == 16
    assert batchkit("eval", suite, "--limit", "0").code == 2
