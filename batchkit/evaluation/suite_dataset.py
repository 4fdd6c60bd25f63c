"""The part of a suite that names its rows: one table, or several that are asked as one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batchkit.files.checked_yaml import Place

#: The columns that the rows of several datasets get: the name of their dataset, and their key and cluster with that name before it.
DATASET: Final = "dataset"
DATASET_KEY: Final = "dataset_key"
DATASET_CLUSTER: Final = "dataset_cluster"
#: Without dots: the first dot of a key ends the name, so that no two datasets have the same key.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_OF_EACH: Final = ("path", "query", "separator", "key", "cluster")


def as_tuple(value: Any) -> Any:
    """Return a text as the only one of several."""
    return (value,) if isinstance(value, str) else value


def parts_of(path: Sequence[str], folder: str) -> list[str]:
    """Return the parts of a table's address, with relative paths of files from ``folder``."""
    return [part if "://" in part else str(Path(folder) / part) for part in path]


class _Rows(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = Field(min_length=1)
    query: str | None = None
    separator: str | None = None
    key: str | None = None
    cluster: str | None = None

    def parts(self, folder: str) -> list[str]:
        """Return the parts of the table's address, with relative paths of files from ``folder``."""
        return parts_of(self.path, folder)


def _named(value: Any) -> Any:
    """Return a dataset with a name: by default that of its first file, without its endings."""
    given = {"path": value} if isinstance(value, str | list) else value
    if not isinstance(given, dict) or given.get("name") is not None or not given.get("path"):
        return given
    first = given["path"] if isinstance(given["path"], str) else given["path"][0]
    is_file = isinstance(first, str) and "://" not in first
    return {**given, "name": Path(first).name.split(".")[0]} if is_file else given


class NamedDataset(_Rows):
    """One of several tables: as ``Dataset``, with a name."""

    name: str


class Dataset(_Rows):
    """The table: files, folders or a database URL with a ``query``; the column that names the rows; the number of rows.

    ``subset`` takes so many of the rows at random (``subset_seed``), as many of each combination of the suite's slices as they
    are frequent; the other rows are not asked about.

    ``cluster`` is the column that says which rows belong together: questions about one passage, of one user, of one conversation
    are easy or hard together, and count as one unit in intervals and tests. ``separator`` is the sign between the cells of CSV files.

    Several ``datasets`` with the same columns are asked as one table, one after the other. Their rows get the columns ``dataset``,
    and ``dataset_key`` and ``dataset_cluster`` if they have keys and clusters.
    """

    path: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = ()
    datasets: tuple[Annotated[NamedDataset, BeforeValidator(_named)], ...] = ()
    limit: int | None = Field(default=None, ge=1)
    subset: int | None = Field(default=None, ge=1)
    subset_seed: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _of_several(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not given.get("datasets"):
            return given
        made = {"key": DATASET_KEY, "cluster": DATASET_CLUSTER}
        for name in _OF_EACH:
            # A stored suite has the names of the columns that are made, and the others without a value.
            if given.get(name) and given[name] != made.get(name):
                raise ValueError(f"`{name}` belongs to each of the datasets")
        parts = [part for part in given["datasets"] if isinstance(part, dict)]
        return {**given, **{name: made[name] for name in made if any(part.get(name) for part in parts)}}

    @model_validator(mode="after")
    def _has_rows(self) -> Self:
        if not self.path and not self.datasets:
            raise ValueError("the key 'path' is missing")
        return self

    @property
    def tables(self) -> tuple[_Rows, ...]:
        """The tables that the rows are in."""
        return self.datasets or (self,)

    def contradictions(self) -> Iterator[tuple[Place, str]]:
        """Yield what is wrong between several datasets, each with its place in the suite."""
        for number, dataset in enumerate(self.datasets):
            where: Place = ("dataset", "datasets", number)
            if _NAME.fullmatch(dataset.name) is None:
                yield (
                    (*where, "name"),
                    f"{dataset.name!r}: a dataset's name is made of letters, digits, dashes and underscores",
                )
            if dataset.name in [earlier.name for earlier in self.datasets[:number]]:
                yield where, f"two datasets are called {dataset.name!r}: give one of them another `name`"
            for name, made in (("key", self.key), ("cluster", self.cluster)):
                if made is not None and getattr(dataset, name) is None:
                    yield where, f"the dataset {dataset.name!r} needs a `{name}`, as the others have one"

    def columns(self) -> Iterator[tuple[Place, str | None]]:
        """Yield the columns that are named, each with its place in the suite."""
        yield ("dataset", "key"), self.key
        yield ("dataset", "cluster"), self.cluster
        for number, dataset in enumerate(self.datasets):
            yield ("dataset", "datasets", number, "key"), dataset.key
            yield ("dataset", "datasets", number, "cluster"), dataset.cluster
