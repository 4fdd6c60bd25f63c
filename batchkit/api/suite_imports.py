"""Making a suite of another program's configuration. Nothing in it is run, and nothing is sent. Needs the extra ``annotate``."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.datasets import require_extra
from batchkit.errors import UsageError
from batchkit.files.outputs import check_file
from batchkit.settings import load_settings

if TYPE_CHECKING:
    from batchkit.provider.dialect import Dialect
    from batchkit.settings import Settings

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_NAME_CHARACTERS = 50
#: The name that the program gives its configurations: that of the folder says more.
_COMMON_NAME = "promptfooconfig"


@dataclass(frozen=True, slots=True)
class ImportedSuite:
    """The files that were written; ``notes`` say what has no counterpart, or another meaning."""

    suite: Path
    dataset: Path
    notes: tuple[str, ...]


def import_suite(configuration: Path, output: Path | None = None, *, settings: Settings | None = None) -> ImportedSuite:
    """Make a suite of a promptfoo configuration, with its tests as a dataset of JSON Lines beside it.

    ``output`` is by default ``NAME-suite.yaml`` in the working directory. The suite passes the checks of a run, except that the
    provider has its models. Raises ``InputInvalid`` with the line, ``InputUnreadable``,
    and ``UsageError`` for a configuration of which no suite can be made, and for files that exist.
    """
    require_extra()
    from batchkit.evaluation.promptfoo.making import suite_of_configuration  # noqa: PLC0415 - an extra

    named = _name(configuration)
    target = output or Path(f"{named}-suite.yaml")
    if target.suffix not in {".yaml", ".yml"}:
        raise UsageError(f"{target} is no name for a suite", hint="name a .yaml file with -o")
    dataset = target.with_suffix(".jsonl")
    for path in (target, dataset):
        check_file(path, inputs=[configuration])
        if path.exists():
            # People edit suites; what they wrote is not made again.
            raise UsageError(f"{path} exists already", hint="name another suite with -o, or delete it first")
    name = named if output is None else _safe(output.stem)
    made = suite_of_configuration(configuration, name=name, dataset=dataset.name)
    _check(made.suite, made.rows, dataset.name, (settings or load_settings()).dialect)
    try:
        with dataset.open("xb") as rows:
            rows.write(made.rows)
        with target.open("x", encoding="utf-8") as suite:
            suite.write(made.suite)
    except OSError as error:
        raise UsageError(
            f"{error.filename} cannot be written: {error.strerror or error}", hint="name another suite with -o"
        ) from error
    return ImportedSuite(target, dataset, tuple(made.notes))


def _check(suite: str, rows: bytes, dataset: str, dialect: Dialect) -> None:
    """Check a suite as a run does, before anything is written where the user wants it. Raises ``UsageError``."""
    from batchkit.annotation.render import Renderer  # noqa: PLC0415 - an extra
    from batchkit.evaluation import runs  # noqa: PLC0415 - as above
    from batchkit.evaluation.suite_file import load_suite  # noqa: PLC0415 - as above

    with tempfile.TemporaryDirectory(prefix="batchkit-import-") as scratch:
        path = Path(scratch) / "suite.yaml"
        path.write_text(suite, encoding="utf-8")
        (Path(scratch) / dataset).write_bytes(rows)
        try:
            asked = runs.check_suite(load_suite(path), dialect)
            Renderer(asked.recipe, asked.table.columns, dialect=dialect)
        except UsageError as error:
            problems = "; ".join(str(problem.reason) for problem in getattr(error, "problems", ()))
            raise UsageError(
                f"no suite can be made of it: {problems or error.message}", hint=error.hint or "import a part of it"
            ) from None


def _name(configuration: Path) -> str:
    stem = configuration.name.partition(".")[0]
    return _safe(configuration.absolute().parent.name if stem == _COMMON_NAME else stem)


def _safe(text: str) -> str:
    return _UNSAFE.sub("-", text).strip("-._")[:_NAME_CHARACTERS] or "imported"
