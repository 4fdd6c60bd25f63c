"""The user's own pydantic models: what they accept, what they return, and whatever their code does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    Strict,
    TypeAdapter,
    computed_field,
)
from pydantic.alias_generators import to_camel

from batchkit.answers import bounded_check
from batchkit.answers.bounded_check import check_by_model
from batchkit.answers.check import AnswerCheck, schema_of_values
from batchkit.answers.models import check_of
from batchkit.answers.rules import AnswerRules
from batchkit.errors import ConfigurationError
from batchkit.files import jsonl
from tests.answers.support import said


class Colour(Enum):
    """A choice."""

    RED = "red"


class Paint(BaseModel):
    """A strict model of what JSON has no types for."""

    model_config = ConfigDict(strict=True)

    colour: Colour
    day: date
    at: datetime
    clock: time_of_day
    id: UUID
    price: Decimal
    pair: tuple[int, str]
    tags: set[str]
    raw: bytes


class Partly(BaseModel):
    """Single strict fields."""

    day: Annotated[date, Strict()]
    count: int = Field(strict=True)


class Inner(BaseModel):
    """A model with generated aliases."""

    model_config = ConfigDict(alias_generator=to_camel)

    unit_price: float


class Offer(BaseModel):
    """Every kind of alias."""

    kind: str = Field(alias="class")
    amount: int = Field(validation_alias="howMany")
    cost: float = Field(serialization_alias="price")
    first: str = Field(validation_alias=AliasChoices("one", "two"))
    path: str = Field(validation_alias=AliasPath("where", 0))
    inner: Inner
    secret: str = Field(default="x", exclude=True)

    @computed_field
    def total(self) -> float:
        """Return what all of it costs."""
        return self.amount * self.cost


class Offers(RootModel[list[Inner]]):
    """A list of models with aliases."""


@dataclass
class Typed:
    """A type that is no model."""

    day: date


PAINT = {
    "colour": "red",
    "day": "2026-02-28",
    "at": "2026-01-01T10:00:00Z",
    "clock": "10:00:00",
    "id": "6f1c2a3e-0b4d-4c5f-8a9b-1c2d3e4f5a6b",
    "price": "1.50",
    "pair": [1, "a"],
    "tags": ["a"],
    "raw": "abc",
}
OFFER = {"class": "x", "howMany": 2, "cost": 1.5, "one": "a", "where": ["b"], "inner": {"unitPrice": 3.0}}
VALUE = {"class": "x", "amount": 2, "price": 1.5, "first": "a", "path": "b", "inner": {"unitPrice": 3.0}, "total": 3.0}


@pytest.mark.parametrize(
    ("model", "answer", "value"),
    [
        (Paint, PAINT, PAINT),
        (Partly, {"day": "2026-02-28", "count": 1}, {"day": "2026-02-28", "count": 1}),
        (Offer, OFFER, VALUE),
        (Offers, [{"unitPrice": 1}], [{"unitPrice": 1.0}]),
        (list[Inner], [{"unitPrice": 1}], [{"unitPrice": 1.0}]),
        (Typed, {"day": "2026-02-28"}, {"day": "2026-02-28"}),
    ],
)
def test_an_answer_is_read_as_pydantic_reads_json(model, answer, value):
    """Strict models take texts for dates and lists for sets; the value has the aliases, and every name of the value's schema."""
    check, schema = check_of(model)
    assert jsonl.loads(check(jsonl.dumps(answer))) == value
    properties = jsonl.loads(schema).get("properties")
    assert properties is None or set(properties) == set(value)


@pytest.mark.parametrize(("model", "answer"), [(Paint, PAINT), (Offer, OFFER)])
def test_an_answer_by_the_names_that_the_request_shows_is_accepted(model, answer):
    """The schema of the request may name a field where the model wants the path of an alias."""
    shown = TypeAdapter(model).json_schema()
    by_names = {name: answer.get(name, "b") for name in shown["properties"] if name != "secret"}
    check, _ = check_of(model)
    assert jsonl.loads(check(jsonl.dumps(by_names)))


def test_what_a_strict_model_does_not_take_is_told_with_its_place():
    """A number in a text is no number."""
    check, _ = check_of(Partly)
    with pytest.raises(ValueError, match="count: Input should be a valid integer"):
        check(b'{"day":"2026-02-28","count":"1"}')


CODE = """
import os, sys, time
import pydantic

class Model(pydantic.BaseModel):
    what: str

    @pydantic.model_validator(mode="after")
    def odd(self):
        match self.what:
            case "loops":
                while True:
                    pass
            case "matches":
                import re
                re.fullmatch("(a|aa)+", "a" * 64 + "!")
            case "exits":
                sys.exit(3)
            case "leaves":
                os._exit(3)
            case "interrupts":
                raise KeyboardInterrupt
            case "crashes":
                os.kill(os.getpid(), 11)
            case "fills the memory":
                list(range(10**10))
            case "recurs":
                self.odd()
            case "breaks words":
                raise ValueError("\\ud800")
            case "writes":
                print("noise", flush=True)
                os.write(1, b"noise")
            case "reads":
                input()
            case "tells":
                self.what = str({name: os.environ.get(name) for name in ("GROQ_API_KEY", "BATCHKIT_HOME")})
        return self

    @pydantic.field_serializer("what")
    def written(self, value):
        return object() if value == "writes nonsense" else value
"""
ODD = {
    "loops": "the check took longer than 0.4 s",
    "matches": "the check took longer than 0.4 s",
    "exits": "SystemExit: 3",
    "leaves": "the check ended its process (exit code 3)",
    "interrupts": "KeyboardInterrupt: ",
    "crashes": "the check ended its process (SIGSEGV)",
    "fills the memory": "MemoryError: ",
    "recurs": "RecursionError: ",
    "breaks words": "UnicodeEncodeError: ",
    "writes nonsense": "PydanticSerializationError: ",
    "reads": "EOFError: ",
}


def test_nothing_that_a_model_does_concerns_another_answer(tmp_path, monkeypatch):
    """Endless loops, crashes, exits, all the memory: that answer is invalid, with the reason; the next one is read."""
    (tmp_path / "odd_model_of_a_test.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bounded_check, "_SECONDS", 0.4)
    monkeypatch.setattr(bounded_check, "_SECONDS_LATER", 0.2)
    monkeypatch.setenv("GROQ_API_KEY", "gsk_not_for_models")
    monkeypatch.setenv("BATCHKIT_HOME", "/nowhere")
    check = AnswerCheck(AnswerRules(format="json", model_path="odd_model_of_a_test:Model"))
    for what, words in ODD.items():
        if what == "fills the memory":
            monkeypatch.setattr(bounded_check, "_SECONDS", 60.0)
        reading = check.read(said(jsonl.dumps({"what": what}).decode()))
        assert (reading.value, reading.code) == (None, "answer_invalid"), what
        assert reading.message.startswith(words), (what, reading.message)
        assert check.read(said('{"what":"writes"}')).value == {"what": "writes"}
    assert check.read(said('{"what":"tells"}')).value == {"what": "{'GROQ_API_KEY': None, 'BATCHKIT_HOME': None}"}


def test_the_process_of_a_check_ends_with_its_parent(tmp_path):
    """Also when the parent is killed in the middle of a check."""
    (tmp_path / "odd_model_of_a_test.py").write_text(CODE)
    program = (
        "import sys; from batchkit.answers.bounded_check import check_by_model\n"
        "check = check_by_model('odd_model_of_a_test:Model')\n"
        "print(check._process.pid, flush=True)\n"
        'check.check(b\'{"what":"writes"}\'); sys.stdin.read(); check.check(b\'{"what":"loops"}\')\n'
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 30
    while _is_alive(pid) and time.monotonic() < deadline:
        pass
    assert not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return (
        "Z"
        not in subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    )


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("tests.answers.test_models:Nothing", "cannot be imported"),
        ("tests.answers.test_models:ODD", "is not a type"),
        ("no_such_module_of_a_test:Model", "cannot be imported"),
        ("__main__:NoSuchModel", "cannot be imported"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_before_the_first_answer(path, words):
    """With a hint for workers."""
    with pytest.raises(ConfigurationError, match=words):
        AnswerCheck(AnswerRules(format="json", model_path=path))


def test_a_model_of_a_script_needs_no_module(monkeypatch):
    """What a notebook defines is sent to the process as it is, with its own code."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(  # noqa: S102 - what a notebook does with a cell
        "import pydantic\n"
        "LIMIT = 3\n"
        "class OfAScript(pydantic.BaseModel):\n"
        "    n: int\n"
        "    @pydantic.field_validator('n')\n"
        "    @classmethod\n"
        "    def small(cls, n):\n"
        "        assert n < LIMIT, 'too large'\n"
        "        return n\n",
        namespace,
    )
    monkeypatch.setattr(sys.modules["__main__"], "OfAScript", namespace["OfAScript"], raising=False)
    rules = AnswerRules(format="json", model_path="__main__:OfAScript")
    check = AnswerCheck(rules)
    assert check.read(said('{"n":1}')).value == {"n": 1}
    assert "too large" in check.read(said('{"n":3}')).message
    assert schema_of_values(rules)["properties"]["n"]["type"] == "integer"

    # The cell is run again, with another model of the same name.
    exec("class OfAScript(pydantic.BaseModel):\n    other: int\n", namespace)  # noqa: S102 - as above
    monkeypatch.setattr(sys.modules["__main__"], "OfAScript", namespace["OfAScript"])
    assert AnswerCheck(rules).read(said('{"other":4}')).value == {"other": 4}


def test_a_process_that_somebody_ended_is_started_again():
    """No answer is rejected for it."""
    check = AnswerCheck(AnswerRules(format="json", model_path="tests.answers.test_models:Partly"))
    answer = said('{"day":"2026-02-28","count":1}')
    process = check_by_model("tests.answers.test_models:Partly")._process
    assert process is not None
    process.kill()
    process.wait()
    assert check.read(answer).code is None
