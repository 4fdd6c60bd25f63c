"""The eight promises of the README, looked at after the fact: from the export, the database, the ledger and every byte left."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect

from tests.proof.stage import KEY, take_picture
from tests.proof.stories import LABELLED, OUTPUT
from tests.workloads import read_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.proof.stage import Picture, Stage

_MEMORY_SLACK = 1.3


@dataclass
class Verdict:
    """What was found broken: counts of the three things that cost money or truth, and a sentence for each broken promise."""

    lost: int = 0
    bought_twice: int = 0
    wrong_rows: int = 0
    broken: list[str] = field(default_factory=list)

    def breach(self, promise: int, sentence: str) -> None:
        """Note a broken promise."""
        self.broken.append(f"promise {promise}: {sentence}")

    @property
    def is_clean(self) -> bool:
        """Whether nothing at all was found."""
        return not (self.lost or self.bought_twice or self.wrong_rows or self.broken)

    def __str__(self) -> str:
        if self.is_clean:
            return "every promise held"
        return f"{self.lost} lost, {self.bought_twice} bought twice, {self.wrong_rows} wrong rows; {'; '.join(self.broken)}"


@dataclass(frozen=True)
class Ideal:
    """What must come out: the input in order, who fails for good (None: whom the ledger never answered), and exact rides.

    ``answers`` says of whom more than one answer is to be bought, because the first are bad, and how many. ``rows`` are those of the table, one for each request, where the input was one.
    """

    requests: Sequence[dict[str, Any]]
    failing: Mapping[str, str] | None
    rides: Mapping[str, int] | None
    answers: Mapping[str, int] = field(default_factory=dict)
    rows: Sequence[dict[str, Any]] = ()


def judge(stage: Stage, ideal: Ideal, before: Sequence[Picture], *, with_errors: bool = False) -> Verdict:
    """Look at everything that a finished workload left; ``before`` are the pictures that were taken after each death.

    ``with_errors`` says that errors were raised on purpose, so that tracebacks were shown.
    """
    verdict = Verdict()
    exported = read_lines(stage.folder / OUTPUT) if (stage.folder / OUTPUT).exists() else []
    ledger = stage.ledger()
    failing = ideal.failing
    if failing is None:
        failing = {custom_id: "" for custom_id in ledger.executed if not ledger.successes.get(custom_id)}
    _one_result_each(verdict, ideal.requests, exported, failing)
    _right_rows(verdict, ideal.requests, exported)
    if ideal.rows:
        _same_in_the_table(verdict, stage, ideal.rows, exported)
    after = take_picture(stage)
    _no_success_changed(verdict, before, after)
    _bought_once(verdict, stage, ideal)
    _all_is_done(verdict, stage)
    _no_key(verdict, stage, after)
    if not with_errors:
        _no_bug(verdict, stage)
    return verdict


def _one_result_each(
    verdict: Verdict, requests: Sequence[dict[str, Any]], exported: Sequence[dict[str, Any]], failing: Mapping[str, str]
) -> None:
    wanted = [request["custom_id"] for request in requests]
    got = [line["custom_id"] for line in exported]
    verdict.lost += len(set(wanted) - set(got))
    if got != wanted:
        verdict.breach(
            1, f"the export has {len(got)} lines, and not one for each of {len(wanted)} requests in input order"
        )
    for line in exported:
        expected = "failed" if line["custom_id"] in failing else "succeeded"
        if line["status"] != expected:
            verdict.lost += 1
            verdict.breach(1, f"{line['custom_id']} is {line['status']}, not {expected}")
        elif expected == "failed" and failing[line["custom_id"]] not in {"", line["error"]["code"]}:
            verdict.breach(1, f"{line['custom_id']} failed with {line['error']['code']}")


def _right_rows(verdict: Verdict, requests: Sequence[dict[str, Any]], exported: Sequence[dict[str, Any]]) -> None:
    questions = {request["custom_id"]: question_of(request) for request in requests}
    for line in exported:
        if line["status"] == "succeeded" and questions[line["custom_id"]] not in answer_of(line):
            verdict.wrong_rows += 1


def _same_in_the_table(
    verdict: Verdict, stage: Stage, rows: Sequence[dict[str, Any]], exported: Sequence[dict[str, Any]]
) -> None:
    path = stage.folder / LABELLED
    labelled = read_lines(path) if path.exists() else []
    if [{name: line[name] for name in rows[0]} for line in labelled] != list(rows):
        verdict.breach(1, f"the table has {len(labelled)} rows, and not each of {len(rows)} in input order")
    for row, line in zip(labelled, exported, strict=False):
        answer = answer_of(line) if line["status"] == "succeeded" else None
        error = line["error"]["code"] if line["error"] else None
        if (row["answer"], row["status"], row["error"]) != (answer, line["status"], error):
            verdict.wrong_rows += 1


def question_of(request: dict[str, Any]) -> str:
    """Pick what an answer of the emulator repeats, and what no other request says."""
    body = request["body"]
    if "url" in body:
        return str(body["url"])
    content = body["messages"][0]["content"]
    return str(content)


def answer_of(line: dict[str, Any]) -> str:
    """Pick the text of an answer."""
    body = line["response"]["body"]
    text: str = body["choices"][0]["message"]["content"] if "choices" in body else body["text"]
    return text


def _no_success_changed(verdict: Verdict, before: Sequence[Picture], after: Picture) -> None:
    for picture in before:
        changed = [place for place, row in picture.successes.items() if after.successes.get(place) != row]
        if changed:
            verdict.breach(3, f"the successes at {changed[:3]} were overwritten")


def _bought_once(verdict: Verdict, stage: Stage, ideal: Ideal) -> None:
    ledger = stage.ledger()
    for custom_id, times in ledger.successes.items():
        verdict.bought_twice += max(times - ideal.answers.get(custom_id, 1), 0)
    # A batch that failed validation executed nothing, such as one that a peer creates of an input file that was deleted before.
    bought = [batch for batch in ledger.batches if batch.status != "failed"]
    keys = [(batch.metadata or {}).get("batchkit_key") for batch in bought]
    if len(set(keys)) != len(keys):
        verdict.breach(4, f"{len(keys) - len(set(keys))} shards were bought as two batches")
    if ideal.rides is not None:
        for request in ideal.requests:
            custom_id = request["custom_id"]
            rides, wanted = ledger.executed.get(custom_id, 0), ideal.rides.get(custom_id, 1)
            if rides != wanted:
                verdict.breach(4, f"{custom_id} was executed {rides} times, not {wanted}")


def _all_is_done(verdict: Verdict, stage: Stage) -> None:
    with stage.database() as store:
        if store is None:
            verdict.breach(5, "there is no database")
            return
        with store.read() as connection:
            if not inspect(connection).has_table("shards"):
                verdict.breach(5, "there is no table of shards")
                return
            for table, ends in (
                ("shards", "'merged', 'withdrawn'"),
                ("requests", "'succeeded', 'failed', 'cancelled'"),
            ):
                query = f"SELECT count(*) FROM {table} WHERE state NOT IN ({ends})"  # noqa: S608 - both are constants
                if count := connection.exec_driver_sql(query).scalar_one():
                    verdict.breach(5, f"{count} {table} are left unfinished")


def check_memory(verdict: Verdict, peak_bytes: int, usual_bytes: int) -> None:
    """Compare the peak of the command that finished with that of an undisturbed one."""
    if peak_bytes > usual_bytes * _MEMORY_SLACK:
        verdict.breach(6, f"the memory peaked at {peak_bytes:,} bytes, usual are {usual_bytes:,}")


def _no_key(verdict: Verdict, stage: Stage, picture: Picture) -> None:
    if KEY in picture.text:
        verdict.breach(7, "the key is in the database")
    for path in stage.root.rglob("*"):
        if path.is_file() and KEY.encode() in path.read_bytes():
            verdict.breach(7, f"the key is in {path.relative_to(stage.root)}")


def _no_bug(verdict: Verdict, stage: Stage) -> None:
    output = stage.output()
    for words in ("Traceback", "bug in batchkit"):
        if words in output:
            verdict.breach(8, f"somebody was shown a {words!r}: {output[-3000:]}")
