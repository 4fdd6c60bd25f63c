"""The runner that every command works with: the verbs that make, adopt and clean workloads; its bases read and drive them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from batchkit.engine import composition, promising
from batchkit.engine.driving import WorkloadDriving
from batchkit.engine.guards import check_split
from batchkit.engine.records import SHORT_WAIT_SECONDS
from batchkit.files.spool import scratch_folder
from batchkit.models import ReuseMode
from batchkit.owners import is_certainly_dead
from batchkit.steps import adopt, adopted_files, clean, split, split_plan
from batchkit.steps.adopted_rest import adopted_facts
from batchkit.steps.request_digests import RequestDigests
from batchkit.steps.reuse import ValidAnswers
from batchkit.steps.reuse_plan import PlannedReuse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from batchkit.engine.deadline import DeadlinePlan
    from batchkit.models import BatchId, Workload, WorkloadId
    from batchkit.preflight import ModelShare
    from batchkit.steps.adopted_rest import AdoptedFacts
    from batchkit.steps.context import StepReport
    from batchkit.steps.split import SplitOptions
    from batchkit.steps.split_plan import SplitPlan


class Runner(WorkloadDriving):
    """Everything that a command or a flow needs; open it once, and close it at the end (or use ``with``).

    ``clock`` returns Unix seconds and ``wait`` sleeps for seconds; tests pass their own. ``verb`` is the command of this process,
    which the status shows. An unreachable database is waited for, even while the runner is opened. Raises ``ConfigurationError``
    for a database that does not exist, ``StoreUnusable``, and after ``outage_seconds`` ``StoreUnavailable`` or ``RowsHeld``.
    """

    def plan(
        self,
        sources: Sequence[Path],
        options: SplitOptions,
        *,
        advance: Callable[[int], None],
        reuse: PlannedReuse | None = None,
    ) -> SplitPlan:
        """Check the input and return how it would be cut; store and send nothing. ``advance`` takes the number of lines read.

        ``reuse`` tells which requests would not be sent.
        """
        promising.check_lane(options)
        composition.check_sizes(self.settings, options)
        return split_plan.plan(
            sources,
            options=options,
            defaults=composition.split_defaults(self.settings),
            advance=advance,
            reuse=reuse,
        )

    def deadline_plan(self, plan: SplitPlan, options: SplitOptions) -> DeadlinePlan | None:
        """Return what the deadline that the options name means for the requests of a plan; None when they name none."""
        return composition.deadline_plan(self.settings, options, plan.shares, lane=plan.lane, now=self.clock())

    def split(
        self,
        sources: Sequence[Path],
        *,
        name: str,
        options: SplitOptions,
        advance: Callable[[int], None] = lambda _lines: None,
        waiting: Callable[[], None] = lambda: None,
        blanks: Callable[[int], None] = lambda _lines: None,
        accept: Callable[[Collection[str]], None] = lambda _models: None,
        keep: Mapping[str, Path] | None = None,
        planned: Callable[[Mapping[str, ModelShare], DeadlinePlan], object] = lambda _shares, _plan: None,
    ) -> Workload:
        """Make sure that the workload exists and is completely split; with the same input again this is a no-op.

        ``advance`` takes how many more lines were read; ``waiting`` is called while another runner is splitting. ``accept`` takes
        the models before the split is complete, and may raise ``UsageError``. ``blanks`` takes the number of blank lines, if there
        are any, when this call has split the input. ``keep`` maps the names of ``kept_file`` to files that the workload keeps until
        it is cleaned. ``planned`` takes the requests of a new workload with a deadline, by model, and what that means, before
        anything is stored; one that cannot be met raises ``UsageError``.
        After an outage of the database the split starts again. Raises ``InputInvalid`` and ``WorkloadConflict``, and
        ``StoreUnavailable`` after an outage of ``outage_seconds``; nothing is sent.
        """
        promising.check_lane(options)
        composition.check_sizes(self.settings, options)
        self._wait_for_store(self._leases.hold)
        options = replace(options, reuse_scope=composition.reuse_scope(self.settings, options))
        options = self._promised(sources, name, options, planned)
        while True:
            workload = self._wait_for_store(
                partial(
                    split.split,
                    self._context(),
                    sources,
                    name=name,
                    options=options,
                    defaults=composition.split_defaults(self.settings),
                    advance=advance,
                    blanks=blanks,
                    accept=accept,
                    keep=keep,
                )
            )
            if workload is not None:
                return workload
            waiting()
            self._wait(SHORT_WAIT_SECONDS)

    def _promised(
        self,
        sources: Sequence[Path],
        name: str,
        options: SplitOptions,
        planned: Callable[[Mapping[str, ModelShare], DeadlinePlan], object],
    ) -> SplitOptions:
        """Return the options with what the deadline of a new workload means. The deadline of one that exists stays as it is."""
        if not options.has_deadline and options.late is None:
            return options
        known = self.known(name)
        if known is not None and known.request_count is not None:
            return options
        promising.check_late(options)
        reuse = None
        if options.reuse_mode is not ReuseMode.OFF:
            digests = RequestDigests(
                options.reuse_mode, scope=options.reuse_scope, is_of_table=options.recipe is not None
            )
            reuse = PlannedReuse(digests, ValidAnswers(self.store, options.answer_rules))
        plan = self.plan(sources, options, advance=lambda _lines: None, reuse=reuse)
        found = self.deadline_plan(plan, options)
        if found is None:
            return options
        if options.refuses_impossible:
            promising.check_possible(found)
        planned(plan.shares, found)
        return promising.promised(options, found)

    def adopt(
        self,
        ids: Sequence[BatchId],
        *,
        name: str,
        options: SplitOptions,
        separate: bool = False,
        requests: Sequence[Path] = (),
        outputs: Sequence[Path] = (),
        errors: Sequence[Path] = (),
        note: Callable[[str], object] = lambda _text: None,
        waiting: Callable[[], None] = lambda: None,
    ) -> Workload:
        """Make sure that the workload of these batches exists; with the same batches again this is a no-op. Nothing is sent.

        ``requests`` are files of requests, used for batches whose input the provider does not have. ``outputs`` and ``errors`` are
        files of answers: with them there are no ids, and nothing is asked of the provider. ``note`` takes sentences about what is
        missing or odd. Raises ``UsageError``, ``WorkloadConflict`` and ``InputUnreadable``, and then nothing is stored.
        """
        composition.check_sizes(self.settings, options)
        self._wait_for_store(self._leases.hold)
        context = self._context()
        with self.scratch() as folder:
            imported = None
            if not ids:
                batch, answers = adopt.files_as_batch(outputs, errors, folder)
                imported = adopted_files.imported(batch, answers, requests, folder)
                ids = [batch.id]
            find = partial(adopt.find_adopted, context, name, ids)
            known = self._wait_for_store(find)
            if known is not None:
                return known
            if imported is None:
                found = adopted_files.read_batches(context, ids)
                imported = adopted_files.fetch_files(context, found, folder, given=requests)
            adoption = adopt.prepare(context, imported.adopted, separate=separate)
            for text in (*imported.notes, *adoption.index.notes()):
                note(text)
            make = partial(
                adopt.adopt,
                context,
                adoption,
                name=name,
                options=options,
                defaults=composition.split_defaults(self.settings),
            )
            while (workload := self._wait_for_store(make)) is None:
                waiting()
                self._wait(SHORT_WAIT_SECONDS)
                workload = self._wait_for_store(find)
                if workload is not None:
                    break
            return workload

    def adopted(self, workload_id: WorkloadId) -> AdoptedFacts:
        """Return how the requests of a workload of adopted batches failed, and what ``resubmit`` would send. Raises ``SpoolError``."""
        return adopted_facts(self._context(is_local=True), workload_id)

    def kept_file(self, workload: Workload, name: str) -> Path:
        """Return the path of a file that the workload keeps. Raises ``SpoolError`` when it is lost."""
        return self.spool.kept(f"{workload.directory}/{name}")

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a folder for files that only the ``with`` block needs; the folders of killed processes are deleted."""
        with scratch_folder(self.settings.home, self.owner, is_dead=is_certainly_dead) as folder:
            yield folder

    def clean(self, name: str, *, keep_results: bool, with_adopted: bool = False) -> StepReport:
        """Delete a finished workload's files in the spool and at the provider, and its rows unless ``keep_results``.

        Files of adopted batches stay at the provider unless ``with_adopted``. Everything of an interrupted split is deleted. Raises ``SplitUnfinished`` while another command is splitting it.
        """
        self._leases.hold()
        workload = self.find(name)
        if workload.request_count is None and not self._leases.take_split(workload.id):
            check_split(self.store, workload.id, now=self.clock())
            workload = self.find(name)
        is_local = clean.is_local(self.store, workload, with_adopted=with_adopted)
        return clean.clean(
            self._context(is_local=is_local),
            workload,
            keep_results=keep_results and workload.request_count is not None,
            with_adopted=with_adopted,
        )
