"""The options that several verbs share, each with its unit and default, and how they become settings.

What a flag leaves open comes from the environment, ``.env``, ``batchkit.toml`` or the defaults of ``settings.py``.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchkit.cli.options import completion

if TYPE_CHECKING:
    from batchkit.settings import Settings

#: The words after ``batchkit``, as they were given.
COMMAND_LINE: ContextVar[tuple[str, ...]] = ContextVar("COMMAND_LINE", default=())
# To the last @ of the word: a password may hold any sign. Or among the options of a Postgres URL.
_PASSWORD = re.compile(r"(://[^:/@\s]*:)\S*@")
_PASSWORD_OPTION = re.compile(r"([?&](?:ssl)?password=)[^&\s]*", re.IGNORECASE)

LOCATIONS = "Locations and account"
BATCHES = "Batches and retries"
LANES = "Lane: batches or single calls"
BUDGET = "Budget"
WAITING = "Waiting"
NOTIFYING = "Notifications"

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="The workload's name.", show_default=False, autocompletion=completion.workload_names
    ),
]

Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="FOLDER",
        help="Where shard files and the SQLite database lie (BATCHKIT_HOME; default .batchkit).",
        rich_help_panel=LOCATIONS,
        show_default=False,
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="The results database: sqlite:///file.db or postgresql+psycopg://user@host/name"
        " (BATCHKIT_DATABASE_URL; default batchkit.db in the home folder).",
        rich_help_panel=LOCATIONS,
        show_default=False,
    ),
]
Provider = Annotated[
    str | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="Whose batch API it is (BATCHKIT_PROVIDER; default groq). With it BATCHKIT_BASE_URL does not count, but --base-url does.",
        autocompletion=completion.providers,
        rich_help_panel=LOCATIONS,
        show_default=False,
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        metavar="URL",
        help="The API's address, with its /v1 or /openai/v1 (BATCHKIT_BASE_URL; default the provider's own).",
        rich_help_panel=LOCATIONS,
        show_default=False,
    ),
]
AcceptOtherKey = Annotated[
    bool,
    typer.Option(
        "--accept-other-key",
        metavar="",
        help="Continue although another key or address submitted the workload (of the same organisation).",
        rich_help_panel=LOCATIONS,
    ),
]
NoPrefect = Annotated[
    bool,
    typer.Option(
        "--no-prefect",
        metavar="",
        help="Do not show the work in Prefect; the work itself is the same.",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", "--debug", metavar="", help="Log every call to stderr, and tracebacks of errors."),
]
RawCsv = Annotated[
    bool,
    typer.Option(
        "--raw-csv",
        metavar="",
        help="In a .csv, do not put an apostrophe before cells that a spreadsheet would run as formulas.",
    ),
]
PollInterval = Annotated[
    float | None,
    typer.Option(
        "--poll-interval",
        metavar="SECONDS",
        help="First wait between two status calls; it grows while nothing changes (default 15).",
        rich_help_panel=WAITING,
        show_default=False,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0,
        help="Stop after this time with exit code 4; the batches keep running (default no limit).",
        rich_help_panel=WAITING,
        show_default=False,
    ),
]
OnFinish = Annotated[
    str | None,
    typer.Option(
        "--on-finish",
        metavar="COMMAND",
        help="Run COMMAND when a workload or evaluation ends, or when an outage stops it; it gets a JSON report on stdin"
        " (BATCHKIT_ON_FINISH).",
        rich_help_panel=NOTIFYING,
        show_default=False,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", metavar="", help="Print the final summary as one line of JSON on stdout, no progress.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")]

WorkloadName = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME",
        help="The workload's name: the same name resumes it (default the first file's name without its ending).",
        show_default=False,
        autocompletion=completion.workload_names,
    ),
]
Window = Annotated[
    str | None,
    typer.Option(
        "--window",
        metavar="TIME",
        help="Completion window of a first try, such as 24h or 7d (default the provider's shortest).",
        rich_help_panel=BATCHES,
        show_default=False,
    ),
]
MaxWindow = Annotated[
    str | None,
    typer.Option(
        "--max-window",
        metavar="TIME",
        help="The longest window that a resubmission after expiry may take (default the provider's longest).",
        rich_help_panel=BATCHES,
        show_default=False,
    ),
]
ShardLines = Annotated[
    int | None,
    typer.Option(
        "--shard-lines",
        metavar="N",
        help="Requests per shard, at most 50000 (default 1000 to 50000, by the size of the input).",
        rich_help_panel=BATCHES,
        show_default=False,
    ),
]
ShardBytes = Annotated[
    int | None,
    typer.Option(
        "--shard-bytes",
        metavar="BYTES",
        help="The largest shard file, at most 200000000 (default 100000000).",
        rich_help_panel=BATCHES,
        show_default=False,
    ),
]
MaxAttempts = Annotated[
    int | None,
    typer.Option(
        "--max-attempts",
        metavar="N",
        help="How many attempts of one request may end in a transient error (default 5).",
        rich_help_panel=BATCHES,
        show_default=False,
    ),
]
MaxExpiries = Annotated[
    int | None,
    typer.Option(
        "--max-expiries",
        metavar="N",
        help="How often one request may expire or go missing (default 10).",
        rich_help_panel=BATCHES,
        show_default=False,
    ),
]
Lane = Annotated[
    str | None,
    typer.Option(
        "--lane",
        metavar="LANE",
        help="batch: in batches, at half the price; sync: one by one over the ordinary endpoints, at once and within the limits of"
        " the account; auto: sync for small inputs and for accounts without batches (BATCHKIT_LANE; default batch).",
        rich_help_panel=LANES,
        show_default=False,
    ),
]
Small = Annotated[
    int | None,
    typer.Option(
        "--small",
        metavar="N",
        min=0,
        help="With --lane auto, send an input of up to N requests one by one (default 100).",
        rich_help_panel=LANES,
        show_default=False,
    ),
]
Tier = Annotated[
    str | None,
    typer.Option(
        "--tier",
        metavar="TIER[,TIER]",
        help="The service tiers of single calls that name none, such as flex,on_demand: the next one counts when the one before has"
        " no room (default the provider's own).",
        rich_help_panel=LANES,
        show_default=False,
    ),
]
Deadline = Annotated[
    str | None,
    typer.Option(
        "--deadline",
        metavar="TIME",
        help="Finish by 2026-12-01T08:00+01:00 (without a zone: local time). Requests travel in batches as long as there is time, and"
        " what is then missing one by one; implies --lane auto. One that the limits cannot keep is refused.",
        rich_help_panel=LANES,
        show_default=False,
    ),
]
Within = Annotated[
    str | None,
    typer.Option(
        "--within",
        metavar="SPAN",
        help="The same, so long from the first command on: 90m, 6h, 2d.",
        rich_help_panel=LANES,
        show_default=False,
    ),
]
Late = Annotated[
    str | None,
    typer.Option(
        "--late",
        metavar="finish|stop",
        help="After the deadline: finish continues, stop sends nothing more and ends with exit code 4 (default finish).",
        rich_help_panel=LANES,
        show_default=False,
    ),
]
OnDoubt = Annotated[
    str | None,
    typer.Option(
        "--on-doubt",
        metavar="resend|fail",
        help="What becomes of a single call that was on the way when the command died, or got no answer in time: it may have been"
        " paid for. resend sends it again, fail counts it as failed (default resend).",
        rich_help_panel=LANES,
        show_default=False,
    ),
]
Rpm = Annotated[
    float | None,
    typer.Option(
        "--rpm",
        metavar="N",
        help="At most N single calls a minute for each model (default what the provider's answers say).",
        rich_help_panel=LANES,
        show_default=False,
    ),
]
Tpm = Annotated[
    float | None,
    typer.Option(
        "--tpm",
        metavar="N",
        help="At most N tokens a minute for each model, in single calls (default what the provider's answers say).",
        rich_help_panel=LANES,
        show_default=False,
    ),
]
MaxCost = Annotated[
    float | None,
    typer.Option(
        "--max-cost",
        metavar="USD",
        help="Send nothing more when what is spent and in flight reaches this price; exit code 6, and a higher value resumes"
        " (BATCHKIT_MAX_COST; default no limit).",
        rich_help_panel=BUDGET,
        show_default=False,
    ),
]
MaxTotalTokens = Annotated[
    int | None,
    typer.Option(
        "--max-total-tokens",
        metavar="N",
        help="The same for the tokens of prompts and answers together (BATCHKIT_MAX_TOTAL_TOKENS; default no limit).",
        rich_help_panel=BUDGET,
        show_default=False,
    ),
]
Reuse = Annotated[
    bool | None,
    typer.Option(
        "--reuse/--no-reuse",
        help="Do not send a request whose body has a valid answer in this database, or repeats another one of the input"
        " (default on for annotate, transcribe and moderate, off for the others; eval reuses within a run only).",
        rich_help_panel=BATCHES,
        show_default=False,
    ),
]
ReuseUrls = Annotated[
    bool,
    typer.Option(
        "--reuse-urls",
        help="Reuse also answers about remote images and recordings, whose content may have changed.",
        rich_help_panel=BATCHES,
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Where:
    """The flags that say where things are; None and False mean that they were not given."""

    home: Path | None = None
    database_url: str | None = None
    provider: str | None = None
    base_url: str | None = None
    accept_other_key: bool = False

    def settings(self, **more: Any) -> Settings:
        """Read the settings under these flags and ``more``. Raises ``ConfigurationError``."""
        from batchkit.settings import load_settings  # noqa: PLC0415 - pydantic takes longer to load than --help may take

        return load_settings(
            home=self.home,
            database_url=self.database_url,
            provider=self.provider,
            base_url=self.base_url,
            accept_other_key=self.accept_other_key or None,
            **more,
        )

    def command(self, verb: str, *arguments: str) -> str:
        """Write another command for the same place, ready to be copied into a shell."""
        words = [*executable(), verb, *arguments]
        if self.home is not None:
            words += ["--home", str(self.home)]
        if self.database_url is not None:
            words += ["--database-url", without_password(self.database_url)]
        return shlex.join(words)


def without_password(text: str) -> str:
    """Blank out the password of a URL, so that it is not printed a second time."""
    return _PASSWORD_OPTION.sub(r"\1***", _PASSWORD.sub(r"\1***@", text))


def same_command() -> str:
    """Write the command that is running, ready to be copied into a shell."""
    return shlex.join([*executable(), *(without_password(word) for word in COMMAND_LINE.get())])


def executable() -> list[str]:
    """Return the words that call this program again: as it was called, where that is not simply ``batchkit``."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py" and called.parent.name == "batchkit":
        return [sys.executable, "-m", "batchkit"]
    if called.name != "batchkit" or os.sep not in sys.argv[0]:
        return ["batchkit"]
    found = shutil.which("batchkit")
    return ["batchkit"] if found is not None and Path(found).resolve() == called.resolve() else [sys.argv[0]]


def verb() -> str:
    """Return the verb of the command that is running, as others are told who works on a workload."""
    return next((word for word in COMMAND_LINE.get() if not word.startswith("-")), "batchkit")
