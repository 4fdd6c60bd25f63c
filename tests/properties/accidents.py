"""Accidents between two statements of a step: the process dies, or another runner works."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Engine


class Killed(BaseException):
    """Raised when the process dies, and again by everything that it still tries to write."""


class Accidents:
    """Intercepts every connection, statement and commit of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._statements_left: int | None = None
        self._transactions_left: int | None = None
        self._turn: Callable[[], object] = lambda: None
        event.listen(engine, "before_cursor_execute", self._on_statement)
        event.listen(engine, "commit", self._on_statement)
        event.listen(engine, "engine_connect", self._on_connect)

    def _on_statement(self, *_: Any) -> None:
        if self._statements_left is None:
            return
        if self._statements_left <= 0:
            raise Killed
        self._statements_left -= 1

    def _on_connect(self, *_: Any) -> None:
        if self._transactions_left is None:
            return
        if self._transactions_left > 0:
            self._transactions_left -= 1
            return
        self._transactions_left = None
        self._turn()

    @contextmanager
    def death_after(self, statements: int) -> Iterator[None]:
        """Die before the next statement or commit after ``statements`` of them; the ``with`` block ends there, silently."""
        self._statements_left = statements
        try:
            yield
        except Killed:
            pass
        finally:
            self._statements_left = None

    @contextmanager
    def turn_after(self, transactions: int, turn: Callable[[], object]) -> Iterator[None]:
        """Run ``turn``, as another runner would, before the transaction that follows the next ``transactions``."""
        self._transactions_left, self._turn = transactions, turn
        try:
            yield
        finally:
            self._transactions_left = None
