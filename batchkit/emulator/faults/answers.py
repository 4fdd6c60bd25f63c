"""Faults in single answers: lines that succeed, and whose content is cut, empty, wrong or in another form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from batchkit.emulator.faults.base import LineFault

if TYPE_CHECKING:
    from batchkit.emulator.contract.outcome import EmulatedOutcome

_RAW_SEPARATORS = "\u2028\u2029\u0085"


class RawSeparators(LineFault):
    """Answers contain U+2028, U+2029 and U+0085 unescaped, which tears files that are split by anything but a newline byte."""

    name: ClassVar[str] = "raw-separators"

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Add the three characters to the answer."""
        message = _message(outcome)
        if message is not None and isinstance(message.get("content"), str):
            message["content"] = f"{message['content']}{_RAW_SEPARATORS}end"


class CutAnswers(LineFault):
    """Answers stop early with finish_reason length, as when the token limit is reached."""

    name: ClassVar[str] = "cut-answers"

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Halve the content."""
        message = _message(outcome)
        if message is not None:
            content = message.get("content") or ""
            message["content"] = content[: len(content) // 2]
            outcome.body["choices"][0]["finish_reason"] = "length"


class EmptyAnswers(LineFault):
    """Answers are successful but their content is null."""

    name: ClassVar[str] = "empty-answers"

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Take the content away."""
        message = _message(outcome)
        if message is not None:
            message["content"] = None


class RefuseAnswers(LineFault):
    """The model refuses: the content is null, and ``refusal`` has its words."""

    name: ClassVar[str] = "refuse-answers"
    words: str = Field(default="I cannot help with that.", description="the words of the refusal")

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Replace the content by a refusal."""
        message = _message(outcome)
        if message is not None:
            message |= {"content": None, "refusal": self.words}


class FilterAnswers(LineFault):
    """A content filter stops answers half way, with finish_reason content_filter."""

    name: ClassVar[str] = "filter-answers"

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Halve the content."""
        message = _message(outcome)
        if message is not None:
            content = message.get("content") or ""
            message["content"] = content[: len(content) // 2]
            outcome.body["choices"][0]["finish_reason"] = "content_filter"


class GarbleAnswers(LineFault):
    """Answers are successful and complete, but have text around half of the expected content."""

    name: ClassVar[str] = "garble-answers"

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Add text around the first half of the content."""
        message = _message(outcome)
        if message is not None:
            content = message.get("content") or ""
            message["content"] = f"Well, let me see: {content[: len(content) // 2]} ..."


class WrongAnswers(LineFault):
    """Answers are well-formed and wrong: another one of the contents given here."""

    name: ClassVar[str] = "wrong-answers"
    contents: tuple[str, ...] = Field(
        min_length=2, description="the possible answers of a model; an answer becomes the next of them"
    )

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Replace the content by the next one."""
        message = _message(outcome)
        if message is not None:
            said = message.get("content")
            place = self.contents.index(said) + 1 if said in self.contents else 0
            message["content"] = self.contents[place % len(self.contents)]


class BlurSegments(LineFault):
    """Transcripts have an unreliable segment: low confidence, repetition, or silence transcribed as speech."""

    name: ClassVar[str] = "blur-segments"
    sign: Literal["low_confidence", "repetitive", "no_speech"] = Field(
        default="low_confidence", description="the sign of it"
    )

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Change the numbers of the last segment."""
        segments = outcome.body.get("segments") if isinstance(outcome.body, dict) else None
        if outcome.succeeded and segments:
            segments[-1] |= {
                "low_confidence": {"avg_logprob": -0.9},
                "repetitive": {"compression_ratio": 3.1},
                "no_speech": {"no_speech_prob": 0.93},
            }[self.sign]


class SplitAnswers(LineFault):
    """Answers consist of several items, of which the first is cut off and the last is complete."""

    name: ClassVar[str] = "split-answers"
    into: Literal["choices", "parts", "output"] = Field(
        default="choices",
        description=(
            "choices: a second choice; parts: a list of texts in place of the content; output: the items of a responses API"
        ),
    )

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Put half of the answer before it."""
        message = _message(outcome)
        if message is None or not isinstance(message.get("content"), str):
            return
        text = message["content"]
        half = text[: len(text) // 2]
        if self.into == "choices":
            whole = outcome.body["choices"][0]
            cut = {**whole, "message": {**message, "content": half}, "finish_reason": "length"}
            outcome.body["choices"] = [cut, {**whole, "index": 1}]
        elif self.into == "parts":
            message["content"] = [{"type": "text", "text": half}, {"type": "text", "text": text}]
        else:
            del outcome.body["choices"]
            outcome.body |= {"object": "response", "status": "completed"}
            outcome.body["output"] = [_item("incomplete", half), _item("completed", text)]


class BreakToolCalls(LineFault):
    """Tool calls carry arguments that are not valid JSON."""

    name: ClassVar[str] = "break-tool-calls"

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Cut the arguments' last character off."""
        for call in (_message(outcome) or {}).get("tool_calls", []):
            call["function"]["arguments"] = call["function"]["arguments"][:-1]


def _message(outcome: EmulatedOutcome) -> dict[str, Any] | None:
    """Return the chat message of a successful line, to be changed in place, or None for any other line."""
    if not outcome.succeeded or not isinstance(outcome.body, dict) or not outcome.body.get("choices"):
        return None
    message: dict[str, Any] = outcome.body["choices"][0]["message"]
    return message


def _item(status: str, text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text}]
    return {"type": "message", "status": status, "role": "assistant", "content": content}
