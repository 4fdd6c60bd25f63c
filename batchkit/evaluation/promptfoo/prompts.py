"""Prompts and providers of a configuration: what is asked, and which models."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from batchkit.annotation.parameters import Parameters
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.evaluation.promptfoo.reading import Source
    from batchkit.files.checked_yaml import Place

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_NAME_CHARACTERS: Final = 40
#: promptfoo.dev/docs/configuration/prompts: the line between the prompts of one text file.
_BETWEEN: Final = re.compile(r"^---[ \t]*$", re.MULTILINE)
_DUMP: Final = re.compile(r"\|\s*dump\b")
_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_CODE: Final = frozenset({".py", ".js", ".ts", ".mjs", ".cjs", ".mts", ".cts", ".sh"})
#: What may stand between a provider and the model: openai:chat:gpt-4o.
_KINDS: Final = frozenset({"chat", "completion", "messages", "responses"})
_NO_MODELS: Final = frozenset(
    {"file", "exec", "python", "http", "https", "ws", "wss", "webhook", "promptfoo", "package"}
)
_PARAMETERS: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_completion_tokens",
    "stop": "stop",
    "seed": "seed",
    "tools": "tools",
    "tool_choice": "tool_choice",
    "reasoning_effort": "reasoning_effort",
}


class Names:
    """Gives each thing a name of its own, of letters, digits, dots, dashes and underscores."""

    def __init__(self, taken: set[str] | None = None) -> None:
        self._taken = set(taken or ())

    def new(self, wanted: str) -> str:
        """Return a name like the wanted one."""
        name = _UNSAFE.sub("_", wanted).strip("_.-")[:_NAME_CHARACTERS] or "unnamed"
        unique, number = name, 1
        while unique in self._taken:
            number += 1
            unique = f"{name}_{number}"
        self._taken.add(unique)
        return unique


@dataclass(frozen=True, slots=True)
class ImportedPrompt:
    """A prompt as a suite has it: a text, or a list of messages; ``where`` is its place for people."""

    name: str
    content: str | list[dict[str, str]]
    where: str

    @property
    def texts(self) -> list[str]:
        """Its templates."""
        return [self.content] if isinstance(self.content, str) else [message["content"] for message in self.content]


@dataclass(slots=True)
class ImportedModels:
    """The models of all providers, and the parameters that they share."""

    names: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)


def read_prompts(source: Source) -> list[ImportedPrompt]:
    """Return the prompts that have a counterpart. Raises ``InputInvalid`` if there are none at all."""
    given = source.document.get("prompts")
    if isinstance(given, dict):
        # An older form: paths with names.
        listed: list[Any] = [{"id": path, "label": label} for path, label in given.items()]
    else:
        listed = given if isinstance(given, list) else [given]
    if given is None or not listed:
        raise source.error(("prompts",) if "prompts" in source.document else (), "the configuration has no `prompts`")
    names = Names()
    found: list[ImportedPrompt] = []
    for number, entry in enumerate(listed):
        place: Place = ("prompts", number) if isinstance(given, list) else ("prompts",)
        label, content = None, entry
        if isinstance(entry, dict):
            label, content = entry.get("label"), entry.get("raw", entry.get("id"))
            if entry.get("config") is not None:
                source.note(place, "the `config` of a prompt has no counterpart; set `parameters` in the suite")
        prompts = list(_contents(source, content, place))
        for wanted, value in prompts:
            name = label if isinstance(label, str) and label.strip() else wanted or f"prompt_{number + 1}"
            found.append(ImportedPrompt(names.new(name), value, source.where(place)))
    return found


def _contents(source: Source, content: Any, place: Place) -> Iterator[tuple[str, str | list[dict[str, str]]]]:
    """Yield a prompt's content, or those of its files, each with a name or an empty one."""
    if isinstance(content, list):
        yield from _chat(source, content, place, "")
    elif not isinstance(content, str) or not content.strip():
        source.note(place, "this is no prompt that a suite can have")
    elif source.is_file(content):
        reference = content.rpartition(":")[0] if _names_function(content) else content
        if Path(reference).suffix in _CODE:
            source.note(place, f"{content} is a program, which has no counterpart: write the prompt as a template")
            return
        for path in source.files(reference, source.where(place)):
            yield from _of_file(source, path, place)
    else:
        yield from _of_text(source, content, place, "")


def _names_function(content: str) -> bool:
    path, _, function = content.rpartition(":")
    return Path(path).suffix in _CODE and function.isidentifier()


def _of_file(source: Source, path: Path, place: Place) -> Iterator[tuple[str, str | list[dict[str, str]]]]:
    suffix = path.suffix.lower()
    if suffix in {".yaml", ".yml"}:
        value = source.value(path)
        listed = value if isinstance(value, list) else [value]
        if all(isinstance(entry, dict) and "role" in entry for entry in listed):
            yield from _chat(source, listed, place, path.stem)
            return
        for entry in listed:
            named = entry if isinstance(entry, dict) else {"raw": entry}
            content = named.get("raw", named.get("id"))
            if isinstance(content, str) and not source.is_file(content):
                yield from _of_text(source, content, place, str(named.get("label") or path.stem))
            else:
                source.note(place, f"{path.name} has an entry that is neither a message nor the text of a prompt")
    elif suffix in {".txt", ".md", ".j2", ".json", ""}:
        text = source.text(path)
        for part in _BETWEEN.split(text) if suffix == ".txt" else [text]:
            if part.strip():
                yield from _of_text(source, part.strip(), place, path.stem)
    else:
        source.note(place, f"{path.name}: prompts are read from .txt, .md, .j2, .json and .yaml files only")


def _of_text(source: Source, text: str, place: Place, name: str) -> Iterator[tuple[str, str | list[dict[str, str]]]]:
    """Yield a text, or the chat that it is in JSON."""
    if text.lstrip().startswith(("[", "{")) and '"role"' in text:
        try:
            value = jsonl.loads(text)
        except jsonl.MalformedJson as error:
            source.note(place, f"the chat of this prompt is not JSON before its variables are filled in: {error}")
            return
        yield from _chat(source, value, place, name)
    else:
        yield name, in_jinja(text)


def _chat(source: Source, value: Any, place: Place, name: str) -> Iterator[tuple[str, list[dict[str, str]]]]:
    listed = value.get("messages") if isinstance(value, dict) else value
    messages = []
    for message in listed if isinstance(listed, list) else [None]:
        given = message if isinstance(message, dict) else {}
        role, content = _ROLES.get(str(given.get("role"))), given.get("content")
        if role is None or not isinstance(content, str) or not content:
            source.note(
                place, "a message of this chat is no text of system, user or assistant, so the chat is left out"
            )
            return
        messages.append({"role": role, "content": in_jinja(content)})
    if not messages or messages[-1]["role"] == "system" or all(message["role"] != "user" for message in messages):
        source.note(place, "this chat does not end with a question of the user's, so it is left out")
        return
    yield name, messages


def in_jinja(text: str) -> str:
    """Return a template of Nunjucks as one of Jinja2: they differ in the name of one filter that prompts use."""
    return _DUMP.sub("| tojson", text)


def read_models(source: Source) -> ImportedModels:
    """Return the models that the providers name. Raises ``InputInvalid`` if there are none."""
    key = "targets" if "providers" not in source.document and "targets" in source.document else "providers"
    given = source.document.get(key)
    found = ImportedModels()
    configs: list[dict[str, Any]] = []
    listed = given if isinstance(given, list) else [given]
    for number, entry in enumerate(listed):
        place: Place = (key, number) if isinstance(given, list) else (key,)
        provider, options = _provider(entry)
        model = model_of(provider)
        if model is None:
            source.note(place, f"the provider {provider or entry!r} has no model that an account could be asked for")
        elif model in found.names:
            source.note(place, f"the model {model} is there already: a suite asks each model in one way")
        else:
            if model != provider:
                source.note(place, f"{provider} is asked as the model {model} of your account")
            found.names.append(model)
            config = options.get("config")
            configs.append(config if isinstance(config, dict) else {})
            for name in sorted(set(map(str, options)) - {"id", "label", "config"}):
                source.note(place, f"`{name}` of a provider has no counterpart")
    if not found.names:
        raise source.error((key,) if key in source.document else (), "no provider has a model that a suite could ask")
    found.parameters = _parameters(source, configs, (key,))
    return found


def _provider(entry: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(entry, str):
        return entry, {}
    if not isinstance(entry, dict):
        return "", {}
    if isinstance(entry.get("id"), str):
        provider = entry.get("provider")
        return provider if isinstance(provider, str) else entry["id"], entry
    # The provider is the key of its options.
    name, options = next(iter(entry.items()), ("", {}))
    return str(name), options if isinstance(options, dict) else {}


def model_of(provider: str) -> str | None:
    """Return the model of a provider (``openai:chat:gpt-4o``); None for a program or an address."""
    first, _, rest = provider.strip().partition(":")
    if not first or first in _NO_MODELS:
        return None
    if not rest:
        return first
    kind, _, model = rest.partition(":")
    return model if kind in _KINDS and model else rest


def _parameters(source: Source, configs: list[dict[str, Any]], place: Place) -> dict[str, Any]:
    """Return the parameters that all models have in common; the others are noted."""
    shared: dict[str, Any] = {}
    for name in dict.fromkeys(name for config in configs for name in config):
        known = _PARAMETERS.get(name)
        values = [config.get(name) for config in configs]
        if name == "response_format" and all(_is_json_mode(value) for value in values):
            shared["response_format"] = "json_object"
        elif known is None:
            source.note(place, f"`{name}` in the `config` of a provider has no counterpart")
        elif any(value != values[0] for value in values):
            source.note(place, f"`{name}` differs from provider to provider; a suite has the same parameters for all")
        else:
            value = [values[0]] if known == "stop" and isinstance(values[0], str) else values[0]
            try:
                Parameters.model_validate({known: value})
            except ValidationError:
                source.note(place, f"`{name}` has a value that no request takes")
            else:
                shared[known] = value
    return shared


def _is_json_mode(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == "json_object"
