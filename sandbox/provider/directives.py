"""Reads directives (the table is in the package's docstring) from a header and a prompt."""

import re
from collections.abc import Mapping

_IN_PROMPT = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s)?")
_SIZE = re.compile(r"(\d+)\s*(B|KB|MB|GB)?", re.IGNORECASE)
_UNITS = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}
KNOWN = frozenset(
    [
        "say",
        "words",
        "tools",
        "reasoning",
        "prompt-tokens",
        "completion-tokens",
        "cached-tokens",
        "delay",
        "slow",
        "drip",
        "hang",
        "stall",
        "status",
        "retry-after",
        "html",
        "redirect",
        "error",
        "reset",
        "cut",
        "end",
        "no-usage",
        "usage",
        "done",
        "crlf",
        "comments",
        "nul",
        "duplicate-index",
        "line",
        "gzip",
        "bad-json",
        "empty",
        "length",
        "headers",
        "early",
        "tag",
        "times",
        "says",
        "searches",
        "images",
        "tier",
    ]
)


class BadDirective(ValueError):
    """A directive that does not exist, or a value that it cannot have: a test with a typing error, so say so."""


class Directives(Mapping[str, str]):
    """What one request asked of the sandbox."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self):  # noqa: ANN204 - Mapping's
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def number(self, name: str) -> int | None:
        """The value as a whole number; None when absent or not a number (`cut=json:3` has none)."""
        value = self._values.get(name, "")
        return int(value) if value.isdecimal() else None

    def seconds(self, name: str, default: float = 0.0, *, bare: float | None = None) -> float:
        """The value as seconds; `bare` for a directive without a value."""
        if name not in self._values:
            return default
        value = self._values[name]
        if not value and bare is not None:
            return bare
        found = _TIME.fullmatch(value)
        if found is None:
            raise BadDirective(f"{name}={value}: expected a time such as 2s or 50ms")
        return float(found[1]) / (1000 if found[2] == "ms" else 1)

    def size(self, name: str) -> int | None:
        """The value as bytes; None when absent or without a value."""
        value = self._values.get(name, "")
        if not value:
            return None
        found = _SIZE.fullmatch(value)
        if found is None:
            raise BadDirective(f"{name}={value}: expected a size such as 10MB")
        return int(found[1]) * _UNITS[(found[2] or "B").upper()]

    def inside(self, name: str) -> tuple[str, int] | None:
        """`cut=json:3` as ("json", 3)."""
        place, colon, number = self._values.get(name, "").partition(":")
        return (place, int(number)) if colon and number.isdecimal() else None


def parse(text: str) -> Directives:
    """`delay=2s; no-usage` as directives. Raises BadDirective for a name that does not exist."""
    values: dict[str, str] = {}
    for item in text.split(";"):
        name, _, value = item.strip().partition("=")
        if not name:
            continue
        if name.strip() not in KNOWN:
            raise BadDirective(f"{name.strip()} is not a directive")
        values[name.strip()] = value.strip()
    return Directives(values)


def find(header: str, prompt: str) -> Directives:
    """The directives of a request: those of the header, then those in the prompt."""
    return parse(";".join([header, *_IN_PROMPT.findall(prompt)]))


def without(prompt: str) -> str:
    """The prompt as a model would read it."""
    return _IN_PROMPT.sub("", prompt).strip()
