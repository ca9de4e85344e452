"""CSV that spreadsheets open: no text of a customer becomes a formula there."""

from typing import Any

# What begins a formula, also in the wide forms of East Asian text; and what may stand before it unseen (OWASP).
_BEGINNINGS = frozenset("=+-@\t\r\n＝＋－＠")


def plain(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in _BEGINNINGS else text


def plain_row(row: dict[str, Any]) -> dict[str, Any]:
    """The row with every text made plain; numbers stay numbers."""
    return {name: plain(value) if isinstance(value, str) else value for name, value in row.items()}
