"""What a check of a server found."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """How what a server did compares with its dialect."""

    SAME = "as the profile says"
    DIFFERS = "differs"
    OPEN = "not seen"
    #: The profile says nothing about it.
    NOTED = "noted"


@dataclass(frozen=True, slots=True)
class CheckedFact:
    """One thing that was tried: what the profile says, what the server did."""

    subject: str
    expected: str
    found: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question that the check did not answer, and why."""

    question: str
    reason: str


@dataclass(slots=True)
class CheckReport:
    """All facts in the order in which they were tried. ``corrections`` are values of a profile that the server contradicts.

    ``unanswered`` are questions that the documentation leaves open and this check too.
    ``problem`` is why the check ended early; None: it did not. ``left`` names what could not be deleted.
    """

    facts: list[CheckedFact] = field(default_factory=list)
    corrections: dict[str, object] = field(default_factory=dict)
    unanswered: list[OpenQuestion] = field(default_factory=list)
    problem: str | None = None
    hint: str | None = None
    left: list[str] = field(default_factory=list)

    def add(self, subject: str, expected: str, found: str, verdict: Verdict) -> None:
        """Add a fact."""
        self.facts.append(CheckedFact(subject, expected, found, verdict))

    def compare(
        self, subject: str, expected: str, found: str, *, is_same: bool, corrections: dict[str, object] | None = None
    ) -> None:
        """Add a fact, and the corrections where it is not the same."""
        self.add(subject, expected, found, Verdict.SAME if is_same else Verdict.DIFFERS)
        if not is_same:
            self.corrections |= corrections or {}

    def note(self, subject: str, found: str) -> None:
        """Add a fact about which a profile says nothing."""
        self.add(subject, "", found, Verdict.NOTED)

    @property
    def differs(self) -> bool:
        """Whether anything is not as the profile says."""
        return any(fact.verdict is Verdict.DIFFERS for fact in self.facts)
