"""Strings that match a regular expression of the kind JSON schemas use: classes, groups, alternatives, repetitions."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import regex

if TYPE_CHECKING:
    from collections.abc import Callable

_DIGITS = string.digits
_WORD = string.ascii_lowercase + string.digits + string.ascii_uppercase + "_"
_PRINTABLE = "".join(map(chr, range(33, 127))) + " "
_CLASSES = {"d": _DIGITS, "w": _WORD, "s": " ", "D": string.ascii_lowercase, "W": "-", "S": _WORD}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_MAX_REPEAT = 1_000
_MAX_LENGTH = 20_000
_SECONDS = 1.0


class PatternUnsupported(ValueError):
    """The pattern uses something beyond the basics of regular expressions, such as a look-ahead or a back-reference."""


@dataclass(frozen=True, slots=True)
class _Item:
    """``alternatives`` of sequences for a group, or ``choices`` of single characters; repeated ``least`` to ``most`` times."""

    choices: str = ""
    alternatives: tuple[tuple[_Item, ...], ...] = ()
    least: int = 1
    most: int = 1


def matching(pattern: str, entropy: int, *, shortest: int = 0, longest: int = _MAX_LENGTH) -> str:
    """Return a string of ``shortest`` to ``longest`` characters that matches ``pattern`` somewhere.

    The same entropy gives the same string. Raises ``PatternUnsupported`` when none is found.
    """
    tree = _parse(pattern)
    for extra in (1, 0, 2, 4, 8, 16, 32, 64, 128, shortest):
        candidate = _Writer(entropy, extra).alternatives(tree)
        if shortest <= len(candidate) <= longest and _is_found(regex.search, pattern, candidate):
            return candidate
    raise PatternUnsupported(f"no string found for the pattern {pattern!r}")


def matching_whole(pattern: str, entropy: int) -> str:
    """Return a string that ``pattern`` matches as a whole; the same entropy gives the same string. Raises ``PatternUnsupported``."""
    tree = _parse(pattern)
    for extra in (1, 0, 2, 4):
        candidate = _Writer(entropy, extra).alternatives(tree)
        if _is_found(regex.fullmatch, pattern, candidate):
            return candidate
    raise PatternUnsupported(f"no string found for the pattern {pattern!r}")


def _is_found(run: Callable[..., object], pattern: str, text: str) -> bool:
    """Return whether a pattern matches a text; a match that takes too long counts as none."""
    try:
        return run(pattern, text, timeout=_SECONDS) is not None
    except (TimeoutError, MemoryError, regex.error):
        return False


class _Writer:
    """Writes one string; open-ended repetitions run ``extra`` times above their least."""

    def __init__(self, entropy: int, extra: int) -> None:
        self._entropy = entropy | 1 << 96
        self._extra = extra
        self._written = 0

    def _pick(self, count: int) -> int:
        # A step of a multiplicative generator: fast, and the same on every machine.
        self._entropy = self._entropy * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407 & ((1 << 128) - 1)
        return (self._entropy >> 64) % count

    def alternatives(self, alternatives: tuple[tuple[_Item, ...], ...]) -> str:
        """Write one of the alternatives."""
        return "".join(map(self._item, alternatives[self._pick(len(alternatives))]))

    def _item(self, item: _Item) -> str:
        written = []
        for _ in range(min(item.most, item.least + self._extra)):
            self._written += 1
            if self._written > _MAX_LENGTH:
                raise PatternUnsupported("the pattern asks for too long a string")
            written.append(
                self.alternatives(item.alternatives)
                if item.alternatives
                else item.choices[self._pick(len(item.choices))]
            )
        return "".join(written)


@lru_cache(maxsize=256)
def _parse(pattern: str) -> tuple[tuple[_Item, ...], ...]:
    try:
        re.compile(pattern)
    except re.error as error:
        raise PatternUnsupported(f"the pattern {pattern!r} is not valid: {error}") from None
    parser = _Parser(pattern)
    tree = parser.alternatives()
    if parser.rest():
        raise PatternUnsupported(f"the pattern {pattern!r} has an unexpected {parser.rest()[0]!r}")
    return tree


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0

    def rest(self) -> str:
        """Return what is not read yet."""
        return self._text[self._at :]

    def _take(self) -> str:
        self._at += 1
        return self._text[self._at - 1]

    def _next_is(self, token: str) -> bool:
        if self._text.startswith(token, self._at):
            self._at += len(token)
            return True
        return False

    def alternatives(self) -> tuple[tuple[_Item, ...], ...]:
        """Read up to a closing parenthesis or the end."""
        found = [self._sequence()]
        while self._next_is("|"):
            found.append(self._sequence())
        return tuple(found)

    def _sequence(self) -> tuple[_Item, ...]:
        items: list[_Item] = []
        while self.rest() and self.rest()[0] not in "|)":
            item = self._atom()
            if item is not None:
                items.append(self._repeated(item))
        return tuple(items)

    def _atom(self) -> _Item | None:
        character = self._take()
        match character:
            case "^" | "$":
                return None
            case ".":
                return _Item(_WORD)
            case "[":
                return _Item(self._class())
            case "\\":
                return _Item(self._escape())
            case "(":
                return self._group()
            case _:
                return _Item(character)

    def _group(self) -> _Item:
        if self._next_is("?"):
            if self._next_is("P<"):
                while self._take() != ">":
                    pass
            elif not self._next_is(":"):
                raise PatternUnsupported(f"the pattern {self._text!r} uses a look-around or a flag")
        inner = self.alternatives()
        self._next_is(")")
        return _Item(alternatives=inner)

    def _escape(self) -> str:
        character = self._take()
        if character in _CLASSES:
            return _CLASSES[character]
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character in {"u", "x"}:
            width = 4 if character == "u" else 2
            code = self._text[self._at : self._at + width]
            self._at += width
            return chr(int(code, 16))
        if character.isalnum():
            raise PatternUnsupported(f"the pattern {self._text!r} uses \\{character}")
        return character

    def _class(self) -> str:
        negated = self._next_is("^")
        members: list[str] = []
        first = True
        while first or not self._next_is("]"):
            first = False
            start = self._take()
            if start == "\\":
                start = self._escape()
            if len(start) == 1 and self.rest()[0] == "-" and self.rest()[1] != "]":
                self._take()
                end = self._take()
                end = self._escape() if end == "\\" else end
                members.extend(map(chr, range(ord(start), min(ord(end), ord(start) + 500) + 1)))
            else:
                members.extend(start)
        if negated:
            members = [character for character in _PRINTABLE if character not in members]
        if not members:
            raise PatternUnsupported(f"the pattern {self._text!r} has an empty class")
        return "".join(members)

    def _repeated(self, item: _Item) -> _Item:
        least, most = 1, 1
        if self._next_is("*"):
            least, most = 0, _MAX_REPEAT
        elif self._next_is("+"):
            least, most = 1, _MAX_REPEAT
        elif self._next_is("?"):
            least, most = 0, 1
        elif counted := re.match(r"\{(\d+)(?:(,)(\d*))?\}", self.rest()):
            self._at += counted.end()
            least = int(counted[1])
            open_end = least + _MAX_REPEAT if counted[2] else least
            most = int(counted[3]) if counted[3] else open_end
        else:
            return item
        if not self._next_is("?"):
            self._next_is("+")
        return _Item(item.choices, item.alternatives, least, most)
