"""What ``batchkit demo`` runs: a small input, an emulated provider, settings that fit both, and what the provider did."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from batchkit.emulator import DirectoryInUse, Emulator
from batchkit.engine.runtime import Runner
from batchkit.errors import SpoolError, UsageError
from batchkit.files import jsonl
from batchkit.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCENARIO = "demo"
#: A window of 24 hours, at whose end the demo's expiries show, passes in 12 seconds.
_SPEED = 7_200.0
_KEY = "gsk_demo"
_SHARD_LINES = 200
_NAME = re.compile(r"demo(?:-(\d+))?")

_CHAT_MODEL = "openai/gpt-oss-20b"
_VISION_MODEL = "meta-llama/llama-4-scout-17b-16e-instruct"
_SPEECH_MODEL = "whisper-large-v3"
_THINGS = ("kettle", "tent", "keyboard", "bicycle lamp", "raincoat", "chair", "headset", "backpack", "drill", "blender")
_VERDICTS = (
    "broke after a week",
    "does what it should",
    "was a gift and is used daily",
    "came late but works",
    "is louder than expected",
    "is worth every cent",
    "went back the same day",
    "could be lighter",
    "has outlived two others",
)
_BUYERS = tuple(range(1, 11))
_VISION_COUNT = 60
_SPEECH_COUNT = 40
# One white pixel.
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the provider's ledger says: ``batches`` it ran, and ``bought_twice`` successes beyond the first of a request."""

    batches: int
    executed: int
    bought_twice: int


@dataclass(frozen=True, slots=True)
class Demo:
    """Everything for one demo: its workload's name, its input, where its results go, its settings and its provider."""

    name: str
    source: Path
    output: Path
    settings: Settings
    emulator: Emulator
    is_resumed: bool

    def evidence(self) -> Evidence:
        """Read the provider's ledger."""
        totals = self.emulator.ledger(with_executions=False).totals
        return Evidence(totals.batches, totals.requests_executed, totals.bought_twice)


@contextmanager
def open_demo(home: Path, **overrides: Any) -> Iterator[Demo]:
    """Set up a demo in ``home``: the unfinished one that is there, or a new one beside those that are finished.

    Each demo has an emulator directory of its own, so that an interrupted one finds its batches again. ``overrides`` are
    settings. Raises ``UsageError`` when the folder holds something else, or is in use.
    """
    try:
        if home.exists() and not home.is_dir():
            raise UsageError(f"{home} is a file, not a folder", hint="name an empty or a new folder with --home")
        home.mkdir(parents=True, exist_ok=True)
        if any(home.iterdir()) and not (home / "emulator").is_dir():
            raise UsageError(f"{home} holds other things than a demo", hint="name an empty or a new folder with --home")
    except OSError as error:
        raise SpoolError(f"{home} cannot be written: {error.strerror or error}", hint="name another --home") from error
    name, is_resumed = _next_name(_settings(home, "http://127.0.0.1/openai/v1", overrides))
    source = home / "requests.jsonl"
    try:
        source.write_bytes(b"".join(jsonl.dumps(line) + b"\n" for line in requests()))
    except OSError as error:
        raise SpoolError(f"{home} cannot be written: {error.strerror or error}", hint="name another --home") from error
    try:
        with Emulator(home / "emulator" / name, _SCENARIO, speed=_SPEED, api_key=_KEY) as emulator:
            settings = _settings(home, emulator.base_url, overrides)
            yield Demo(name, source, home / f"{name}.results.jsonl", settings, emulator, is_resumed)
    except DirectoryInUse as error:
        raise UsageError(
            f"a demo is running in {home}", hint="wait for it, or name another folder with --home"
        ) from error


def requests() -> Iterator[dict[str, Any]]:
    """Make the input, the same every time: mostly chat, a few images, a few recordings."""
    for buyer, thing, verdict in product(_BUYERS, _THINGS, _VERDICTS):
        text = f"Is this review positive, negative or mixed? Buyer {buyer}: the {thing} {verdict}."
        number = f"{buyer:02}-{thing.replace(' ', '-')}-{_VERDICTS.index(verdict) + 1}"
        messages = [{"role": "user", "content": text}]
        body: dict[str, Any] = {"model": _CHAT_MODEL, "messages": messages, "max_completion_tokens": 64}
        yield _line(f"review-{number}", "/v1/chat/completions", body)
    for photo in range(1, _VISION_COUNT + 1):
        parts = [
            {"type": "text", "text": f"What is in photo {photo}?"},
            {"type": "image_url", "image_url": {"url": _PIXEL}},
        ]
        body = {"model": _VISION_MODEL, "messages": [{"role": "user", "content": parts}], "max_completion_tokens": 64}
        yield _line(f"photo-{photo:03}", "/v1/chat/completions", body)
    for call in range(1, _SPEECH_COUNT + 1):
        body = {"model": _SPEECH_MODEL, "url": f"https://example.com/call-{call:03}.wav", "language": "en"}
        yield _line(f"call-{call:03}", "/v1/audio/transcriptions", body)


def _line(custom_id: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def _settings(home: Path, base_url: str, overrides: dict[str, Any]) -> Settings:
    """Settle every setting that could lead away from the demo, whatever the environment says, and shorten all waits."""
    values = {
        "api_key": _KEY,
        "base_url": base_url,
        "home": home,
        "database_url": f"sqlite:///{home.absolute() / 'batchkit.db'}",
        # A resumed demo finds its emulator at another port.
        "accept_other_key": True,
        "shard_lines": _SHARD_LINES,
        "max_attempts": 5,
        "max_expiries": 10,
        "poll_interval_seconds": 0.5,
        "max_poll_interval_seconds": 2.0,
        "settle_seconds": 2.0,
        "resubmit_linger_seconds": 1.0,
        "capacity_wait_seconds": 1.0,
        "outage_seconds": 60.0,
    }
    # Nothing leaves the machine.
    return load_settings(**(values | overrides)).model_copy(update={"notify_url": None, "on_finish": None})


def _next_name(settings: Settings) -> tuple[str, bool]:
    """Choose the workload: the newest demo if it is unfinished (True), else one more."""
    if not (settings.home / "batchkit.db").exists():
        return "demo", False
    with Runner(settings) as runner:
        demos = [workload for workload in runner.all_workloads() if _NAME.fullmatch(workload.name)]
        if not demos:
            return "demo", False
        if not runner.progress(demos[-1].id).is_finished:
            return demos[-1].name, True
    numbers = [int(found[1] or 1) for found in (_NAME.fullmatch(workload.name) for workload in demos) if found]
    return f"demo-{max(numbers) + 1}", False
