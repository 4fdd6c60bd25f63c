"""Every error that batchkit raises on purpose.

::

    BatchkitError
    ├── UsageError                what the user gave cannot be used; nothing was sent        exit 2
    │   ├── ConfigurationError    a setting is missing or contradicts another
    │   │   └── WrongAddress      what answers at the base URL is no batch API
    │   ├── InputUnreadable       a file of the input is missing, damaged or of an unknown format
    │   ├── InputInvalid          lines of the input, all problems together
    │   ├── UnknownWorkload
    │   └── WorkloadConflict      the name is taken by a different input
    ├── SplitUnfinished           the input is not split whole, so nothing of it may be sent   exit 4
    ├── StoreError                the results store cannot be used now                       exit 4
    │   ├── BatchIdTaken          the provider gave a batch an id that belongs to another one
    │   ├── StateConflict         a guarded transition hit no row: somebody else moved on
    │   ├── RowsHeld              somebody else holds a lock and does not give it back
    │   └── StoreUnavailable      an outage
    │       └── StoreUnusable     nothing that passes by itself: a damaged file, a missing right
    ├── SpoolError                a file of ours cannot be written or read                   exit 4
    └── ProviderError             the batch API                                              exit 4
        ├── ProviderUnreachable   it is certain that the request was not processed
        ├── OutcomeUnknown        sent, but no readable answer came back
        ├── TornDownload          fewer or other bytes than promised
        ├── ListingIncomplete     a list could not be read to its end
        └── ProviderRefused       a readable refusal: status, code, type and the provider's words
            ├── AccountRefused    402, blocked access, spend limits: nothing that the account sends will be taken
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
    """The base of all errors raised on purpose; ``hint`` says what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        # What is asked for at the making of a subclass is not what it is made of again in another process.
        return _made_again, (type(self), self.args, self.__dict__)


def _made_again(kind: type[BatchkitError], args: tuple[Any, ...], attributes: dict[str, Any]) -> BatchkitError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class UsageError(BatchkitError):
    """What the user gave cannot be used; nothing was sent."""

    exit_code = 2


class ConfigurationError(UsageError):
    """A setting is missing, malformed or contradicts another."""


class WrongAddress(ConfigurationError):
    """What answers at the base URL is no batch API."""


class UnknownWorkload(UsageError):
    """No workload of that name is in the store."""


class WorkloadConflict(UsageError):
    """The name belongs to a workload with a different input."""


class SplitUnfinished(BatchkitError):
    """The workload's input is not split whole: another command is splitting it, or its split was interrupted."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one input line; ``line`` starts at 1."""

    source: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.reason}"


class InputInvalid(UsageError):
    """The input has lines that the provider would refuse.

    ``problems`` holds the first ones by line, ``count`` how many there are in all.
    """

    def __init__(
        self, problems: list[Problem], count: int, *, hint: str = "correct the lines and run the same command again"
    ) -> None:
        noun = "problem" if count == 1 else "problems"
        super().__init__(f"the input has {count:,} {noun}; nothing was sent", hint=hint)
        self.problems = problems
        self.count = count


class InputUnreadable(UsageError):
    """An input file is missing, unreadable, damaged or in a format that is not read; ``path`` says which."""

    def __init__(self, path: Path, reason: str, hint: str) -> None:
        super().__init__(f"{path}: {reason}", hint=hint)
        self.path = path


class StoreError(BatchkitError):
    """The results store cannot be used now."""

    exit_code = 4


class RowsHeld(StoreError):
    """A lock was not given in time, or two transactions blocked each other; nothing of the transaction was kept."""


class StoreUnavailable(StoreError):
    """The database cannot be reached, or refuses to write."""


class StoreUnusable(StoreUnavailable):
    """The database answers, and waiting does not mend what is in the way: a damaged file, a full disk, a missing right."""


class StateConflict(StoreError):
    """A guarded transition hit no row: another runner has moved the object on."""


class BatchIdTaken(StoreError):
    """The provider gave a batch an id that this database has for another one."""


class SpoolError(BatchkitError):
    """A shard or download file cannot be written or read."""

    exit_code = 4


class ProviderError(BatchkitError):
    """Talking to the batch API did not work."""

    exit_code = 4


class ProviderUnreachable(ProviderError):
    """The request was certainly not processed: no connection was made."""


class OutcomeUnknown(ProviderError):
    """The request was sent, but whether it was processed is not known (time-out, reset, 5xx, unreadable reply)."""


class TornDownload(ProviderError):
    """A downloaded file is shorter than, or differs from, what the provider says it is."""


class ListingIncomplete(ProviderError):
    """A list of batches or files could not be read to its end, so absence from it proves nothing."""


class ProviderRefused(ProviderError):
    """The provider answered with a readable refusal.

    Attributes mirror the error body (console.groq.com/docs/errors): ``status`` is the HTTP status, ``code`` and ``type``
    the provider's words or None, ``param`` the field it names.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 - the provider's own word
        param: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.type = type
        self.param = param


class AccountRefused(ProviderRefused):
    """The account may not do this (key, plan, billing, spend limit, blocked access): whatever it sends is refused alike."""


class Unauthorized(AccountRefused):
    """401: the key is missing, wrong or revoked."""


class Forbidden(AccountRefused):
    """403: the organisation may not do this; code ``not_available_for_plan`` on the free plan."""


class NotFound(ProviderRefused):
    """404 or 410: no such file or batch (any more)."""


class TooLarge(ProviderRefused):
    """413, or known before sending: the body is larger than the provider takes."""


class RateLimited(ProviderRefused):
    """429 or 498: asked to wait.

    ``retry_after_seconds`` is what the provider said, from 0 to a day, None when it did not say. A caller that comes back
    puts a floor below it: 0 is said too.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 - the provider's own word
        param: str | None = None,
        hint: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, status=status, code=code, type=type, param=param, hint=hint)
        self.retry_after_seconds = retry_after_seconds
