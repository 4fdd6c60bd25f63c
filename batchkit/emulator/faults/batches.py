"""Faults in the life of a batch (how it is validated, run and ended) and in its JSON object."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from batchkit.emulator.faults.base import BatchFault

if TYPE_CHECKING:
    from batchkit.emulator.contract.rules import BatchRules

_TERMINAL = ("completed", "failed", "expired", "cancelled")
_FILE_KEYS = ("output_file_id", "error_file_id")


class ShuffleOutput(BatchFault):
    """The lines of the result files are not in the order of the requests."""

    name: ClassVar[str] = "shuffle-output"

    def govern(self, rules: BatchRules) -> BatchRules:
        """Shuffle the files before they are published."""
        return replace(rules, shuffled=True)


class SlowBatches(BatchFault):
    """Batches take longer: in validation, for each line, or in finalizing when everything is done already."""

    name: ClassVar[str] = "slow-batches"
    validating_seconds: float | None = Field(default=None, ge=0, description="provider seconds in validating")
    seconds_per_line: float | None = Field(default=None, ge=0, description="provider seconds for each line")
    finalizing_seconds: float | None = Field(default=None, ge=0, description="provider seconds in finalizing")

    def govern(self, rules: BatchRules) -> BatchRules:
        """Replace the durations that were given."""
        given = {
            field: getattr(self, field) for field in ("validating_seconds", "seconds_per_line", "finalizing_seconds")
        }
        return replace(rules, **{field: value for field, value in given.items() if value is not None})


class StuckBatches(BatchFault):
    """Batches stay in one status forever, past expires_at; nothing is executed unless they are stuck in finalizing."""

    name: ClassVar[str] = "stuck-batches"
    status: Literal["validating", "in_progress", "finalizing"] = Field(
        default="in_progress", description="the status they stay in"
    )

    def govern(self, rules: BatchRules) -> BatchRules:
        """Stay in the status."""
        return replace(rules, stuck_in=self.status)


class SlowCancel(BatchFault):
    """A cancellation takes minutes, and the batch may still end as completed."""

    name: ClassVar[str] = "slow-cancel"
    seconds: float = Field(default=600, ge=0, description="provider seconds in cancelling")
    ends_as: Literal["cancelled", "completed"] = Field(default="cancelled", description="the final status")

    def govern(self, rules: BatchRules) -> BatchRules:
        """Lengthen the cancellation."""
        return replace(rules, cancelling_seconds=self.seconds, cancel_ends_as=self.ends_as)


class SkipBadLines(BatchFault):
    """Lines that fail validation are left out and listed in errors while the rest of the batch runs."""

    name: ClassVar[str] = "skip-bad-lines"

    def govern(self, rules: BatchRules) -> BatchRules:
        """Run the remaining lines."""
        return replace(rules, bad_lines="skip_lines")


class AllowDuplicateIds(BatchFault):
    """A custom_id that occurs twice in the input is accepted and both lines run."""

    name: ClassVar[str] = "allow-duplicate-ids"

    def govern(self, rules: BatchRules) -> BatchRules:
        """Accept them."""
        return replace(rules, duplicate_custom_ids="run")


class SingleEndpoint(BatchFault):
    """Files may not be mixed: every line's url must equal the batch's endpoint, and all must name one model."""

    name: ClassVar[str] = "single-endpoint"
    model_too: bool = Field(default=False, description="also refuse a second model in one file")

    def govern(self, rules: BatchRules) -> BatchRules:
        """Refuse mixed files at validation."""
        return replace(rules, single_url=True, single_model=self.model_too)


class RefuseModels(BatchFault):
    """Models are gone between upload and run: lines that name them fail the batch's validation with model_not_found."""

    name: ClassVar[str] = "refuse-models"
    models: frozenset[str] = Field(description="the model ids")

    def govern(self, rules: BatchRules) -> BatchRules:
        """Refuse the models at validation."""
        return replace(rules, refused_models=rules.refused_models | self.models)


class FailBatches(BatchFault):
    """Batches are accepted and then fail validation as a whole, for example with token_limit_exceeded when the queue is full."""

    name: ClassVar[str] = "fail-batches"
    code: str = Field(default="token_limit_exceeded", description="the code in errors")
    message: str = Field(
        default="Enqueued token limit reached for this organization. Please try again once some in_progress batches have completed.",
        description="the message in errors",
    )
    line: int | None = Field(default=None, ge=1, description="the input line it names")

    def govern(self, rules: BatchRules) -> BatchRules:
        """Refuse the batch at validation."""
        return replace(rules, refusal={"code": self.code, "message": self.message, "param": None, "line": self.line})


class LostInput(BatchFault):
    """The input file is gone when the batch is validated, although the create that names it was accepted."""

    name: ClassVar[str] = "lost-input"

    def govern(self, rules: BatchRules) -> BatchRules:
        """Fail the batch as if its file had been deleted."""
        return replace(rules, input_lost=True)


class UnlistedLines(BatchFault):
    """Requests that a window's end or a cancellation left unexecuted appear in neither file."""

    name: ClassVar[str] = "unlisted-lines"
    expired: bool = Field(default=True, description="leave out expired lines")
    cancelled: bool = Field(default=True, description="leave out cancelled lines")

    def govern(self, rules: BatchRules) -> BatchRules:
        """Leave them out of the error file."""
        return replace(
            rules,
            expired_lines_listed=rules.expired_lines_listed and not self.expired,
            cancelled_lines_listed=rules.cancelled_lines_listed and not self.cancelled,
        )


class EmptyFiles(BatchFault):
    """Ended batches name an output and an error file even if these are empty."""

    name: ClassVar[str] = "empty-files"

    def govern(self, rules: BatchRules) -> BatchRules:
        """Publish both files always."""
        return replace(rules, empty_files=frozenset({"output", "error"}))


class NoFileAs(BatchFault):
    """A missing file id is written as an empty string, as {}, or its key is absent."""

    name: ClassVar[str] = "no-file-as"
    value: Literal["empty", "object", "absent"] = Field(default="empty", description="how 'no file' is written")

    def show(self, shown: dict[str, Any]) -> None:
        """Rewrite the file ids that are null."""
        for key in _FILE_KEYS:
            if shown.get(key) is None:
                if self.value == "absent":
                    shown.pop(key, None)
                else:
                    shown[key] = "" if self.value == "empty" else {}


class HideFiles(BatchFault):
    """Ended batches do not name a result file although it exists."""

    name: ClassVar[str] = "hide-files"
    keys: frozenset[Literal["output_file_id", "error_file_id"]] = Field(
        default=frozenset({"output_file_id"}), description="the keys shown as null"
    )

    def show(self, shown: dict[str, Any]) -> None:
        """Blank the ids."""
        for key in self.keys:
            shown[key] = None


class LateFiles(BatchFault):
    """Ended batches name their result files only some time after their end."""

    name: ClassVar[str] = "late-files"
    seconds: float = Field(default=600, ge=0, description="provider seconds between the end and the ids")

    def govern(self, rules: BatchRules) -> BatchRules:
        """Delay the ids."""
        return replace(rules, files_named_after_seconds=self.seconds)


class LyingCounts(BatchFault):
    """request_counts of an ended batch are wrong."""

    name: ClassVar[str] = "lying-counts"
    say: Literal["all-completed", "none-failed", "zeros", "null", "absent"] = Field(
        default="all-completed", description="the counts that are shown"
    )

    def show(self, shown: dict[str, Any]) -> None:
        """Rewrite the counts."""
        if shown.get("status") not in _TERMINAL:
            return
        counts = shown["request_counts"]
        match self.say:
            case "all-completed":
                shown["request_counts"] = {"completed": counts["total"], "failed": 0, "total": counts["total"]}
            case "none-failed":
                shown["request_counts"] = {**counts, "failed": 0}
            case "zeros":
                shown["request_counts"] = {"completed": 0, "failed": 0, "total": 0}
            case "null":
                shown["request_counts"] = None
            case "absent":
                del shown["request_counts"]


class ErrorsShape(BatchFault):
    """The errors of a batch are an object with data, {} where there are none, or null although there are some."""

    name: ClassVar[str] = "errors-shape"
    shape: Literal["object", "empty-object", "null"] = Field(
        default="object", description="object: {object, data}; empty-object: {} instead of null; null: never shown"
    )

    def show(self, shown: dict[str, Any]) -> None:
        """Rewrite the bare list that is the default."""
        errors = shown.get("errors")
        if self.shape == "null":
            shown["errors"] = None
        elif errors is None:
            shown["errors"] = {} if self.shape == "empty-object" else None
        else:
            shown["errors"] = {"object": "list", "data": errors}


class ErrorsOnCompleted(BatchFault):
    """Completed batches carry an entry in errors although they ran."""

    name: ClassVar[str] = "errors-on-completed"

    def show(self, shown: dict[str, Any]) -> None:
        """Add the entry that Groq's documentation shows on a completed batch."""
        if shown.get("status") == "completed" and not shown.get("errors"):
            message = "Invalid value: 'GET'. Supported values are: 'POST'"
            shown["errors"] = [{"code": "invalid_method", "message": message, "param": "method", "line": 4}]


class SparseTimestamps(BatchFault):
    """Timestamps are null although the batch has passed the status."""

    name: ClassVar[str] = "sparse-timestamps"
    keys: frozenset[str] = Field(
        default=frozenset({"finalizing_at", "cancelling_at", "in_progress_at"}), description="the keys shown as null"
    )

    def show(self, shown: dict[str, Any]) -> None:
        """Blank the timestamps."""
        for key in self.keys:
            shown[key] = None


class SkipStatuses(BatchFault):
    """Polls never see the statuses between validating and the end."""

    name: ClassVar[str] = "skip-statuses"
    hidden: frozenset[Literal["in_progress", "finalizing", "cancelling"]] = Field(
        default=frozenset({"in_progress", "finalizing"}), description="the statuses shown as validating"
    )

    def show(self, shown: dict[str, Any]) -> None:
        """Show the first status until the end."""
        if shown.get("status") in self.hidden:
            shown["status"] = "validating"
            shown["request_counts"] = {"completed": 0, "failed": 0, "total": 0}


class RenameStatus(BatchFault):
    """A status has a name that no documentation knows."""

    name: ClassVar[str] = "rename-status"
    status: str = Field(default="in_progress", description="the documented name")
    shown: str = Field(default="queued", description="the name that is shown")

    def show(self, shown: dict[str, Any]) -> None:
        """Replace the name."""
        if shown.get("status") == self.status:
            shown["status"] = self.shown


class ExtraFields(BatchFault):
    """Batch objects carry fields that no documentation names."""

    name: ClassVar[str] = "extra-fields"
    fields: dict[str, Any] = Field(
        default={"model": "openai/gpt-oss-20b", "usage": {"input_tokens": 0, "total_tokens": 0}, "region": None},
        description="the fields and their values",
    )

    def show(self, shown: dict[str, Any]) -> None:
        """Add the fields."""
        shown.update(self.fields)


class OmitFields(BatchFault):
    """Batch objects lack fields that the documentation names."""

    name: ClassVar[str] = "omit-fields"
    fields: frozenset[str] = Field(
        default=frozenset({"metadata", "errors", "project_id", "finalizing_at"}), description="the absent keys"
    )

    def show(self, shown: dict[str, Any]) -> None:
        """Remove the fields."""
        for key in self.fields:
            shown.pop(key, None)


class SkewedClock(BatchFault):
    """The provider's times differ from the client's clock by a constant."""

    name: ClassVar[str] = "skewed-clock"
    seconds: float = Field(default=-3600, description="added to every timestamp of a batch; negative is the past")

    def show(self, shown: dict[str, Any]) -> None:
        """Shift every timestamp."""
        for key, value in shown.items():
            if key.endswith("_at") and value is not None:
                shown[key] = int(value + self.seconds)


class GoneBatches(BatchFault):
    """Batches are not found any more, by id or in the list, as after their retention ran out."""

    name: ClassVar[str] = "gone-batches"
    statuses: frozenset[str] = Field(default=frozenset(_TERMINAL), description="the statuses in which they are gone")
    status: Literal[200, 404] = Field(default=404, description="the HTTP status that the error object comes with")

    def govern(self, rules: BatchRules) -> BatchRules:
        """Change the answer."""
        return replace(rules, gone_status=self.status)

    def hides(self, status: str, listings: int, *, in_list: bool) -> bool:  # noqa: ARG002 - the hook's signature
        """Hide the batch."""
        return status in self.statuses


class AbsentBatches(BatchFault):
    """A batch cannot be found for a moment, by id or in the list, and appears again afterwards."""

    name: ClassVar[str] = "absent-batches"
    listings: frozenset[int] = Field(
        default=frozenset({1}),
        description="hidden from the n-th list call (from 1) after its creation until the next list call",
    )

    def hides(self, status: str, listings: int, *, in_list: bool) -> bool:  # noqa: ARG002 - the hook's signature
        """Hide the batch at the given times."""
        return listings in self.listings


class ListLag(BatchFault):
    """A batch just created is missing from the list at first, though it can be read by its id."""

    name: ClassVar[str] = "list-lag"
    calls: int = Field(default=1, ge=1, description="the number of list calls after its creation that do not show it")

    def hides(self, status: str, listings: int, *, in_list: bool) -> bool:  # noqa: ARG002 - the hook's signature
        """Hide the batch from the first list calls."""
        return in_list and listings <= self.calls


class CancelEnded(BatchFault):
    """Cancelling a batch that has ended is answered with another status than the provider's."""

    name: ClassVar[str] = "cancel-ended"
    status: Literal[200, 400, 409] = Field(default=200, description="the HTTP status")

    def govern(self, rules: BatchRules) -> BatchRules:
        """Change the answer."""
        return replace(rules, cancel_ended_status=self.status)
