"""Server-sent events, incrementally (WHATWG HTML, section 9.2.6), keeping every byte for those who only watch."""

from collections.abc import Iterator
from dataclasses import dataclass

DONE = b"[DONE]"
MAX_FRAME_BYTES = 8 * 1024 * 1024
# An unfinished event beyond this is no longer searched from its start with every piece.
LONG_TAIL_BYTES = 64 * 1024
# The longest end of an event, "\r\n\r\n", less one: what must be seen again with the next piece.
_SEAM = 3


class FrameTooLarge(Exception):
    """An event longer than `MAX_FRAME_BYTES`: no honest upstream sends one."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One event: its bytes as they came, blank line included, and the joined `data:` lines (None: only comments)."""

    raw: bytes
    data: bytes | None


class Splitter:
    """Cuts a byte stream after complete events; what is incomplete waits for the next `feed`.

    `feed` gives the longest prefix that ends with an event, as one block. Lines may end with LF, CRLF or CR.
    An event longer than `limit` bytes is `FrameTooLarge`.
    """

    __slots__ = ("_limit", "_pieces", "_size", "_tail")

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self._limit = limit
        self._tail = b""
        # Of a long event the pieces before the tail: joined once, when its end is there.
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> bytes:
        """The bytes up to the last complete event in what has come so far; b"" if there is none."""
        data = self._tail + chunk if self._tail else chunk
        end = _end_of_last_event(data)
        if self._size + len(data) - end > self._limit:
            raise FrameTooLarge
        if not end and len(data) > LONG_TAIL_BYTES:
            self._pieces.append(data[:-_SEAM])
            self._size += len(data) - _SEAM
            self._tail = data[-_SEAM:]
            return b""
        self._tail = data[end:]
        ready = data[:end] if self._tail else data
        if end and self._pieces:
            ready = b"".join((*self._pieces, ready))
            self._pieces, self._size = [], 0
        return ready

    def flush(self) -> bytes:
        """What is left at the end of the stream: an event that was never finished, or b""."""
        tail = b"".join((*self._pieces, self._tail))
        self._tail, self._pieces, self._size = b"", [], 0
        return tail


def frames(block: bytes) -> Iterator[Frame]:
    """The events of a block that `Splitter.feed` gave (or of its unfinished rest)."""
    start = position = 0
    lines: list[bytes] = []
    length = len(block)
    while position < length:
        line_end, next_line = _line(block, position)
        line = block[position:line_end]
        position = next_line
        if line.startswith(b"data:"):
            lines.append(line[6:] if line[5:6] == b" " else line[5:])
        elif not line:
            yield Frame(block[start:position], b"\n".join(lines) if lines else None)
            start, lines = position, []
    if start < length:
        yield Frame(block[start:], b"\n".join(lines) if lines else None)


def _line(block: bytes, position: int) -> tuple[int, int]:
    """Where the line at `position` ends, and where the next one starts."""
    lf = block.find(b"\n", position)
    end = lf if lf >= 0 else len(block)
    cr = block.find(b"\r", position, end)
    if cr < 0:
        return end, end + 1
    return cr, cr + 2 if block[cr + 1 : cr + 2] == b"\n" else cr + 1


def _end_of_last_event(data: bytes) -> int:
    end = data.rfind(b"\n\n") + 2
    if end < 2:
        end = 0
    if b"\r" not in data:
        return end
    for ending in (b"\r\n\r\n", b"\n\r\n", b"\r\r", b"\r\n\n", b"\n\r"):
        found = data.rfind(ending)
        if found >= 0:
            end = max(end, found + len(ending))
    # A CR at the very end may be half of a CRLF: its event is complete only when the next byte is known.
    if end == len(data) and data.endswith(b"\r"):
        return _end_of_last_event(data[:-1])
    return end
