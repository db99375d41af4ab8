"""`gathered`: several flags of a command reach it as one argument."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import click

C = TypeVar("C", bound=Callable[..., Any])


def gathered(into: str, make: Callable[..., object], flags: Sequence[click.Option]) -> Callable[[C], C]:
    """Add flags to a command, which gets one argument made of them.

    into: the argument's name.
    make: called with the values of those that were given, by name.
    """

    def add(command: C) -> C:
        @wraps(command)
        def call(**values: Any) -> Any:
            found = {str(flag.name): values.pop(str(flag.name)) for flag in flags}
            return command(**values, **{into: make(**{name: it for name, it in found.items() if it is not None})})

        # Where click.option adds one.
        call.__click_params__ = [*getattr(command, "__click_params__", ()), *reversed(flags)]  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]  # click calls it, by the flags' names

    return add
