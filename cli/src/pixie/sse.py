"""Server-sent events (WHATWG HTML, section 9.2.6), comments included: the server tells a stream's cost in them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One event's name and joined data, or one comment line (then `data` is None)."""

    name: str = ""
    data: str | None = None
    comment: str = ""


def events(lines: Iterable[str]) -> Iterator[Event]:
    """The events of a stream of lines without their ends. One that is not ended by a blank line is not an event."""
    name, data = "", list[str]()
    for line in lines:
        if line.startswith(":"):
            yield Event(comment=line[1:].strip())
        elif line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                data.append(value)
            elif field == "event":
                name = value
        else:
            if data:
                yield Event(name, "\n".join(data))
            name, data = "", []


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a stream of bytes: ended by LF, CRLF or CR, whatever the chunks; never by U+2028 and the like."""
    pieces: list[bytes] = []  # of the line that has not ended: an image's is megabytes long
    after_cr = False
    for chunk in chunks:
        if after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]  # noqa: PLW2901 - its CR was in the chunk before
        after_cr = chunk.endswith(b"\r")
        first, *others = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        pieces.append(first)
        for other in others:
            yield b"".join(pieces).decode("utf-8", "replace")
            pieces = [other]
    if any(pieces):
        yield b"".join(pieces).decode("utf-8", "replace")


def parsed(event: Event) -> dict[str, Any]:
    """The JSON object of an event; an empty one for what is none, such as `[DONE]`."""
    try:
        told = json.loads(event.data or "")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
