"""``annotate``: a question to every row of a table."""

from __future__ import annotations

import typer

from batchkit.cli.options import answers, messages, parameters, parsing, people, tables
from batchkit.cli.options.flags import CutFlags, DriveFlags, TableFlags, spread
from batchkit.datasets import require_extra


@spread
def annotate(
    table: tables.Tables,
    *,
    prompt: messages.Prompt = None,
    model: messages.Models = None,
    system: messages.System = None,
    prefill: messages.Prefill = None,
    messages: messages.Messages = None,
    examples: people.Examples = None,
    examples_count: people.ExamplesCount = None,
    examples_seed: people.ExamplesSeed = None,
    examples_nearest: people.ExamplesNearest = False,
    samples: messages.Samples = None,
    image: messages.Image = None,
    shrink_images: messages.ShrinkImages = False,
    allow_paths: messages.AllowPaths = False,
    schema: answers.Schema = None,
    choices: answers.Choices = None,
    pattern: answers.Pattern = None,
    number: answers.Number = None,
    tools: answers.Tools = None,
    tool_choice: answers.ToolChoice = None,
    tries: answers.Tries = None,
    no_instruct: answers.NoInstruct = False,
    temperature: parameters.Temperature = None,
    top_p: parameters.TopP = None,
    max_completion_tokens: parameters.MaxCompletionTokens = None,
    stop: parameters.Stop = None,
    seed: parameters.Seed = None,
    response_format: parameters.ResponseFormat = None,
    reasoning_format: parameters.ReasoningFormat = None,
    reasoning_effort: parameters.ReasoningEffort = None,
    include_reasoning: parameters.IncludeReasoning = None,
    review: people.Review = None,
    reviewed: people.Reviewed = None,
    gold: people.Gold = None,
    weights: people.Weighing = None,
    rows: TableFlags,
    cut: CutFlags,
    flags: DriveFlags,
) -> None:
    """Ask a question about every row of TABLE, and write the table with the answers as new columns.

    All rows are rendered and checked before anything is sent; from then on it is a workload like that of `run`. A request is sent
    again if its answer breaks the rules (--schema, --choices, --pattern, --number, --tools), is cut off, or is empty. The output has
    one row per input row, in order, with status, error, attempts, tokens and cost. Each model and each sample is an
    annotator: the majority of labels or the median of numbers is the answer, and the agreement is printed.

    The same command resumes. A changed table, prompt, schema, model or parameter makes a new workload; with --name it is
    refused.

    Exit codes: 0 every request succeeded; 2 bad usage or input, nothing was sent; 3 finished, but some requests failed;
    4 not finished, and the same command resumes; 6 stopped by the budget; 130 interrupted.

    For example:

        export MODEL=openai/gpt-oss-20b
        batchkit annotate a.csv --prompt "{{ text }}?" --choices yes,no -m $MODEL
        batchkit annotate a.csv --prompt @ask.j2 --schema a.json -m $MODEL -o b.csv
        batchkit annotate a.csv --prompt @ask.j2 --models $MODEL,openai/gpt-oss-120b
        batchkit annotate a.csv --prompt @ask.j2 -m $MODEL --limit 20 --dry-run
        batchkit annotate a.csv --prompt @ask.j2 -m $MODEL --print-recipe > a.yaml
        batchkit annotate b.csv --recipe a.yaml
    """
    require_extra()
    from batchkit.annotation import presets  # noqa: PLC0415 - --help need not wait for what tables need
    from batchkit.cli.asking import ask  # noqa: PLC0415 - as above
    from batchkit.cli.options import recipes  # noqa: PLC0415 - as above

    asked = recipes.asked(
        "annotate",
        rows,
        prompt=None if prompt is None else parsing.text_of(prompt, "--prompt"),
        system=None if system is None else parsing.text_of(system, "--system"),
        prefill=prefill,
        models=parsing.models_of(model),
        schema=schema,
        choices=parsing.choices_of(choices),
        pattern=pattern,
        number=None if number is None else parsing.bounds_of(number),
        tools=tuple(parsing.tools_in(tools)),
        parameters=parsing.parameters_of(
            temperature=temperature,
            top_p=top_p,
            max_completion_tokens=max_completion_tokens,
            stop=tuple(stop) if stop else None,
            seed=seed,
            tool_choice=parsing.tool_choice_of(tool_choice),
            response_format=response_format,
            reasoning_format=reasoning_format,
            reasoning_effort=reasoning_effort,
            include_reasoning=include_reasoning,
        ),
        messages=messages,
        examples=examples,
        examples_count=examples_count,
        examples_seed=examples_seed,
        examples_nearest=examples_nearest or None,
        samples=samples,
        tries=tries,
        instruct=False if no_instruct else None,
        images=tuple(image or ()),
        shrink_images=shrink_images or None,
        allow_paths=allow_paths or None,
        review=review,
        reviewed=reviewed,
        gold=tuple(gold or ()),
        weights=weights and weights.value,
        max_cost=cut.max_cost,
        max_total_tokens=cut.max_total_tokens,
    )
    if not asked.everything.get("messages"):
        asked.require("prompt", "--prompt")
    asked.require("models", "--model")
    recipe = presets.annotation(**{"prompt": "", **asked.of_requests})
    raise typer.Exit(ask(asked, recipe, table, cut=cut, flags=flags))
