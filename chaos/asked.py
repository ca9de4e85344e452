"""What clients ask for, and what they write down of it."""

from dataclasses import dataclass

from config.tests import storm
from config.tests.scripts import SCRIPTS

CHAT, EMBEDDINGS, MESSAGES = "/v1/chat/completions", "/v1/embeddings", "/v1/messages"
TRANSCRIPTIONS, REALTIME = "/v1/audio/transcriptions", "/v1/realtime"
# Bombs that cost the load generator more than the gateway; config/tests/test_chaos_upstreams.py throws them.
HELL = sorted(set(SCRIPTS) - {"pace", "gzip_bomb", "long_line"})
# What a provider of Realtime does to a response: breaks the connection, tells no usage, fails.
SPOKEN_HELL = ["cut=3", "no-usage", "status=500"]


@dataclass(frozen=True)
class Kind:
    """A sort of request, and how often it comes."""

    name: str
    weight: int
    path: str = CHAT
    stream: bool = False
    customer: str = "rich"

    @property
    def ending(self) -> bytes:
        return b"event: message_stop" if self.path == MESSAGES else b"data: [DONE]"

    @property
    def is_repeated(self) -> bool:
        return self.name.startswith("repeated")

    @property
    def hangs_up(self) -> bool:
        return self.name.startswith("hang-up")

    def price(self, tokens: int) -> int:
        return 10 * storm.INPUT if self.path == EMBEDDINGS else storm.price(tokens)


KINDS = [
    Kind("plain", 20),
    Kind("streamed", 30, stream=True),
    Kind("embeddings", 8, path=EMBEDDINGS),
    Kind("message", 5, path=MESSAGES),
    Kind("message streamed", 5, path=MESSAGES, stream=True),
    Kind("upload", 4, path=TRANSCRIPTIONS),
    Kind("session", 4, path=REALTIME, stream=True),
    Kind("hang-up", 5),
    Kind("hang-up streamed", 7, stream=True),
    Kind("hang-up upload", 1, path=TRANSCRIPTIONS),
    Kind("hang-up session", 1, path=REALTIME, stream=True),
    Kind("repeated", 6),
    Kind("repeated streamed", 4, stream=True),
    Kind("repeated upload", 1, path=TRANSCRIPTIONS),
    Kind("poor", 3, customer="poor"),
    Kind("poor streamed", 3, customer="poor", stream=True),
    Kind("capped", 3, customer="capped"),
    Kind("capped streamed", 3, customer="capped", stream=True),
]
HELLISH = [
    Kind("hell", 6, customer="hell"),
    Kind("hell streamed", 6, customer="hell", stream=True),
    Kind("hell session", 1, path=REALTIME, customer="hell", stream=True),
]


@dataclass
class Asked(storm.Seen):
    """One request as its client knows it. `sha256` is of the file that it sent."""

    kind: Kind = KINDS[0]
    port: int = 0
    started_at: float = 0.0
    has_left: bool = False
    sha256: str = ""

    @property
    def price(self) -> int:
        """What its whole answer costs."""
        return self.kind.price(self.tokens)

    @property
    def is_cut(self) -> bool:
        """Whether it came to no end, though client and upstream did their part. A 503 is an answer."""
        return self.status in {0, 200} and not (self.is_whole or self.has_left or self.kind.customer == "hell")


@dataclass
class Spoken(Asked):
    """One response of a Realtime session: `marker` is its id, once it began. It is whole when `response.done` said
    that it is completed; `usage_price` is what that told. `close_code` and `error_code`: how the session ended."""

    usage_price: int = 0
    close_code: int = 0
    error_code: str = ""

    @property
    def price(self) -> int:
        return self.usage_price

    @property
    def is_cut(self) -> bool:
        """A worker that stops ends its sessions in words, and with the code for "come back"."""
        return super().is_cut and not (self.error_code == "service_unavailable" and self.close_code == COME_BACK)


COME_BACK = 1013
