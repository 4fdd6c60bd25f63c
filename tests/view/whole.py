"""A workload that really ran, through an emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.emulator import Emulator, Scenario
from batchkit.emulator.faults.lines import ExpireLines
from batchkit.engine.runtime import Runner
from batchkit.settings import load_settings
from batchkit.steps.split import SplitOptions
from tests.steps.conftest import QUICK, SPEED
from tests.workloads import chat_line, write_lines

if TYPE_CHECKING:
    from pathlib import Path


def run_whole(folder: Path, database_url: str) -> str:
    """Run three requests, of which the second one expires once; return the workload's name."""
    source = write_lines(
        folder / "asked.jsonl",
        [chat_line("first"), chat_line("twice", "What is the capital of <Peru>?", max_tokens=77), chat_line("third")],
    )
    faults = (ExpireLines(custom_ids=frozenset({"twice"}), attempts=1),)
    with Emulator(folder / "emulator", Scenario(faults=faults), speed=SPEED) as emulator:
        settings = load_settings(
            home=folder / "home",
            database_url=database_url,
            **{**QUICK, "api_key": emulator.api_key, "base_url": emulator.base_url},
        )
        with Runner(settings) as runner:
            workload = runner.split([source], name="asked", options=SplitOptions())
            runner.process(workload.id)
    return workload.name
