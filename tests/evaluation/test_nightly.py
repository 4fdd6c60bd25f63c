"""The example of the README: a nightly suite over two models, with noise that is none of its business and a fall that is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from batchkit.emulator import Scenario
from batchkit.emulator.faults.answers import WrongAnswers
from tests.cli.conftest import _own_folder, batchkit, open_emulator

__all__ = ["_own_folder", "batchkit", "open_emulator"]

NIGHTLY = Path(__file__).parents[1] / "data" / "nightly"
CONTENTS = ('{"label":"positive"}', '{"label":"negative"}')
SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"


@pytest.fixture
def suite() -> Path:
    """Copy the example into the working folder."""
    shutil.copytree(NIGHTLY, "nightly")
    return Path("nightly/reviews.yaml")


@pytest.mark.slow
def test_three_nights(batchkit, open_emulator, suite):
    """The first has nothing to compare with, the second is as bad in other rows, on the third the small model is worse."""
    emulator = open_emulator()
    ended = []
    for night in ("first", "noise", "worse"):
        emulator.set_scenario(suite.parent / f"{night}.toml")
        ended.append(batchkit("eval", suite, "--no-prefect"))
    assert [night.code for night in ended] == [0, 0, 5], ended
    assert "reviews-3: regressed: accuracy of openai/gpt-oss-20b fell by" in ended[2].out
    assert "accuracy of openai/gpt-oss-120b fell" not in ended[2].out
    assert (suite.parent / "reviews-3.html").exists()


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_falls_are_found_and_noise_is_not_from_end_to_end(batchkit, open_emulator, suite):
    """Ten nights after a first one: five with other mistakes as often, five with a model that got worse; none is mistaken."""
    emulator = open_emulator()
    codes = []
    for night in range(11):
        falls = night % 2 == 0 and night > 0
        faults = (
            WrongAnswers(contents=CONTENTS, fraction=0.22 if falls else 0.08, models=frozenset({SMALL})),
            WrongAnswers(contents=CONTENTS, fraction=0.08, models=frozenset({LARGE})),
        )
        emulator.set_scenario(Scenario(seed=20 + night, faults=faults))
        codes.append(batchkit("eval", suite, "--no-prefect").code)
    assert codes == [0, *[0, 5] * 5]
