"""Every error that batchkit raises on purpose.

::

    BatchkitError
    ├── UsageError                the user's input cannot be used; nothing was sent          exit 2
    │   ├── ConfigurationError    a setting is missing or contradicts another
    │   │   └── WrongAddress      the base URL is not the address of a batch API
    │   ├── InputUnreadable       a file of the input is missing, damaged or of an unknown format
    │   ├── InputInvalid          lines of the input, all problems together
    │   ├── UnknownWorkload
    │   └── WorkloadConflict      the name is taken by a different input
    ├── SplitUnfinished           the input is not split whole, so nothing of it may be sent   exit 4
    ├── StoreError                the results store cannot be used now                       exit 4
    │   ├── BatchIdTaken          the provider gave a batch an id that belongs to another one
    │   ├── StateConflict         a guarded transition hit no row: another runner was faster
    │   ├── RowsHeld              another transaction holds a lock for too long
    │   └── StoreUnavailable      an outage
    │       └── StoreUnusable     waiting does not help: a damaged file, a missing right
    ├── SpoolError                a local file cannot be written or read                     exit 4
    └── ProviderError             the batch API                                              exit 4
        ├── ProviderUnreachable   the request was certainly not processed
        ├── OutcomeUnknown        sent, but no readable answer came back
        ├── TornDownload          fewer or other bytes than announced
        ├── ListingIncomplete     a list could not be read to its end
        └── ProviderRefused       a readable refusal: status, code, type and the provider's message
            ├── AccountRefused    402, blocked access, spend limits: all requests of the account are refused
            │   ├── Unauthorized  401
            │   └── Forbidden     403, among them ``not_available_for_plan``
            ├── NotFound          404, 410
            ├── TooLarge          413
            └── RateLimited       429 and 498, with ``retry_after_seconds`` when given

Exit codes are those of the command line: 2 nothing was sent, 4 not finished and the same command resumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pathlib import Path


class BatchkitError(Exception):
    """The base of all errors that are raised on purpose; ``hint`` says what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        # The arguments of a subclass differ from ``args``, so unpickling must not call its constructor.
        return _unpickled, (type(self), self.args, self.__dict__)


def one_line(error: Exception) -> str:
    """Return what an error is and what to do about it, in one line."""
    if isinstance(error, BatchkitError):
        return " ".join(filter(None, (error.message, error.hint and f"({error.hint})")))
    return f"{type(error).__name__}: {error}"


def _unpickled(kind: type[BatchkitError], args: tuple[Any, ...], attributes: dict[str, Any]) -> BatchkitError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class UsageError(BatchkitError):
    """The user's input cannot be used; nothing was sent."""

    exit_code = 2


class ConfigurationError(UsageError):
    """A setting is missing, malformed or contradicts another."""


class WrongAddress(ConfigurationError):
    """The base URL is not the address of a batch API."""


class UnknownWorkload(UsageError):
    """No workload of that name is in the store."""


class WorkloadConflict(UsageError):
    """The name belongs to a workload with a different input."""


class SplitUnfinished(BatchkitError):
    """The workload's input is not split whole: another command is splitting it, or the split was interrupted."""

    exit_code = 4


class DeadlineMissed(BatchkitError):
    """The workload's deadline has passed, and nothing more of it may be sent."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class InputProblem:
    """One problem of one input line; ``line`` starts at 1."""

    source: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.reason}"


class InputInvalid(UsageError):
    """The input has lines that the provider would refuse.

    ``problems`` holds the first ones by line, ``count`` the number of all.
    """

    def __init__(
        self,
        problems: list[InputProblem],
        count: int,
        *,
        hint: str = "correct the lines and run the same command again",
    ) -> None:
        noun = "problem" if count == 1 else "problems"
        super().__init__(f"the input has {count:,} {noun}; nothing was sent", hint=hint)
        self.problems = problems
        self.count = count


class InputUnreadable(UsageError):
    """An input file is missing, unreadable, damaged or of an unsupported format; ``path`` is its path."""

    def __init__(self, path: Path, reason: str, hint: str) -> None:
        super().__init__(f"{path}: {reason}", hint=hint)
        self.path = path


class StoreError(BatchkitError):
    """The results store cannot be used now."""

    exit_code = 4


class RowsHeld(StoreError):
    """A lock was not obtained in time, or two transactions blocked each other; the transaction was rolled back."""


class StoreUnavailable(StoreError):
    """The database cannot be reached, or refuses to write."""


class StoreUnusable(StoreUnavailable):
    """The database answers, but waiting does not help: a damaged file, a full disk, a missing right."""


class StateConflict(StoreError):
    """A guarded transition hit no row: another runner has moved the object."""


class BatchIdTaken(StoreError):
    """The provider gave a batch an id that this database has for another one."""


class SpoolError(BatchkitError):
    """A shard or download file cannot be written or read."""

    exit_code = 4


class ProviderError(BatchkitError):
    """A call of the batch API failed."""

    exit_code = 4


class ProviderUnreachable(ProviderError):
    """The request was certainly not processed: no connection was made."""


class OutcomeUnknown(ProviderError):
    """The request was sent, but whether it was processed is not known (time-out, reset, 5xx, unreadable reply)."""


class TornDownload(ProviderError):
    """A downloaded file is shorter than announced, or differs from it."""


class ListingIncomplete(ProviderError):
    """A list of batches or files could not be read to its end, so absence from it proves nothing."""


class ProviderRefused(ProviderError):
    """The provider answered with a readable refusal.

    Attributes mirror the error body (console.groq.com/docs/errors): ``status`` is the HTTP status; ``code``, ``type`` and
    ``param`` (the name of a field) are the provider's, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 - the provider's name
        param: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.type = type
        self.param = param


class AccountRefused(ProviderRefused):
    """The account may not do this (key, plan, billing, spend limit, blocked access): all its requests are refused."""


class Unauthorized(AccountRefused):
    """401: the key is missing, wrong or revoked."""


class Forbidden(AccountRefused):
    """403: the organisation may not do this; code ``not_available_for_plan`` on the free plan."""


class NotFound(ProviderRefused):
    """404 or 410: no such file or batch (any more)."""


class TooLarge(ProviderRefused):
    """413, or known before sending: the body is larger than the provider takes."""


class RateLimited(ProviderRefused):
    """429 or 498: the provider asks to wait.

    ``retry_after_seconds`` is the wait that it names, from 0 to a day, None without one. The caller waits at least a minimum,
    because the provider may say 0.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 - the provider's name
        param: str | None = None,
        hint: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, status=status, code=code, type=type, param=param, hint=hint)
        self.retry_after_seconds = retry_after_seconds
