"""What a session's frames say of its size: the context that every turn pays for again, and what each response makes.

Counts are estimates, for holds and for what the provider did not report; a reported usage corrects them (OpenAI's guide
"Managing costs": user audio is 1 token per 100 ms, the model's 1 per 50 ms).
"""

from dataclasses import dataclass, field
from typing import Any

from billing.pricing import Usage
from proxy.gateway import tokens

HEARD_MS_PER_TOKEN, SPOKEN_MS_PER_TOKEN = 100, 50
_BYTES_PER_S = {"audio/pcm": 48_000, "audio/pcmu": 8_000, "audio/pcma": 8_000}
# PCM has this many bytes a second; a client that says nothing sends it.
DEFAULT_BYTES_PER_S = 48_000
TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
_TEXT_DELTAS = frozenset(
    {
        "response.output_text.delta",
        "response.output_audio_transcript.delta",
        "response.function_call_arguments.delta",
        "response.text.delta",
        "response.audio_transcript.delta",
    }
)
_AUDIO_DELTAS = frozenset({"response.output_audio.delta", "response.audio.delta"})


@dataclass(slots=True)
class Making:
    """A response under way. `transcript` is what it says or writes."""

    audio_bytes: int = 0
    parts: list[str] = field(default_factory=list)
    counted_parts: int = 0
    text_tokens: int = 0

    def text_so_far(self, model: str) -> int:
        """Tokens of the text; parts that were counted are not counted again."""
        if self.counted_parts < len(self.parts):
            self.text_tokens += tokens.count("".join(self.parts[self.counted_parts :]), model)
            self.counted_parts = len(self.parts)
        return self.text_tokens


class Listener:
    """Follows one session, told of every event in either direction."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._heard_bytes_per_s = self._spoken_bytes_per_s = DEFAULT_BYTES_PER_S
        self._text = 0
        self._audio_ms = 0
        self._uncommitted_bytes = 0
        self.max_output_tokens: int | None = None
        self.transcription_model = ""
        self.making: dict[str, Making] = {}
        self.committed_ms = 0

    # ------------------------------------------------------------ what the client sends
    def client_sent(self, event: dict[str, Any]) -> None:
        """One client event, before it goes upstream."""
        match event.get("type"):
            case "input_audio_buffer.append":
                audio = event.get("audio")
                self._hear(len(audio) * 3 // 4 if isinstance(audio, str) else 0)
            case "input_audio_buffer.clear":
                self._uncommitted_bytes = 0
            case "session.update":
                self.configured(event.get("session"))
                self._text += tokens.parts_bound(_texts_of(event.get("session")), self._model)
            case "conversation.item.create":
                item = event.get("item")
                parts = item.get("content") if isinstance(item, dict) else None
                self._add_item(parts if isinstance(parts, list) else [item])
            case "response.create":
                self._text += tokens.parts_bound(_texts_of(event.get("response")), self._model)

    def client_sent_bytes(self, size: int) -> None:
        """A binary frame: sound, as far as we know."""
        self._hear(size)

    def configured(self, session: Any) -> None:
        """The session's own settings, asked for or confirmed."""
        if not isinstance(session, dict):
            return
        limit = session.get("max_output_tokens")
        if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
            self.max_output_tokens = limit
        elif limit == "inf":
            self.max_output_tokens = None
        self._heard_bytes_per_s = _rate(session, "input") or self._heard_bytes_per_s
        self._spoken_bytes_per_s = _rate(session, "output") or self._spoken_bytes_per_s
        named = transcription_of(session)
        if named is not None:
            self.transcription_model = named

    # ------------------------------------------------------------ what the provider sends
    def provider_sent(self, kind: str, event: dict[str, Any]) -> None:
        """One server event."""
        if kind in _AUDIO_DELTAS:
            delta = event.get("delta")
            self._making(event).audio_bytes += len(delta) * 3 // 4 if isinstance(delta, str) else 0
        elif kind in _TEXT_DELTAS:
            delta = event.get("delta")
            if isinstance(delta, str):
                self._making(event).parts.append(delta)
        elif kind == "response.created":
            response = event.get("response")
            if isinstance(response, dict):
                self.making.setdefault(str(response.get("id")), Making())
        elif kind == "input_audio_buffer.committed":
            self.committed_ms = self._ms(self._uncommitted_bytes)
            self._audio_ms += self.committed_ms
            self._uncommitted_bytes = 0
        elif kind in {"session.created", "session.updated"}:
            self.configured(event.get("session"))

    def finished(self, response_id: str, usage: Usage | None) -> None:
        """A response is over: what it read and made is the context of the next one."""
        made = self.making.pop(response_id, None)
        if usage is not None:
            heard = usage.audio_input + usage.cached_audio_input
            self._text = usage.input_tokens - heard + usage.output_tokens - usage.audio_output
            self._audio_ms = heard * HEARD_MS_PER_TOKEN + usage.audio_output * SPOKEN_MS_PER_TOKEN
        elif made is not None:
            self._text += made.text_so_far(self._model)
            self._audio_ms += self._spoken_ms(made)

    # ------------------------------------------------------------ counts
    @property
    def context_tokens(self) -> int:
        """What the next response reads, sound that is not committed yet included."""
        return self._text + -(-(self._audio_ms + self._ms(self._uncommitted_bytes)) // HEARD_MS_PER_TOKEN)

    def made_tokens(self) -> int:
        """What the responses under way have made so far."""
        return sum(self._made(making).output_tokens for making in self.making.values())

    def estimate(self, response_id: str) -> Usage:
        """The usage of one response as far as we saw it."""
        making = self.making.get(response_id) or Making()
        heard = -(-self._audio_ms // HEARD_MS_PER_TOKEN)
        return Usage(input=self._text, audio_input=heard) + self._made(making)

    def text_of(self, response_id: str) -> str:
        """What one response under way has written or said so far."""
        making = self.making.get(response_id)
        return "".join(making.parts) if making else ""

    def estimate_all(self) -> Usage | None:
        """The usage of everything under way; None if nothing is."""
        total: Usage | None = None
        for response_id in self.making:
            one = self.estimate(response_id)
            total = one if total is None else total + one
        return total

    def _made(self, making: Making) -> Usage:
        spoken = -(-self._spoken_ms(making) // SPOKEN_MS_PER_TOKEN)
        return Usage(output=making.text_so_far(self._model), audio_output=spoken)

    def _making(self, event: dict[str, Any]) -> Making:
        return self.making.setdefault(str(event.get("response_id")), Making())

    def _hear(self, size: int) -> None:
        self._uncommitted_bytes += size

    def _ms(self, size: int) -> int:
        return size * 1_000 // self._heard_bytes_per_s

    def _spoken_ms(self, making: Making) -> int:
        return making.audio_bytes * 1_000 // self._spoken_bytes_per_s

    def _add_item(self, parts: list[Any]) -> None:
        for part in parts:
            if isinstance(part, dict) and part.get("type") == "input_audio" and isinstance(part.get("audio"), str):
                self._audio_ms += self._ms(len(part["audio"]) * 3 // 4)
            else:
                self._text += tokens.parts_bound([part], self._model)


def transcription_of(session: dict[str, Any]) -> str | None:
    """The model that transcribes what the user says; "" where it is switched off, None where nothing is said of it."""
    sound = session.get("audio")
    heard = sound.get("input") if isinstance(sound, dict) else None
    if not isinstance(heard, dict) or "transcription" not in heard:
        return None
    wanted = heard["transcription"]
    return str(wanted.get("model") or "")[:200] if isinstance(wanted, dict) else ""


def _texts_of(session: Any) -> list[Any]:
    """What of a session, or of a response that is asked for, the model reads."""
    if not isinstance(session, dict):
        return []
    return [{name: session[name]} for name in ("instructions", "tools", "input", "prompt") if session.get(name)]


def _rate(session: dict[str, Any], side: str) -> int | None:
    """Bytes a second of the sound on one side."""
    sound = session.get("audio")
    one = sound.get(side) if isinstance(sound, dict) else None
    wanted = one.get("format") if isinstance(one, dict) else None
    return _BYTES_PER_S.get(str(wanted.get("type"))) if isinstance(wanted, dict) else None
