"""Bodies and answers of transcriptions and translations. Priced by tokens or by the length of the sound."""

import math
from collections.abc import Mapping
from typing import IO, Any

from tinytag import TinyTag, TinyTagException

from billing.pricing import Rate, Usage
from proxy.gateway import fields, tokens
from proxy.gateway.errors import InvalidRequest, UnsupportedValue
from proxy.gateway.forms import FilePart, Form, typed
from proxy.gateway.jobs import Job, Rendered
from proxy.gateway.snapshots import Route
from proxy.gateway.typed_events import TypedMeter

FORMATS = frozenset({"json", "text", "srt", "verbose_json", "vtt", "diarized_json"})
# Formats that carry no usage: the upstream is asked for one that does, and the answer is written in them here.
WRITTEN = frozenset({"text", "srt", "vtt"})
# A file whose length its header does not tell: no usual codec is slower than this.
UNKNOWN_BYTES_PER_S = 2_000
MAX_SECONDS = 6 * 3600
# gpt-4o-transcribe hears ten tokens a second; twice that for the hold.
HELD_TOKENS_PER_S = 20
TOKENS_PER_S = 10
WRITTEN_TOKENS_PER_S = 8
MIN_WRITTEN_TOKENS = 256
SEGMENT_LINES = "\n\n"


def transcriptions(body: dict[str, Any], form: Form) -> Job:
    return _job(body, form, may_stream=True)


def translations(body: dict[str, Any], form: Form) -> Job:
    return _job(body, form, may_stream=False)


def fields_of(form: Form) -> dict[str, Any]:
    return typed(form, booleans=("stream",))


def _job(body: dict[str, Any], form: Form, *, may_stream: bool) -> Job:
    model = fields.model(body)
    given = form.files("file")
    if len(given) != 1 or not given[0].size:
        raise InvalidRequest("'file' must be one file of the form.", param="file", code="missing_required_parameter")
    shape = body.get("response_format") or "json"
    if shape not in FORMATS:
        raise UnsupportedValue(
            f"'response_format' must be one of {', '.join(sorted(FORMATS))}.", param="response_format"
        )
    milliseconds, is_measured = measured(form.spool, given[0])
    if milliseconds > MAX_SECONDS * 1000:
        raise InvalidRequest(f"The recording is longer than {MAX_SECONDS // 3600} hours.", param="file")
    seconds = -(-milliseconds // 1000)
    is_stream = fields.boolean(body, "stream") and may_stream
    if is_stream and shape not in {"json", "diarized_json"}:
        raise UnsupportedValue("A stream comes in 'json' only.", param="response_format")
    prompt = tokens.count(body.get("prompt", ""), model)
    return Job(
        model=model,
        body=body,
        form=form,
        is_stream=is_stream,
        wants_usage=True,
        prompt_tokens=prompt,
        input_tokens=tokens.with_margin(prompt) + seconds * HELD_TOKENS_PER_S,
        output_tokens=max(MIN_WRITTEN_TOKENS, seconds * WRITTEN_TOKENS_PER_S),
        answers=1,
        end_user=fields.end_user(body),
        replaces=_asked(shape),
        details={"milliseconds": milliseconds, "is_measured": is_measured, "shape": shape},
    )


def measured(spool: IO[bytes], part: FilePart) -> tuple[int, bool]:
    """(milliseconds, whether the file's header says so); else the most that so many bytes can last."""
    try:
        spool.seek(part.offset)
        window = _Window(spool, part.offset, part.size)
        found = TinyTag.get(part.filename, file_obj=window, tags=False)  # type: ignore[arg-type]
        seconds = found.duration
    except (TinyTagException, OSError, ValueError, ArithmeticError, LookupError, TypeError):
        seconds = None
    if seconds is not None and math.isfinite(seconds) and seconds > 0:
        return math.ceil(seconds * 1000), True
    return max(1_000, part.size * 1000 // UNKNOWN_BYTES_PER_S), False


class _Window:
    """A file inside the spool, as a file of its own."""

    def __init__(self, spool: IO[bytes], offset: int, size: int) -> None:
        self._spool = spool
        self._offset = offset
        self._size = size
        self._at = 0

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        count = left if count < 0 else min(count, left)
        self._spool.seek(self._offset + self._at)
        data = self._spool.read(count)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, (0, self._at, self._size)[whence] + offset)
        return self._at

    def tell(self) -> int:
        return self._at


def bound(job: Job, route: Route, rate: Rate) -> None:
    """Hold by what the model is priced by."""
    if "milliseconds" in rate.units:
        job.units = {"milliseconds": -(-job.details["milliseconds"] * 11 // 10)}
    if rate.base.output is None:
        job.output_tokens = 0
    if rate.base.input is None and rate.base.audio_input is None:
        job.input_tokens = job.prompt_tokens = 0


def delivered(job: Job, answer: dict[str, Any]) -> Mapping[str, int]:
    """The length that the answer itself tells (`verbose_json`)."""
    seconds = answer.get("duration")
    if isinstance(seconds, str):
        try:
            seconds = float(seconds)
        except ValueError:
            return {}
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_SECONDS:
        return {}  # NaN, too
    return {"milliseconds": round(seconds * 1000)}


def charge(job: Job, rate: Rate, usage: Usage | None, delivered: Mapping[str, int]) -> Usage | None:
    """What was reported; of a model that is priced by time the length, by the answer or by the file's own header."""
    if usage is not None and ("milliseconds" in usage.units or "milliseconds" not in rate.units):
        return usage
    if "milliseconds" not in rate.units:
        return None
    if "milliseconds" in delivered:
        return Usage(units={"milliseconds": delivered["milliseconds"]})
    if job.details["is_measured"]:
        return Usage(units={"milliseconds": job.details["milliseconds"]})
    return None


def estimate(job: Job, rate: Rate, output_tokens: int) -> Usage:
    milliseconds: int = job.details["milliseconds"]
    if "milliseconds" in rate.units:
        return Usage(units={"milliseconds": milliseconds})
    heard = -(-milliseconds * TOKENS_PER_S // 1000)
    return Usage(input=job.prompt_tokens, audio_input=heard, output=output_tokens)


def meter(job: Job) -> TypedMeter:
    return TypedMeter(ends=frozenset({"transcript.text.done"}))


def text_of(answer: Any) -> str:
    text = answer.get("text") if isinstance(answer, dict) else None
    return text if isinstance(text, str) else ""


def render(job: Job, answer: dict[str, Any]) -> Rendered | None:
    """The answer in the format that the client asked for, where the upstream was asked for another."""
    shape = job.details["shape"]
    if shape not in WRITTEN:
        return None
    if shape == "text":
        return Rendered(text_of(answer).rstrip("\n").encode() + b"\n", "text/plain; charset=utf-8")
    segments = answer.get("segments")
    cues = (
        [_cue(segment, number, shape) for number, segment in enumerate(segments, 1)]
        if isinstance(segments, list)
        else []
    )
    if shape == "vtt":
        return Rendered(("WEBVTT\n\n" + "".join(cues)).encode(), "text/vtt; charset=utf-8")
    return Rendered("".join(cues).encode(), "application/x-subrip; charset=utf-8")


def _cue(segment: Any, number: int, shape: str) -> str:
    start, end = (_clock(segment.get(name), shape) for name in ("start", "end"))
    text = str(segment.get("text", "")).strip()
    head = f"{number}\n" if shape == "srt" else ""
    return f"{head}{start} --> {end}\n{text}{SEGMENT_LINES}"


def _clock(seconds: Any, shape: str) -> str:
    milliseconds = round(seconds * 1000) if isinstance(seconds, int | float) and math.isfinite(seconds) else 0
    minutes, rest = divmod(max(0, milliseconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    comma = "," if shape == "srt" else "."
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{comma}{rest % 1000:03d}"


def _asked(shape: str) -> dict[str, str | None]:
    """What the upstream is asked for in place of a format without usage."""
    if shape == "text":
        return {"response_format": "json"}
    return {"response_format": "verbose_json"} if shape in WRITTEN else {}
