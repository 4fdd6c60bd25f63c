"""``transcribe``: the audio that a table points to becomes text."""

from __future__ import annotations

from typing import Annotated

import typer

from batchkit.cli.options import answers, completion, parsing, tables
from batchkit.cli.options.flags import CutFlags, DriveFlags, TableFlags, spread
from batchkit.datasets import require_extra

AUDIO = "Transcription"

AudioColumn = Annotated[
    str | None,
    typer.Option(
        "--audio",
        metavar="COLUMN",
        help="The column with the audio: addresses (http(s)://, or data: with the audio itself), or paths of files from the"
        " table's folder on, which are sent one by one. Required here or in the recipe.",
        rich_help_panel=AUDIO,
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="The speech model (default whisper-large-v3-turbo, with --translate whisper-large-v3).",
        rich_help_panel=AUDIO,
        show_default=False,
        autocompletion=completion.speech_models,
    ),
]
Translate = Annotated[
    bool, typer.Option("--translate", metavar="", help="Translate into English.", rich_help_panel=AUDIO)
]
Language = Annotated[
    str | None,
    typer.Option(
        "--language",
        metavar="CODE",
        help="What is spoken, as ISO 639-1 (en, tr, ...): more exact and faster.",
        rich_help_panel=AUDIO,
        show_default=False,
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        metavar="TEXT",
        help="Style and spelling of rare words, a template as for annotate; @FILE reads it from a file; at most 224 tokens.",
        rich_help_panel=AUDIO,
        show_default=False,
    ),
]
Timestamps = Annotated[
    str | None,
    typer.Option(
        "--timestamps",
        metavar="WORDS",
        help="segment, word, or both with a comma; quality is judged by segments (default segment).",
        rich_help_panel=AUDIO,
        show_default=False,
    ),
]
AllowPaths = Annotated[
    bool,
    typer.Option(
        "--allow-paths",
        metavar="",
        help="Read files also outside of the table's folder (../, absolute paths, links that lead out): only for a table that you"
        " trust, because the files are sent to the provider.",
        rich_help_panel=AUDIO,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option("--temperature", metavar="X", help="0 to 1; 0 is best.", rich_help_panel=AUDIO, show_default=False),
]


@spread
def transcribe(
    table: tables.Tables,
    *,
    audio: AudioColumn = None,
    model: Model = None,
    translate: Translate = False,
    language: Language = None,
    prompt: Prompt = None,
    timestamps: Timestamps = None,
    temperature: Temperature = None,
    allow_paths: AllowPaths = False,
    tries: answers.Tries = None,
    rows: TableFlags,
    cut: CutFlags,
    flags: DriveFlags,
) -> None:
    """Transcribe or translate the audio that each row of TABLE names, and write the table with the text as a new column.

    The output has the text, its language and duration, and the segments with their quality figures (avg_logprob, no_speech_prob,
    compression_ratio), summarised in a quality column. The provider fetches audio from its URL. Files of this machine are sent one by one, as
    with --lane sync: up to 25 MB on a free plan, 100 MB on others. A format that the provider does not take is refused with the
    command that converts it.

    The same command resumes; the exit codes are those of `annotate`.

    For example:

        batchkit transcribe calls.csv --audio url --language en -o calls.parquet
        batchkit transcribe calls.csv --audio file
        batchkit transcribe calls.csv --audio url --translate
        batchkit transcribe calls.csv --audio url --prompt "A call by {{ name }}"
        batchkit transcribe talks.parquet --audio link --timestamps segment,word
    """
    require_extra()
    from batchkit.annotation import presets  # noqa: PLC0415 - --help need not wait for what tables need
    from batchkit.cli.asking import ask  # noqa: PLC0415 - as above
    from batchkit.cli.options import recipes  # noqa: PLC0415 - as above

    asked = recipes.asked(
        "transcribe",
        rows,
        audio=audio,
        model=model,
        translate=translate or None,
        language=language,
        prompt=None if prompt is None else parsing.text_of(prompt, "--prompt"),
        timestamps=parsing.listed(timestamps),
        temperature=temperature,
        allow_paths=allow_paths or None,
        tries=tries,
        max_cost=cut.max_cost,
        max_total_tokens=cut.max_total_tokens,
    )
    asked.require("audio", "--audio")
    arguments = asked.of_requests
    recipe = presets.transcription(arguments.pop("audio"), **arguments)
    raise typer.Exit(ask(asked, recipe, table, cut=cut, flags=flags))
