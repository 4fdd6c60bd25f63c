"""What the rows of a suite can find, told before anything is paid for."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchkit.emulator import Scenario
from batchkit.evaluation.power import ASSUMED_CHANGING, findable_falls
from batchkit.stats.power import smallest_fall
from tests.cli.conftest import _own_folder, batchkit, open_emulator
from tests.evaluation.support import LARGE, REVIEWS, SMALL, night, reviews_suite, write_reviews, write_suite, wrong
from tests.steps.conftest import open_harness

__all__ = ["_own_folder", "batchkit", "open_emulator", "open_harness"]


def falls(runner, file, rows):
    """Return what can be found, by model."""
    with runner.store.read() as connection:
        return {fall.model: fall for fall in findable_falls(file.suite, rows, connection)}


def test_a_first_run_names_what_it_assumes(sqlite_harness, tmp_path):
    """Without two runs the share of rows that change by chance is an assumption; the level is corrected for both models."""
    found = falls(sqlite_harness.runner, reviews_suite(tmp_path, 40), 300)[SMALL]
    assert (found.source, found.changing, found.tests, found.level) == (None, ASSUMED_CHANGING, 2, 0.005)
    assert found.found_80 == smallest_fall(300, changing=ASSUMED_CHANGING, level=0.005, power=0.8)
    assert found.found_95 is not None
    assert found.found_80 is not None
    assert found.found_80 < found.found_95


def test_the_last_two_runs_show_how_many_rows_change_by_chance(open_harness, tmp_path):
    """The flips of a comparison without an alarm are counted, by model; one that fell says nothing about chance."""
    harness = open_harness(wrong(0.1))
    runner, file = harness.runner, reviews_suite(tmp_path, 40)
    night(runner, file)
    harness.emulator.set_scenario(Scenario(seed=5, faults=(wrong(0.1),)))
    second = night(runner, file)
    change = next(one for one in second.changes if one.model == SMALL)
    found = falls(runner, file, 40)
    assert (found[SMALL].source, found[LARGE].source) == ("reviews-2", "reviews-2")
    assert found[SMALL].changing == pytest.approx((change.flipped_down + change.flipped_up + 1) / 42)
    assert found[LARGE].changing == pytest.approx(1 / 42)
    harness.emulator.set_scenario(Scenario(faults=(wrong(0.6),)))
    assert night(runner, file).verdict == "regressed"
    assert falls(runner, file, 40)[SMALL].source == "reviews-2"


def test_rows_of_one_cluster_find_less(sqlite_harness, tmp_path):
    """The clusters of the last run say by how much."""
    harness = sqlite_harness
    text = REVIEWS.replace("key: id}", "key: id, cluster: passage}")
    file = reviews_suite(tmp_path, 40, text)
    path = tmp_path / "reviews.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([f"{header},passage", *(f"{line},p{place // 10}" for place, line in enumerate(lines))]) + "\n"
    )
    fault = wrong(1.0).model_copy(update={"custom_ids": frozenset(f"r{number}:gpt-oss-20b:1" for number in range(10))})
    harness.emulator.set_scenario(Scenario(faults=(fault,)))
    night(harness.runner, file)
    found = falls(harness.runner, file, 1_000)[SMALL]
    assert found.design_effect > 2
    assert found.found_80 is not None
    assert found.found_80 > 2 * (smallest_fall(1_000, changing=ASSUMED_CHANGING, level=0.005, power=0.8) or 1)


def test_a_dry_run_shows_requests_price_and_power_and_sends_nothing(batchkit, open_emulator):
    """For people and for machines."""
    emulator = open_emulator()
    write_reviews(Path(), 20)
    suite = write_suite(Path())
    ended = batchkit("eval", suite, "--dry-run")
    assert ended.code == 0, ended.err
    assert "reviews: 20 rows, 40 requests; nothing was sent" in ended.out
    assert "the smallest fall that 20 rows can find, with a chance of 80 % and of 95 %:" in ended.out
    assert "assumed: 10 % of the rows change by chance" in ended.out
    machine = batchkit("eval", suite, "--dry-run", "--json").json
    assert [fall["model"] for fall in machine["findable_falls"]] == [SMALL, LARGE]
    assert machine["requests"] == 40
    assert emulator.ledger().totals.batches == 0
    missing = write_suite(Path(), f"{REVIEWS}\nagainst: reviews-9\n", "missing.yaml")
    assert batchkit("eval", missing, "--dry-run").code == 2
    assert batchkit("eval", suite, "--dry-run", "--rescore", "reviews-1").code == 2
