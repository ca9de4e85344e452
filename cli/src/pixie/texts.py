"""Texts of others on a terminal: made harmless, shortened, and turned into the names of files."""

import re
import unicodedata
from decimal import Decimal, InvalidOperation

MAX_NAME = 48
# C0 but tab and newline, DEL, C1: what moves cursors, rings bells and rewrites titles. Also what turns writing around.
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_BARS = "▁▂▃▄▅▆▇█"


def harmless(text: object) -> str:
    """`text` without the characters that steer a terminal."""
    return _HARMFUL.sub("", str(text))


def shortened(text: object, length: int) -> str:
    """The first line's worth of `text`."""
    flat = " ".join(harmless(text).split())
    return flat if len(flat) <= length else f"{flat[: length - 1].rstrip()}…"


def file_stem(prompt: str) -> str:
    """A file's name from a prompt: `A fox, in snow!` -> `a-fox-in-snow`."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if len(stem) > MAX_NAME:
        stem = stem[:MAX_NAME].rpartition("-")[0] or stem[:MAX_NAME]
    return stem.strip("-") or "image"


def credits(amount: object) -> str:
    """An amount of credits for people: `12.3400` -> `12.34`; what is no number is shown as it is."""
    try:
        number = Decimal(str(amount))
    except InvalidOperation:
        return harmless(amount)
    text = f"{number:,f}"
    if "." not in text:
        return f"{text}.00"
    whole, fraction = text.split(".")
    return f"{whole}.{fraction.rstrip('0'):0<2}"


def sparkline(values: list[float]) -> str:
    """One bar a value, the tallest the greatest; nothing is a blank, and the least of something is a bar."""
    top = max(values, default=0)
    if top <= 0:
        return " " * len(values)
    return "".join(" " if value <= 0 else _BARS[min(7, int(value / top * 7.999))] for value in values)
