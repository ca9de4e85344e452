"""Recordings to be written down: forms of some hundred kilobytes, sent in pieces."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

from config.tests.scripts import BYTES_PER_TOKEN

BOUNDARY = "chaos-7f3a9b"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
PIECE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Upload:
    """A recording of `tokens` words, and what goes with it."""

    model: str
    prompt: str
    recording: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.recording).hexdigest()

    async def pieces(self, pause_s: float) -> AsyncIterator[bytes]:
        """The body, at a client's pace."""
        body = b"".join(
            [
                *(_field(name, value) for name, value in (("model", self.model), ("prompt", self.prompt))),
                f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'.encode(),
                b"Content-Type: application/octet-stream\r\n\r\n",
                self.recording,
                f"\r\n--{BOUNDARY}--\r\n".encode(),
            ]
        )
        for offset in range(0, len(body), PIECE_BYTES):
            yield body[offset : offset + PIECE_BYTES]
            await asyncio.sleep(pause_s)


def upload(model: str, prompt: str, tokens: int, chance: random.Random) -> Upload:
    """A recording in which the scripted upstream hears `tokens` words."""
    return Upload(model, prompt, chance.randbytes(tokens * BYTES_PER_TOKEN))


def _field(name: str, value: str) -> bytes:
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
