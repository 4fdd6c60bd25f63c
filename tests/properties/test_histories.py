"""Whatever comes back, in any order, any number of times, and after any death: the merge ends as promised."""

from __future__ import annotations

import csv
import json  # noqa: TID251 - reads with other eyes than the code under test
from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from batchkit.models import ShardState
from batchkit.steps import cancel, resubmit
from batchkit.steps.refusal import MAX_WAITS
from batchkit.store import shards, workloads
from tests.properties.accidents import Accidents
from tests.properties.endings import Script, scripts
from tests.properties.ideal import Fate, Ideal, Line, Says
from tests.properties.lab import LONG, Lab, content
from tests.properties.scripted import Ending, ScriptedProvider
from tests.properties.wording import TOKENS, chat_body, write
from tests.workloads import audio_line, chat_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batchkit.models import BatchId
    from batchkit.store.engine import Store

#: Ids that nearly match each other, and ids that careless matching would fold, trim, or take for numbers.
IDS = (
    *(
        "a",
        "A",
        " a",
        "a ",
        "\u00e9",
        "e\u0301",
        "0",
        "00",
        "1",
        "1.0",
        "true",
        "null",
        "\ufeffa",
        "\u6f22\u5b57",
        "\U0001f388",
    ),
    *(
        '"',
        "\\",
        "'",
        "%",
        "a\u2028b",
        "a/b",
        "x" * 64,
        "x" * 512,
        "\u212a",
        "k",
        "stra\u00dfe",
        "strasse",
        "row-1",
        "row-10",
    ),
)
#: More rounds than any history needs to finish once everything is answered.
ROUNDS = 60

inputs = st.lists(
    st.tuples(st.sampled_from(IDS), st.booleans()), min_size=1, max_size=9, unique_by=lambda pair: pair[0]
)
owners = st.sampled_from("ab")
deaths = st.tuples(st.just("death"), st.integers(0, 25))
accidents = deaths | st.tuples(st.just("turn"), st.integers(0, 5))


class History(RuleBasedStateMachine):
    """Rules apply the same action to the real parts and to the ideal ones; the invariants compare the two."""

    def __init__(self, store: Store, folder: Path, accidents: Accidents) -> None:
        super().__init__()
        self.accidents = accidents
        self.lab = Lab(store, folder, ScriptedProvider(self._may_be_bought))
        self.ideal = Ideal(1, 1)
        self.lines: dict[str, bytes] = {}
        self.scripts: dict[BatchId, Script] = {}
        self.merged: set[BatchId] = set()
        self.capacity_refusals = 0
        self.whole_refusals = 0
        self.steps = 0

    @initialize(
        lines=inputs,
        shard_lines=st.integers(1, 5),
        shard_bytes=st.sampled_from([1_500, 100_000_000]),
        budgets=st.tuples(st.integers(1, 3), st.integers(1, 4)),
        death=st.none() | deaths,
    )
    def split(self, lines, shard_lines, shard_bytes, budgets, death) -> None:
        """Split the input, at the second try if the first one dies."""
        self.ideal = Ideal(*budgets)
        for custom_id, is_audio in lines:
            self.ideal.fates[custom_id] = Fate()
            record = audio_line(custom_id) if is_audio else chat_line(custom_id)
            self.lines[custom_id] = json.dumps(record).encode()
        options = {
            "shard_lines": shard_lines,
            "shard_bytes": shard_bytes,
            "max_attempts": budgets[0],
            "max_expiries": budgets[1],
        }
        self._with_accident(death, "a", lambda owner: self.lab.split(content(self.lines.values()), owner, **options))
        self.lab.clock.advance(61)
        assert self.lab.split(content(self.lines.values()), "b", **options) is not None

    def _may_be_bought(self, data: bytes) -> None:
        for line in data.splitlines():
            custom_id = json.loads(line)["custom_id"]
            assert line == self.lines[custom_id]
            assert self.ideal.fates[custom_id].state == "open"

    @rule(owner=owners, limit=st.integers(1, 9), cut=st.none() | accidents)
    def resubmit_and_send(self, owner, limit, cut) -> None:
        """Resubmit returned requests, sometimes with an accident, and submit some shards to the provider."""
        self._with_accident(cut, owner, self.lab.resubmit)
        self.lab.send(owner, limit)

    @precondition(lambda self: self.lab.provider.running())
    @rule(data=st.data(), most=st.integers(1, 4))
    def end(self, data, most) -> None:
        """End some batches, each in any way."""
        for batch_id in self.lab.provider.running()[:most]:
            shard_requests = self.shard_requests(batch_id)
            misses = [f" {shard_requests[0]}", f"{shard_requests[0]} ", shard_requests[0].swapcase(), "nobody"]
            foreign = sorted({*self.lines, *misses} - set(shard_requests))
            script = data.draw(scripts(shard_requests, foreign, batch_id))
            if script.refusal == "token_limit_exceeded":
                # After eight in a row it counts as another kind of refusal; capacity waits have their own tests.
                if self.capacity_refusals == MAX_WAITS - 1:
                    continue
                self.capacity_refusals += 1
            self.scripts[batch_id] = script
            self.lab.provider.end(batch_id, script.ending)

    @precondition(lambda self: self.lab.provider.endings)
    @rule(owner=owners)
    def merge(self, owner) -> None:
        """Poll, and merge everything that has ended."""
        self.lab.look(owner)
        self.lab.merge(owner)
        self._note_merged()

    @rule(owner=owners, data=st.data())
    def round(self, owner, data) -> None:
        """Resubmit, end, and merge once, so that some requests have many attempts."""
        self.resubmit_and_send(owner, 9, None)
        self.end(data, 9)
        self.lab.clock.advance(LONG)
        self.merge(owner)

    @precondition(lambda self: len(self.lab.provider.endings) > len(self.merged))
    @rule(owner=owners, accident=accidents)
    def merge_with_an_accident(self, owner, accident) -> None:
        """Die in the middle of a merge, or lose the lease to another runner that takes over in it."""
        self.lab.look(owner)
        # One shard at a time: the position of one thread at the death of another cannot be reproduced.
        ids = self.lab.claim(owner, ShardState.ENDED, 1)
        self._with_accident(accident, owner, lambda owner: self.lab.merge(owner, ids))
        self._note_merged()

    def _with_accident(self, accident: tuple[str, int] | None, owner: str, work: Callable[[str], object]) -> None:
        match accident:
            case None:
                work(owner)
            case ("death", moment):
                with self.accidents.death_after(moment):
                    work(owner)
            case (_, moment):
                with self.accidents.turn_after(moment, lambda: self._overtake("a" if owner == "b" else "b")):
                    work(owner)

    def _overtake(self, other: str) -> None:
        self.lab.clock.advance(61)
        self.lab.merge(other)
        self._note_merged()
        self.lab.resubmit(other)
        self.lab.send(other)

    @precondition(lambda self: self.merged)
    @rule(owner=owners)
    def merge_again(self, owner) -> None:
        """Merge merged shards again: nothing happens."""
        merged = [shard.id for shard in self.lab.shards(ShardState.MERGED)]
        before = self.lab.everything()
        self.lab.merge(owner, merged)
        assert self.lab.everything() == before

    @rule(seconds=st.sampled_from([61.0, LONG]))
    def wait(self, seconds) -> None:
        """Advance the clock."""
        self.lab.clock.advance(seconds)

    @precondition(lambda self: self.steps > 8 and not self.ideal.is_cancelling)
    @rule(sure=st.integers(0, 3))
    def cancel(self, sure) -> None:
        """Cancel the workload (now and then)."""
        if sure:
            return
        with self.lab.store.write() as connection:
            cancel.request(connection, self.lab.workload(), at=self.lab.clock())
        cancel.cancel(self.lab.contexts["a"], self.lab.id)
        out = (self.shard_requests(batch_id) for batch_id in self.lab.provider.batches if batch_id not in self.merged)
        self.ideal.cancel({custom_id for shard_requests in out for custom_id in shard_requests})

    @precondition(lambda self: self.ideal.in_state("cancelled") or self.ideal.in_state("failed"))
    @rule(failed=st.booleans())
    def reopen(self, failed) -> None:
        """Reopen the lost requests."""
        with self.lab.store.write() as connection:
            resubmit.reopen(connection, self.lab.workload(), failed=failed, at=self.lab.clock())
        self.ideal.reopen(failed=failed)

    def shard_requests(self, batch_id: BatchId) -> list[str]:
        """Return the requests of a batch, by line."""
        return [json.loads(line)["custom_id"] for line in self.lab.provider.input_of(batch_id).splitlines()]

    def _note_merged(self) -> None:
        """Apply the meaning of the batches merged since the last call to the ideal."""
        for shard in self.lab.shards(ShardState.MERGED):
            assert shard.batch_id is not None
            if shard.batch_id in self.merged:
                continue
            self.merged.add(shard.batch_id)
            shard_requests, script = self.shard_requests(shard.batch_id), self.scripts[shard.batch_id]
            if script.refusal is None:
                self.ideal.batch_ran(shard_requests, script.lines, script.silence, script.named)
                continue
            failing = [shard_requests[place - 1] for place in script.named if place <= len(shard_requests)]
            if not failing and script.refusal != "token_limit_exceeded":
                self.whole_refusals += 1
                failing = shard_requests if len(shard_requests) == 1 else []
            self.ideal.batch_was_refused(shard_requests, failing)

    @invariant()
    def promises_hold(self) -> None:
        """Check everything after every step."""
        self.steps += 1
        self._check_buckets()
        self._check_counters()
        assert not self.lab.provider.bought or max(self.lab.provider.bought.values()) == 1

    def _check_buckets(self) -> None:
        """Every request has one final state, and it is the right one, with the right answer."""
        rows = self.lab.rows()
        assert [row.custom_id for row in rows] == list(self.ideal.fates)
        for row, fate in zip(rows, self.ideal.fates.values(), strict=True):
            state = "open" if row.state in ("pending", "in_flight") else row.state
            assert (row.custom_id, state) == (row.custom_id, fate.state)
            assert (row.result_shard_id is not None) == (state in ("succeeded", "failed"))
            if state == "succeeded":
                assert row.body is not None
                assert json.loads(row.body) == fate.answer
            if state == "failed":
                assert row.error_code
        with self.lab.store.read() as connection:
            counts = workloads.count_requests(connection, self.lab.workload())
            spent = shards.totals_by_state(connection, self.lab.id).values()
            assert shards.refused_count(connection, self.lab.id) == self.whole_refusals
        buckets = Counter(fate.state for fate in self.ideal.fates.values())
        assert counts.total == len(self.ideal.fates)
        assert counts.pending + counts.in_flight + counts.succeeded + counts.failed + counts.cancelled == counts.total
        assert counts.unresolved == buckets["open"]
        assert (counts.succeeded, counts.failed, counts.cancelled) == tuple(
            buckets[state] for state in ("succeeded", "failed", "cancelled")
        )
        assert tuple(
            sum(getattr(total, kind) for total in spent) for kind in ("prompt_tokens", "completion_tokens")
        ) == tuple(buckets["succeeded"] * part for part in TOKENS)

    def _check_counters(self) -> None:
        """Attempts and expiries are counted correctly and stay within both budgets; each failed attempt is recorded once."""
        counters = self.lab.counters()
        assert counters == {custom_id: (fate.attempts, fate.expiries) for custom_id, fate in self.ideal.fates.items()}
        for attempts, expiries in counters.values():
            assert attempts - expiries <= self.ideal.max_attempts
            assert expiries <= self.ideal.max_expiries
        lost = Counter(self.lab.lost_attempts())
        assert [lost[seq] for seq in range(len(self.ideal.fates))] == [fate.lost for fate in self.ideal.fates.values()]

    def teardown(self) -> None:
        """From any state the workload can finish, and the export matches the history."""
        if self.lab.workload_id is None:
            return
        for _ in range(ROUNDS):
            self.lab.resubmit()
            self.lab.send()
            for batch_id in self.lab.provider.running():
                self._answer_all(batch_id)
            self.lab.clock.advance(LONG)
            self.lab.look("b")
            self.lab.merge("b")
            self._note_merged()
            if not self.ideal.in_state("open"):
                break
        self.promises_hold()
        assert not self.ideal.in_state("open")
        self._check_exports()

    def _answer_all(self, batch_id: BatchId) -> None:
        lines = [
            Line(custom_id, Says.ANSWER, chat_body(f"last {custom_id}")) for custom_id in self.shard_requests(batch_id)
        ]
        script = Script(Ending(output=content(write(line, 0) for line in reversed(lines))), lines)
        self.scripts[batch_id] = script
        self.lab.provider.end(batch_id, script.ending)

    def _check_exports(self) -> None:
        told = [(custom_id, fate.state, fate.answer) for custom_id, fate in self.ideal.fates.items()]
        lines = self.lab.exported_lines()
        assert told == [
            (
                line["custom_id"],
                line["status"],
                line["response"]["body"] if line["status"] == "succeeded" else None,
            )
            for line in lines
        ]
        with self.lab.exported(".csv").open(encoding="utf-8", newline="") as handle:
            cells = [(row["custom_id"], row["status"], row["answer"]) for row in csv.DictReader(handle)]
        assert [cell[:2] for cell in cells] == [of_one[:2] for of_one in told]
        for (_, state, text), (_, _, answer) in zip(cells, told, strict=True):
            assert text == (answer["choices"][0]["message"]["content"] if state == "succeeded" else "")


def test_every_history_ends_as_promised(store, folder, effort):
    """Any cut, order, repetition and loss of lines, any end of a batch, any death and any overlap of two runners."""
    accidents = Accidents(store.engine)
    chosen = effort(quick=14, deep=600, steps=20) if store.is_sqlite else effort(quick=3, deep=100, steps=20)

    class Here(History):
        """A history in this store."""

        def __init__(self) -> None:
            super().__init__(store, folder, accidents)

    run_state_machine_as_test(Here, settings=chosen)
