"""The import contracts of pyproject.toml hold, and each of them detects its breach."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: A wrong import line, its module, and the contract that must detect it.
BREACHES = {
    "a step that reads settings": ("batchkit/steps/poll.py", "import batchkit.settings", "layers"),
    "a store that asks the provider": ("batchkit/store/batches.py", "import batchkit.provider.base", "layers"),
    "a provider that writes to the store": ("batchkit/provider/groq/wire.py", "import batchkit.store.events", "layers"),
    "rules that look into the database": ("batchkit/lifecycle.py", "import batchkit.store.shards", "layers"),
    "an emulator that borrows our parser": (
        "batchkit/emulator/contract/rules.py",
        "import batchkit.files.jsonl",
        "layers",
    ),
    "a module outside the layers": ("batchkit/helpers.py", "", "layers"),
    "a step that calls the provider past its seam": ("batchkit/steps/poll.py", "import httpx", "http"),
    "a report with a query of its own": ("batchkit/engine/progress.py", "import sqlalchemy", "sql"),
    "another parser": ("batchkit/steps/answers.py", "import orjson", "json"),
    "a runner that needs Prefect": ("batchkit/engine/runtime.py", "import prefect", "prefect"),
    "a flow that polls by itself": ("flows/tasks.py", "import batchkit.provider.groq.client", "flows"),
    "a run that ends in the emulator": ("batchkit/engine/runtime.py", "import batchkit.emulator.http.app", "emulator"),
}


def lint(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the contracts on a tree."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache", *arguments],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """Return a copy of the sources that a test may break and must restore."""
    tree: Path = tmp_path_factory.mktemp("copy")
    for name in ("batchkit", "flows"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    return tree


def test_imports_keep_their_contracts():
    """The layers, and the libraries that each room may use, are those in pyproject.toml."""
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("breach", BREACHES)
def test_breach_is_detected(copy, breach):
    """One wrong import line breaks its contract."""
    name, line, contract = BREACHES[breach]
    path = copy / name
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        done = lint(copy, "--contract", contract)
    finally:
        path.unlink() if before is None else path.write_text(before)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout


def test_flows_are_named_by_the_command_line_only():
    """The folder is ``batchkit.flows`` at run time and is started by name, without an import: only the CLI does that."""
    mention = re.compile(r"""["']batchkit\.flows""")
    naming = {
        path.relative_to(ROOT).parts[1]
        for path in (ROOT / "batchkit").rglob("*.py")
        if mention.search(path.read_text())
    }
    assert naming == {"cli"}
