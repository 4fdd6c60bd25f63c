"""Two depths for every property: a quick one that is always the same, and a deep one that never is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import HealthCheck, Phase, settings

if TYPE_CHECKING:
    from pathlib import Path


class Effort(Protocol):
    """Chooses how many examples are tried."""

    def __call__(self, *, quick: int, deep: int, steps: int = 30) -> settings:
        """Make the settings; ``steps`` is the longest history of a state machine."""
        ...


@pytest.fixture(
    params=["quick", pytest.param("deep", marks=[pytest.mark.slow, pytest.mark.timeout(3_600)])],
)
def effort(request) -> Effort:
    """Give the settings of this depth: the same examples every time, or many new ones that a printed seed repeats."""
    is_deep = request.param == "deep"

    def choose(*, quick: int, deep: int, steps: int = 30) -> settings:
        return settings(
            max_examples=deep if is_deep else quick,
            stateful_step_count=steps * (2 if is_deep else 1),
            derandomize=not is_deep,
            database=None,
            # To make a failure small takes minutes: the quick run says at once that there is one.
            phases=(Phase.explicit, Phase.generate, *((Phase.shrink,) if is_deep else ())),
            print_blob=is_deep,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )

    return choose


@pytest.fixture
def folder(tmp_path) -> Path:
    """Give a folder in which every example makes one of its own."""
    path: Path = tmp_path / "labs"
    path.mkdir()
    return path
