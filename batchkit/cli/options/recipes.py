"""The question of a command about a table: its flags, and the recipe file, which they override."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from batchkit.annotation.recipe_file import combined, read_recipe_file, recipe_text
from batchkit.api.table_question import ExampleSource
from batchkit.cli.render import exits
from batchkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchkit.annotation.recipe_file import RecipeKind
    from batchkit.cli.options.flags import TableFlags

#: What belongs to the run and not to its requests.
_OF_THE_RUN = frozenset(
    {
        *("query", "separator", "name", "output", "raw_csv", "review", "only", "reviewed", "gold", "weights"),
        *("max_cost", "max_total_tokens"),
    }
)
#: What the question makes the examples of its recipe from.
_OF_EXAMPLES = frozenset({"examples", "examples_count", "examples_seed", "examples_nearest"})


@dataclass(frozen=True, slots=True)
class Asked:
    """Flags and recipe combined, by the keyword arguments of the Python function ``kind``."""

    kind: RecipeKind
    everything: Mapping[str, Any]
    flags: TableFlags

    @property
    def of_requests(self) -> dict[str, Any]:
        """The arguments of a preset: those that make the requests."""
        return {name: value for name, value in self.everything.items() if name not in _OF_THE_RUN | _OF_EXAMPLES}

    @property
    def rows(self) -> TableFlags:
        """The flags of the table, with what the recipe says about it."""
        said = self.everything
        return replace(
            self.flags,
            query=said.get("query"),
            separator=said.get("separator"),
            key=said.get("key"),
            limit=said.get("limit"),
            name=said.get("name"),
            output=said.get("output"),
            raw_csv=said.get("raw_csv", False),
        )

    @property
    def examples(self) -> ExampleSource | None:
        """The table of labelled rows that are examples. Raises ``UsageError`` for flags without one."""
        said = self.everything
        if "examples" not in said:
            if given := sorted(_OF_EXAMPLES.intersection(said)):
                flag = f"--{given[0].replace('_', '-')}"
                raise UsageError(f"{flag} needs a table of examples", hint=f"add --examples TABLE, or leave {flag} out")
            return None
        return ExampleSource(
            said["examples"],
            said.get("examples_count", 5),
            said.get("examples_seed", 0),
            is_nearest=said.get("examples_nearest", False),
        )

    def require(self, name: str, flag: str) -> None:
        """Raise ``UsageError`` when neither flag nor recipe gives a value."""
        if not self.everything.get(name):
            raise UsageError(f"{flag} is missing", hint=f"give {flag}, or `{name}:` in the file of --recipe")

    def print(self) -> int:
        """Print it as a recipe file; returns the exit code. Raises ``UsageError``."""
        head = f"# batchkit {self.kind} TABLE --recipe FILE\n"
        sys.stdout.flush()
        sys.stdout.buffer.write((head + recipe_text(self.everything, self.kind)).encode())
        sys.stdout.buffer.flush()
        return exits.SUCCEEDED


def asked(kind: RecipeKind, rows: TableFlags, **flags: Any) -> Asked:
    """Read the recipe that the flags name, and combine it with them; a flag that is None or empty was not given.

    Raises ``InputInvalid`` and ``InputUnreadable`` for the recipe.
    """
    of_table = {
        "query": rows.query,
        "separator": rows.separator,
        "key": rows.key,
        "limit": rows.limit,
        "name": rows.name,
        "output": rows.output,
    }
    of_rows = {"on_empty": rows.on_empty and rows.on_empty.value, "bad_rows": rows.bad_rows and rows.bad_rows.value}
    told = {**of_table, **of_rows, "raw_csv": rows.raw_csv or None, **flags}
    given = {name: value for name, value in told.items() if value is not None and value != ()}
    recipe = {} if rows.recipe is None else read_recipe_file(rows.recipe, kind)
    return Asked(kind, combined(recipe, given), rows)
