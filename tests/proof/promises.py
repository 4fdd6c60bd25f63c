"""The promises of the README, checked afterwards: from the export, the database, the ledger and every file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect

from batchkit.lifecycle import DOUBTFUL
from batchkit.provider.base import METADATA_KEY
from tests.proof.harness import KEY, take_snapshot
from tests.proof.scenarios import LABELLED, OUTPUT
from tests.workloads import read_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.proof.harness import DatabaseSnapshot, ProofHarness

_MEMORY_SLACK = 1.3


@dataclass
class Violations:
    """The result of a check: counts of lost, repeated and misplaced answers, and a sentence for each broken promise."""

    lost: int = 0
    bought_twice: int = 0
    wrong_rows: int = 0
    broken: list[str] = field(default_factory=list)

    def add(self, promise: int, sentence: str) -> None:
        """Record a broken promise."""
        self.broken.append(f"promise {promise}: {sentence}")

    @property
    def is_clean(self) -> bool:
        """Return whether every promise was kept."""
        return not (self.lost or self.bought_twice or self.wrong_rows or self.broken)

    def __str__(self) -> str:
        if self.is_clean:
            return "every promise held"
        return f"{self.lost} lost, {self.bought_twice} bought twice, {self.wrong_rows} wrong rows; {'; '.join(self.broken)}"


@dataclass(frozen=True)
class ExpectedOutcome:
    """The expected result: the requests in input order, the failing ones, and the number of executions.

    ``failing`` maps custom_ids to error codes; None: those for which the ledger has no answer. ``successes`` maps a custom_id
    to the number of answers bought, if more than 1 because the first answers are invalid. ``rows`` are the rows of the table,
    one for each request, if the input was a table. With ``is_sync`` they were single calls, all or some.
    """

    requests: Sequence[dict[str, Any]]
    failing: Mapping[str, str] | None
    executions: Mapping[str, int] | None
    successes: Mapping[str, int] = field(default_factory=dict)
    rows: Sequence[dict[str, Any]] = ()
    is_sync: bool = False


def check_promises(
    harness: ProofHarness, expected: ExpectedOutcome, before: Sequence[DatabaseSnapshot], *, with_errors: bool = False
) -> Violations:
    """Check everything that a finished workload left; ``before`` are the snapshots taken after each kill.

    ``with_errors`` allows tracebacks in the output, because errors were injected.
    """
    violations = Violations()
    exported = read_lines(harness.folder / OUTPUT) if (harness.folder / OUTPUT).exists() else []
    ledger = harness.ledger()
    failing = expected.failing
    if failing is None:
        failing = {custom_id: "" for custom_id in ledger.executed if not ledger.successes.get(custom_id)}
    _one_result_each(violations, expected.requests, exported, failing)
    _right_rows(violations, expected.requests, exported)
    if expected.rows:
        _same_in_the_table(violations, harness, expected.rows, exported)
    after = take_snapshot(harness)
    _no_success_changed(violations, before, after)
    if expected.is_sync:
        _bought_at_most_what_is_told(violations, harness, len(expected.requests))
    else:
        _bought_once(violations, harness, expected)
    _all_is_done(violations, harness)
    _no_key(violations, harness, after)
    if not with_errors:
        _no_bug(violations, harness)
    return violations


def _one_result_each(
    violations: Violations,
    requests: Sequence[dict[str, Any]],
    exported: Sequence[dict[str, Any]],
    failing: Mapping[str, str],
) -> None:
    wanted = [request["custom_id"] for request in requests]
    got = [line["custom_id"] for line in exported]
    violations.lost += len(set(wanted) - set(got))
    if got != wanted:
        violations.add(
            1, f"the export has {len(got)} lines instead of one for each of {len(wanted)} requests in input order"
        )
    for line in exported:
        status = "failed" if line["custom_id"] in failing else "succeeded"
        if line["status"] != status:
            violations.lost += 1
            violations.add(1, f"{line['custom_id']} is {line['status']}, not {status}")
        elif status == "failed" and failing[line["custom_id"]] not in {"", line["error"]["code"]}:
            violations.add(1, f"{line['custom_id']} failed with {line['error']['code']}")


def _right_rows(violations: Violations, requests: Sequence[dict[str, Any]], exported: Sequence[dict[str, Any]]) -> None:
    questions = {request["custom_id"]: question_of(request) for request in requests}
    for line in exported:
        if line["status"] == "succeeded" and questions[line["custom_id"]] not in answer_of(line):
            violations.wrong_rows += 1


def _same_in_the_table(
    violations: Violations, harness: ProofHarness, rows: Sequence[dict[str, Any]], exported: Sequence[dict[str, Any]]
) -> None:
    path = harness.folder / LABELLED
    labelled = read_lines(path) if path.exists() else []
    if [{name: line[name] for name in rows[0]} for line in labelled] != list(rows):
        violations.add(1, f"the table has {len(labelled)} rows instead of the {len(rows)} input rows in input order")
    for row, line in zip(labelled, exported, strict=False):
        answer = answer_of(line) if line["status"] == "succeeded" else None
        error = line["error"]["code"] if line["error"] else None
        if (row["answer"], row["status"], row["error"]) != (answer, line["status"], error):
            violations.wrong_rows += 1


def question_of(request: dict[str, Any]) -> str:
    """Return the text that the emulator's answer repeats; requests with the same text ask the same."""
    body = request["body"]
    if "url" in body:
        return str(body["url"])
    content = body["messages"][0]["content"]
    return str(content)


def answer_of(line: dict[str, Any]) -> str:
    """Return the text of an answer."""
    body = line["response"]["body"]
    text: str = body["choices"][0]["message"]["content"] if "choices" in body else body["text"]
    return text


def _no_success_changed(violations: Violations, before: Sequence[DatabaseSnapshot], after: DatabaseSnapshot) -> None:
    """Compare the successes of the workloads that are still there: one that was cleaned, or half split, has gone with them."""
    for snapshot in before:
        changed = [
            place
            for place, row in snapshot.successes.items()
            if place[0] in after.workload_ids and after.successes.get(place) != row
        ]
        if changed:
            violations.add(3, f"the successes at {changed[:3]} were overwritten")


def _bought_once(violations: Violations, harness: ProofHarness, expected: ExpectedOutcome) -> None:
    ledger = harness.ledger()
    for custom_id, times in ledger.successes.items():
        violations.bought_twice += max(times - expected.successes.get(custom_id, 1), 0)
    # A failed validation executed nothing; a peer creates such a batch if its input file was deleted before.
    bought = [batch for batch in ledger.batches if batch.status != "failed"]
    # Without metadata of ours a batch is known by its file: each shard has one.
    keys = [(batch.metadata or {}).get(METADATA_KEY, batch.input_file_id) for batch in bought]
    if len(set(keys)) != len(keys):
        violations.add(4, f"{len(keys) - len(set(keys))} shards were bought as two batches")
    if expected.executions is not None:
        for request in expected.requests:
            custom_id = request["custom_id"]
            executions, wanted = ledger.executed.get(custom_id, 0), expected.executions.get(custom_id, 1)
            if executions != wanted:
                violations.add(4, f"{custom_id} was executed {executions} times, not {wanted}")


def _bought_at_most_what_is_told(violations: Violations, harness: ProofHarness, requests: int) -> None:
    """Compare the single calls that were bought twice with those that were reported in doubt; no batch has bought the same."""
    kinds = ", ".join(repr(kind.value) for kind in DOUBTFUL)
    with harness.database() as store:
        if store is None:
            return
        with store.read() as connection:
            query = f"SELECT count(*) FROM attempts WHERE kind IN ({kinds})"  # noqa: S608 - constants
            told = int(connection.exec_driver_sql(query).scalar_one())
    ledger = harness.ledger()
    calls = ledger.synchronous
    violations.bought_twice += max(calls.bought_twice - told, 0)
    in_both_lanes = ledger.totals.requests_succeeded + calls.executed - calls.bought_twice - requests
    violations.bought_twice += ledger.totals.bought_twice + max(in_both_lanes, 0)


def check_budget(violations: Violations, harness: ProofHarness, max_tokens: int) -> None:
    """Check that a command that its budget stopped has spent no more, and left nothing in flight."""
    with harness.database() as store:
        if store is None:
            violations.add(5, "there is no database")
            return
        with store.read() as connection:
            query = (
                "SELECT coalesce(sum(spent_tokens), 0), count(CASE WHEN state NOT IN ('planned', 'merged', 'withdrawn') THEN 1 END)"
                " FROM shards"
            )
            spent, left = connection.exec_driver_sql(query).one()
            query = "SELECT coalesce(sum(prompt_tokens + completion_tokens), 0) FROM results"
            used = connection.exec_driver_sql(query).scalar_one()
    if max(spent, used) > max_tokens:
        violations.add(4, f"{spent} tokens were spent, {used} by answers, of a budget of {max_tokens}")
    if left:
        violations.add(5, f"the budget stopped the command while {left} shards were in flight")


def _all_is_done(violations: Violations, harness: ProofHarness) -> None:
    with harness.database() as store:
        if store is None:
            violations.add(5, "there is no database")
            return
        with store.read() as connection:
            if not inspect(connection).has_table("shards"):
                violations.add(5, "there is no table of shards")
                return
            for table, ends in (
                ("shards", "'merged', 'withdrawn'"),
                ("requests", "'succeeded', 'failed', 'cancelled'"),
            ):
                query = f"SELECT count(*) FROM {table} WHERE state NOT IN ({ends})"  # noqa: S608 - both are constants
                if count := connection.exec_driver_sql(query).scalar_one():
                    violations.add(5, f"{count} {table} are unfinished")


def check_memory(violations: Violations, peak_bytes: int, baseline_bytes: int) -> None:
    """Compare the peak memory of the command that finished with the peak of an undisturbed one."""
    if peak_bytes > baseline_bytes * _MEMORY_SLACK:
        violations.add(6, f"the memory peaked at {peak_bytes:,} bytes, in the undisturbed run at {baseline_bytes:,}")


def _no_key(violations: Violations, harness: ProofHarness, snapshot: DatabaseSnapshot) -> None:
    if KEY in snapshot.text:
        violations.add(7, "the key is in the database")
    for path in harness.root.rglob("*"):
        if path.is_file() and KEY.encode() in path.read_bytes():
            violations.add(7, f"the key is in {path.relative_to(harness.root)}")


def _no_bug(violations: Violations, harness: ProofHarness) -> None:
    output = harness.output()
    for text in ("Traceback", "bug in batchkit"):
        if text in output:
            violations.add(8, f"a command printed {text!r}: {output[-3000:]}")
