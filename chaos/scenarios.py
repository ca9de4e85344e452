"""What is too special for the storm: each scenario on an installation of its own."""

from collections.abc import Callable
from typing import Any

from chaos.rounds import Say

Outcome = tuple[list[str], dict[str, Any]]


class Skipped(Exception):
    """This machine cannot do that; the message says why."""


SCENARIOS: dict[str, Callable[[int, Say], Outcome]] = {}
