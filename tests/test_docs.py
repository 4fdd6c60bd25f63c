"""The READMEs: their links, the names that they use, their statements about the code, and what a wheel contains of them.

Their commands run in ``tests/cli/test_examples.py``.
"""

from __future__ import annotations

import email
import re
import shlex
import sqlite3
import subprocess
import sys
import tomllib
import zipfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
import yaml
from pydantic import TypeAdapter

from batchkit.cli.app import app
from batchkit.emulator import Emulator
from batchkit.emulator.scenarios.scenario import parse_scenario
from batchkit.evaluation.scorers import Scorer
from batchkit.models import RequestState, ShardState
from batchkit.settings import Settings
from tests.readmes import ROOT, anchors, blocks, code, inline_commands, links, name_of, prose, readmes, table

if TYPE_CHECKING:
    from batchkit.store.engine import Store

TEXTS = {name_of(readme): readme.read_text() for readme in readmes()}
FRONT_TEXT = TEXTS["README.md"]
#: Newcomers read the front page to its end; everything else is in the README beside what it describes.
MAX_FRONT_LINES, MAX_FRONT_BYTES = 215, 12_500


def test_two_lines_do_the_whole_setup():
    """The front page's first and last set-up commands each make their own environment: one runs the demo, one the tests."""
    lines = [line for block in blocks(FRONT_TEXT, "sh") for line in block.text.splitlines() if "-m venv" in line]

    assert lines == [
        "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/batchkit demo",
        "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/pytest",
    ]


@pytest.mark.patient
def test_the_demo_prints_what_the_readme_shows(tmp_path):
    """The demo's last lines are those of the front page, and the commands among them work as pasted."""
    shown = blocks(FRONT_TEXT, "text")[0].text
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])

    def paste(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False
        )

    done = paste(".venv/bin/batchkit demo")

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == shown.split()
    for line in shown.splitlines():
        match shlex.split(line) if line.startswith("  ") else []:
            case ["sqlite3", file, query]:
                with closing(sqlite3.connect(tmp_path / file)) as connection:
                    assert connection.execute(query).fetchall()
            case [_, *_]:
                assert paste(line).returncode == 0, line
    assert (tmp_path / "batchkit-demo" / "demo.csv").exists()


def test_the_front_page_is_short():
    """Text that a newcomer does not need at first is in another README."""
    assert len(FRONT_TEXT.splitlines()) <= MAX_FRONT_LINES
    assert len(FRONT_TEXT.encode()) <= MAX_FRONT_BYTES


@pytest.mark.parametrize("name", TEXTS)
def test_no_link_is_dead(name):
    """Each link to a file or a folder is valid, and each anchor is a heading."""
    for link in links(TEXTS[name]):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        assert target.resolve().is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def test_the_front_page_leads_to_every_readme():
    """Its last table has a row for each of the others."""
    listed = [code_or_link for cells in table(FRONT_TEXT, "| README ") for code_or_link in links(cells[0])]
    assert sorted(listed) == sorted(set(TEXTS) - {"README.md"})


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_in_the_text_exists(name):
    """Each verb and option that a README names between backticks exists."""
    for text in inline_commands(TEXTS[name]):
        words = text.rpartition("| ")[2].split()[1:]
        command: Any = typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands") or words == ["--version"], text
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if re.match(r"-\w|--\w", word)} <= known, text


def test_every_setting_in_the_text_exists():
    """Each variable that a README names is read by batchkit, and a default that is given beside it is the real default."""
    fields = Settings.model_fields
    for name, text in TEXTS.items():
        for variable in set(re.findall(r"BATCHKIT_\w+", text)):
            assert variable.removeprefix("BATCHKIT_").lower() in fields, (name, variable)
        for variable, number in re.findall(r"`?BATCHKIT_(\w+)`?(?: \| | \()([\d,]+)(?: \||\))", text):
            assert fields[variable.lower()].default == int(number.replace(",", "")), (name, variable)


def test_every_room_of_the_package_is_in_the_table():
    """Each folder of the package has a row, and the rows are in the order of the layers."""
    rows = table(TEXTS["batchkit/README.md"], "| Room ")
    named = [Path(Path(link).parts[0]).stem for cells in rows for link in links(cells[0])]
    (layers,) = (
        contract["layers"]
        for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        if contract["id"] == "layers"
    )
    heights = {room: height for height, layer in enumerate(layers) for room in layer.split(" | ")}

    assert {path.parent.name for path in (ROOT / "batchkit").glob("*/__init__.py")} <= set(named)
    assert named == sorted(named, key=heights.__getitem__)


def test_the_states_are_those_of_the_diagram():
    """The README of the package draws every state of a shard and of a request."""
    drawn = set(re.findall(r"\w+", blocks(TEXTS["batchkit/README.md"], "text")[0].text))
    assert {state.value for state in [*ShardState, *RequestState]} <= drawn


def test_the_files_that_readmes_show_are_read_by_the_program():
    """The scenario is valid, and the suite is the one that the three nights run."""
    (scenario,) = blocks(TEXTS["batchkit/emulator/README.md"], "toml")
    parse_scenario(tomllib.loads(scenario.text), "README.md")
    suite, *parts = blocks(TEXTS["batchkit/evaluation/README.md"], "yaml")
    for scorer in (scorer for part in parts for scorer in yaml.safe_load(part.text).get("scorers", ())):
        TypeAdapter(Scorer).validate_python(scorer)
    assert suite.text == (ROOT / "tests" / "data" / "nightly" / "reviews.yaml").read_text()


def test_the_views_and_tables_are_those_of_the_database(sqlite_store: Store):
    """The README of the store has each table and each view, and the columns of the views that it lists."""
    text = TEXTS["batchkit/store/README.md"]
    with sqlite_store.read() as connection:
        found = connection.exec_driver_sql(
            "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
        ).all()
        names = {
            kind: {name for name, type_ in found if type_ == kind} - {"alembic_version"} for kind in ("table", "view")
        }
        assert {name for cells in table(text, "| Table ") for name in code(cells[0])} == names["table"]
        views = {code(cells[0])[0]: code(cells[2]) for cells in table(text, "| View ")}
        assert set(views) == names["view"]
        for view, columns in views.items():
            there = list(connection.exec_driver_sql(f"SELECT * FROM {view}").keys())  # noqa: S608 - a name of ours
            assert columns in ([], there), view


def test_the_python_of_the_emulator_runs():
    """Its README's test passes on an emulator of the kind that the test asks for, and the other blocks run unchanged."""
    in_pytest, *alone = blocks(TEXTS["batchkit/emulator/README.md"], "python")

    namespace: dict[str, Any] = {}
    exec(in_pytest.text, namespace)  # noqa: S102 - our own text
    test = namespace["test_my_pipeline"]
    with Emulator(**test.pytestmark[0].kwargs) as emulator:
        test(emulator)
    for block in alone:
        exec(block.text, {})  # noqa: S102 - as above


def _wheel(folder: Path) -> zipfile.ZipFile:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_a_wheel_contains_everything_and_needs_no_checkout(tmp_path):
    """From an unpacked wheel the database is created and the flows are found, whatever is in the working directory.

    Its page has the text of the front page without links that do not work there; the other READMEs stay in the repository.
    """
    site, work = tmp_path / "site", tmp_path / "work"
    with _wheel(tmp_path) as wheel:
        wheel.extractall(site)
        names = wheel.namelist()
    for name in ("flows", "migrations"):
        (work / name).mkdir(parents=True)
        (work / name / "__init__.py").write_text("raise RuntimeError('the wrong folder')\n")

    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import batchkit, batchkit.flows, batchkit.flows.entry\n"
        "from batchkit.store import migrate\n"
        "from batchkit.cli import main\n"
        "assert batchkit.__file__.startswith(sys.argv[1]), batchkit.__file__\n"
        "assert batchkit.flows.__file__.startswith(sys.argv[1]), batchkit.flows.__file__\n"
        "assert str(migrate.migrations_directory()).startswith(sys.argv[1])\n"
        "import batchkit.reports.page as page; page._environment().get_template('page.html')\n"
        "import batchkit.view.rendering as view; [view._read(name) for name in view._OWN]\n"
        "sys.argv = ['batchkit', 'db', 'upgrade']; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(site)], cwd=work, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert (work / ".batchkit" / "batchkit.db").exists()
    for needed in ("flows/prefect.yaml", "migrations/partition_by_workload.sql", "py.typed"):
        assert f"batchkit/{needed}" in names
    assert not [name for name in names if name.endswith(("README.md", ".png"))]
    page = email.message_from_string(next(site.glob("*.dist-info/METADATA")).read_text()).get_payload()
    assert isinstance(page, str)
    assert blocks(page) == blocks(FRONT_TEXT)
    assert "batchkit/annotation/README.md" in prose(page)
    assert [link for link in links(page) if not link.startswith("https://")] == []
    assert "https://console.groq.com/docs/batch" in links(page)
