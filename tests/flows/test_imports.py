from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize("module", ["batchkit", "batchkit.cli", "batchkit.flows", "batchkit.flows.entry"])
def test_prefect_is_not_imported_before_it_is_needed(module):
    """Importing the modules that every command needs does not import Prefect."""
    script = f"import sys, {module}; sys.exit('prefect' in sys.modules)"

    subprocess.run([sys.executable, "-c", script], check=True, cwd=CHECKOUT)


def test_the_defaults_keep_the_users_settings():
    """Importing the flows disables telemetry and noise, unless the user has configured them."""
    script = "import os, batchkit.flows; print(os.environ['DO_NOT_TRACK'], os.environ['PREFECT_SERVER_LOGGING_LEVEL'])"
    environment = {name: value for name, value in os.environ.items() if name != "DO_NOT_TRACK"}

    shown = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        cwd=CHECKOUT,
        env={**environment, "PREFECT_SERVER_LOGGING_LEVEL": "INFO"},
        capture_output=True,
        text=True,
    )

    assert shown.stdout.split() == ["1", "INFO"]


def test_a_users_own_flows_folder_is_not_taken_for_ours(tmp_path):
    """A folder named flows in the working directory is never imported."""
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "flows" / "entry.py").write_text("raise SystemExit('the wrong one')")
    script = "import batchkit.flows.entry as entry; print(entry.__file__)"

    shown = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
    )

    assert not shown.stdout.startswith(str(tmp_path))
