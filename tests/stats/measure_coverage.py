"""Print the tables of ``batchkit/stats/README.md``: ``python -m tests.stats.measure_coverage``. Takes a few minutes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from batchkit.stats.falls import fall_beyond
from batchkit.stats.intervals import mean_interval
from batchkit.stats.paired import compare_pairs, difference_bounds, paired
from tests.stats.simulated import cluster_numbers, graded, latent, right, two_graded_nights, two_nights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DRAWS = 2_000
#: Draws of clusters, of which each is also tested.
TESTED = 1_000


def write(*cells: object) -> None:
    """Print a row of a table."""
    sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")


def coverage(found: Sequence[Any], truth: float) -> str:
    """Return how many of the bounds hold the truth."""
    return f"{100 * np.mean([low <= truth <= high for low, high in found]):.1f}"


def bounds_of_mean(values: Any, clusters: Any = None) -> tuple[float, float]:
    """Return the bounds of a mean."""
    found = mean_interval(values, clusters)
    assert found is not None
    return found.low, found.high


def many(draw: Callable[[], Any]) -> list[Any]:
    """Return many draws."""
    return [draw() for _ in range(DRAWS)]


def of_rows(random: np.random.Generator, rows: int) -> tuple[str, ...]:
    """Return the coverage for independent rows."""
    numbers = np.arange(rows)

    def difference(nights: Any) -> tuple[float, float]:
        return difference_bounds(paired(nights[0], nights[1], None))

    return (
        coverage(many(lambda: bounds_of_mean(right(random.normal(size=rows), 0.8))), 0.8),
        coverage(many(lambda: bounds_of_mean(random.beta(4, 2, rows))), 4 / 6),
        coverage(many(lambda: bounds_of_mean(random.beta(8, 1, rows))), 8 / 9),
        coverage(many(lambda: bounds_of_mean(random.binomial(4, random.beta(6, 2, rows)) / 4)), 6 / 8),
        coverage(many(lambda: difference(two_nights(random, numbers, 0, (0.85, 0.8)))), -0.05),
        coverage(many(lambda: difference(two_graded_nights(random, numbers, 0, 0.05))), -0.05),
    )


def of_clusters(random: np.random.Generator, clusters: int, likeness: float, *, is_even: bool) -> tuple[str, ...]:
    """Return the coverage for clusters, and without regard to them, and how often tests at level 0.05 reject what is true."""
    found: dict[str, list[Any]] = {name: [] for name in ("right", "naive", "graded", "nights", "graded nights")}
    rejected = np.zeros(3)
    for _ in range(TESTED):
        numbers = cluster_numbers(random, clusters, is_even=is_even)
        values = latent(random, numbers, likeness)
        found["right"].append(bounds_of_mean(right(values, 0.8), numbers))
        found["naive"].append(bounds_of_mean(right(values, 0.8)))
        found["graded"].append(bounds_of_mean(graded(values), numbers))
        nights = two_nights(random, numbers, likeness, (0.85, 0.8))
        high, low = two_graded_nights(random, numbers, likeness, 0.05)
        found["nights"].append(difference_bounds(paired(nights[0], nights[1], numbers)))
        found["graded nights"].append(difference_bounds(paired(high, low, numbers)))
        before, after = two_nights(random, numbers, likeness, (0.85, 0.85))
        comparison = compare_pairs(before, after, numbers)
        assert comparison is not None
        rejected += (
            comparison.fall_p_value < 0.05,
            fall_beyond(nights[0], nights[1], 0.05, numbers) < 0.05,
            fall_beyond(high, low, 0.05, numbers) < 0.05,
        )
    truths = (0.8, 0.8, 0.5, -0.05, -0.05)
    shares = (f"{100 * share:.1f}" for share in rejected / TESTED)
    return (*(coverage(bounds, truth) for bounds, truth in zip(found.values(), truths, strict=True)), *shares)


def main() -> None:
    """Measure everything."""
    random = np.random.default_rng(2024)
    for rows in (5, 10, 20, 50, 100, 300, 1_000):
        write(f"{rows:,}", *of_rows(random, rows))
    for is_even in (True, False):
        for clusters in (5, 10, 20, 60):
            for likeness in (0.3, 0.9):
                sizes = "5 each" if is_even else "1 to 60"
                write(clusters, sizes, likeness, *of_clusters(random, clusters, likeness, is_even=is_even))


if __name__ == "__main__":
    main()
