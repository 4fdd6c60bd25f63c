"""A flow annotates a table: it submits without waiting, the same flow finishes it later, and errors are readable."""

from __future__ import annotations

import asyncio
import csv
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from batchkit.emulator import Emulator, Scenario
from batchkit.emulator.scenarios.scenario import Reply
from batchkit.engine.runtime import Runner
from batchkit.settings import load_settings
from tests.flows.support import wait_until

# As for the other tests with a real engine.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

KIND = Scenario(replies=(Reply(match="(?i)love", content="kind"), Reply(match=".", content="unkind")))


@pytest.mark.patient
def test_a_flow_annotates_a_table_and_does_not_wait_in_between(prefect_api, prefect_server, tmp_path, monkeypatch):
    """The first run only submits, the next one finds the answers and writes every row; a wrong recipe costs nothing.

    Rows with nothing to ask are skipped; a query whose rows have changed in between is finished first, and only the new row is bought then.
    """
    from batchkit.flows.annotate import annotate  # noqa: PLC0415 - imports Prefect

    table, output = tmp_path / "reviews.csv", tmp_path / "labelled.csv"
    table.write_text("id,text\n1,I love it\n2,\n3,It broke\n")
    recipe: dict[str, Any] = {
        "prompts": [{"user": "Is this kind? {{ text }}"}],
        "models": ["openai/gpt-oss-20b"],
        "rules": {"format": "choice", "choices": ["kind", "unkind"]},
        "on_empty": "skip",
    }

    def state_of(given: dict[str, Any], until: str) -> Any:
        return asyncio.run(annotate([str(table)], given, output=str(output), until=until, return_state=True))

    with Emulator(tmp_path / "emulator", scenario=KIND, speed=432_000.0) as emulator:
        prefect_api(prefect_server.api_url)
        for name, value in {
            "GROQ_API_KEY": emulator.api_key,
            "BATCHKIT_BASE_URL": emulator.base_url,
            "BATCHKIT_HOME": str(tmp_path / "home"),
            "BATCHKIT_POLL_INTERVAL_SECONDS": "0.05",
        }.items():
            monkeypatch.setenv(name, value)

        wrong = state_of({**recipe, "models": [], "sample": 2}, "finished")
        assert wrong.is_failed()
        assert "models: " in wrong.message
        assert "sample: " in wrong.message
        onto_itself = asyncio.run(annotate([str(table)], recipe, output=str(table), return_state=True))
        assert onto_itself.is_failed()
        assert "is the input" in onto_itself.message
        assert table.read_text().startswith("id,text\n")
        assert not emulator.ledger().batches

        assert state_of(recipe, "submitted").name == "Unfinished"
        assert not output.exists()
        with Runner(load_settings()) as runner:
            (workload,) = runner.all_workloads()
            assert wait_until(lambda: state_of(recipe, "finished").name == "Completed")
            assert runner.all_workloads() == [runner.find(workload.name)]
        assert emulator.ledger().totals.requests_executed == 2
        assert answers_in(output) == ["kind", "", "unkind"]

        with closing(sqlite3.connect(tmp_path / "shop.db", isolation_level=None)) as shop:
            shop.executescript("CREATE TABLE t (text); INSERT INTO t VALUES ('They love it')")

            def ask(until: str) -> Any:
                place, query = [f"sqlite:///{tmp_path}/shop.db"], "SELECT * FROM t"
                flow = annotate(place, recipe, query=query, output=str(output), until=until, return_state=True)
                return asyncio.run(flow)

            assert ask("submitted").name == "Unfinished"
            shop.execute("INSERT INTO t VALUES ('It tore')")
            assert wait_until(lambda: ask("finished").name == "Completed")
        assert emulator.ledger().totals.requests_executed == 2 + 1 + 1
        assert answers_in(output) == ["kind", "unkind"]


def answers_in(path):
    """Read the answers of a file in order."""
    with path.open() as rows:
        return [row["answer"] for row in csv.DictReader(rows)]
