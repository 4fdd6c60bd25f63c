import re

import orjson
import pytest

from batchkit.emulator import Scenario, ScenarioError, fault_catalogue, load_scenario, scenario_names
from batchkit.emulator.faults import Fault, FaultInfo
from batchkit.errors import BatchkitError
from tests.emulator.support import chat_line, chat_lines

TOML = """
name = "rough-day"
seed = 7

[timing]
validating_seconds = 2

[limits]
max_bytes = 100_000_000

[[faults]]
fault = "expire-lines"
fraction = 0.3
attempts = 1

[[faults]]
fault = "lose-reply"
on = ["batches.create"]
"""


def test_scenarios_come_from_toml_and_json(tmp_path):
    """The same scenario can be written in either format, and is unchanged by its own JSON."""
    toml, json = tmp_path / "a.toml", tmp_path / "a.json"
    toml.write_text(TOML)
    scenario = load_scenario(toml)
    json.write_text(scenario.model_dump_json())
    assert load_scenario(str(json)) == scenario
    assert [fault.name for fault in scenario.faults] == ["expire-lines", "lose-reply"]
    assert scenario.timing.validating_seconds == 2
    assert load_scenario(scenario) is scenario


@pytest.mark.parametrize("name", scenario_names())
def test_ready_made_scenarios_can_be_written_as_json(name):
    """Each ready-made scenario has a description and is unchanged by its own JSON."""
    scenario = load_scenario(name)
    assert scenario.description.endswith(".")
    assert Scenario.model_validate(orjson.loads(scenario.model_dump_json())) == scenario


@pytest.mark.parametrize(
    "name",
    sorted(set(scenario_names()) - {"free-plan", "lost-replies", "flaky-network", "rate-limited", "lagging", "stuck"}),
)
def test_ready_made_scenarios_run(emulate, name):
    """Under each scenario that refuses no call, a batch ends."""
    client = emulate(name)
    batch = client.run(chat_lines(40))
    assert batch["status"] in {"completed", "expired", "failed"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"sed": 1}, r"unknown key 'sed'; did you mean 'seed'"),
        (
            {"timing": {"validating_second": 1}},
            r"unknown key 'timing.validating_second'; did you mean 'validating_seconds'",
        ),
        ({"faults": [{"fault": "expire-line"}]}, r"unknown fault 'expire-line'; did you mean 'expire-lines'"),
        (
            {"faults": [{"fault": "expire-lines", "fracton": 1}]},
            r"fault 'expire-lines': unknown key 'fracton'; did you mean 'fraction'",
        ),
        (
            {"faults": [{"fault": "expire-lines", "fraction": 30}]},
            r"fault 'expire-lines': fraction: .*less than or equal to 1",
        ),
        (
            {"faults": [{"fault": "lose-reply", "on": ["batch.create"]}]},
            r"unknown operation 'batch.create'; did you mean 'batches.create'",
        ),
        ({"faults": [{"fault": "lose-reply"}]}, r"fault 'lose-reply': on: Field required"),
        ({"faults": [{"fraction": 1}]}, r"needs its name"),
        ({"seed": "x"}, r"seed: "),
    ],
)
def test_typos_are_refused_with_a_hint(tmp_path, data, words):
    """A misspelt key, fault or operation is named, with the nearest correct word."""
    path = tmp_path / "bad.json"
    path.write_bytes(orjson.dumps(data))
    with pytest.raises(ScenarioError, match=words) as caught:
        load_scenario(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("name", ["expire30", "nope", "dir/other.yaml"])
def test_unknown_names_are_refused(name):
    """A name that is neither ready-made nor a file is a usage error with the list of names."""
    with pytest.raises(ScenarioError) as caught:
        load_scenario(name)
    assert isinstance(caught.value, BatchkitError)
    assert caught.value.exit_code == 2
    assert "expire-30" in (caught.value.hint or "")


def test_unreadable_files_are_refused(tmp_path):
    """A missing file and one that does not parse have different errors."""
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario(tmp_path / "none.toml")
    for name, text in (("a.toml", "= 1"), ("a.json", "{")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ScenarioError, match="is not valid"):
            load_scenario(tmp_path / name)


def test_every_fault_is_explained():
    """Each fault has a unique name, one sentence of description, and a description of every parameter."""
    catalogue: list[FaultInfo] = fault_catalogue()
    assert len(catalogue) == len(Fault.registry) > 45
    for info in catalogue:
        assert re.fullmatch(r"[a-z][a-z-]+", info.name)
        assert info.family in {"lines", "batches", "calls"}
        assert re.fullmatch(r"[A-Zr][^\n]*[A-Za-z0-9)]\.", info.explanation), info
        assert ". " not in info.explanation
        for parameter, meaning in info.parameters.items():
            assert re.match(r".+ \((required|default .*)\)$", meaning, re.DOTALL), (info.name, parameter)
            assert not meaning.startswith("("), (info.name, parameter)


def test_replies_are_selected_by_matching_prompts(client, tmp_path):
    """The first reply whose pattern occurs in the last user message is the content; a reply may be for some models only."""
    path = tmp_path / "replies.toml"
    path.write_text(
        '[[replies]]\nmatch = "(?i)love"\ncontent = "negative"\nmodels = ["openai/gpt-oss-20b"]\n'
        '[[replies]]\nmatch = "(?i)love"\ncontent = "positive"\n'
    )
    client.emulator.set_scenario(load_scenario(path))
    requests = [
        chat_line("a", "I LOVE it"),
        chat_line("b", "I love it", model="openai/gpt-oss-20b"),
        chat_line("c", "Meh"),
    ]
    output, _ = client.results(client.run(requests))
    said = {line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in output}
    assert said == {"a": "positive", "b": "negative", "c": "Echo: Meh"}
    path.write_text('[[replies]]\nmatch = "("\ncontent = "x"\n')
    with pytest.raises(ScenarioError, match="not a regular expression"):
        load_scenario(path)
