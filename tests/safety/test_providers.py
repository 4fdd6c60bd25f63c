"""Only the provider's room and the emulator know a provider: no other code and no message names one."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
_NAMES = re.compile(
    r"groq|openai|azure|dashscope|qwen|moonshot|kimi|mistral|together\.ai|litellm|nebius|anthropic", re.IGNORECASE
)
#: The package's own name, names of models, paths that all of them share.
_HARMLESS = re.compile(r"groq[-_]batchkit|\bopenai/(gpt-|v1)|/openai/v1", re.IGNORECASE)
#: Where a provider is named on purpose: the default of a setting, and the emulator's own commands.
_NAMED = {
    "batchkit/cli/options/common.py": "default groq",
    "batchkit/cli/options/parameters.py": "Qwen 3",
    "batchkit/cli/render/demonstrated.py": "emulated Groq",
    "batchkit/cli/verbs/emulator.py": "",
    "batchkit/store/tables.py": "'groq'",
}


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the names and the texts of a module, without its docstrings and comments, with their lines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in docstrings:
                yield node.lineno, text
            case ast.Name(id=text) | ast.Attribute(attr=text) | ast.ImportFrom(module=str(text)):
                yield node.lineno, text


def test_no_room_but_the_providers_own_names_a_provider():
    """Whatever differs between providers is a value of the dialect."""
    found = []
    for path in sorted([*ROOT.glob("batchkit/**/*.py"), *ROOT.glob("flows/**/*.py")]):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(("batchkit/provider/", "batchkit/emulator/")):
            continue
        allowed = _NAMED.get(name)
        for line, text in texts_of(path):
            is_allowed = allowed is not None and allowed in text
            if not is_allowed and _NAMES.search(_HARMLESS.sub("", text)):
                found.append(f"{name}:{line}: {text[:100]!r}")
    assert found == []
