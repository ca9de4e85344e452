"""`pixie chat`: a conversation, or one answer, as it is written."""

import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.text import Text

from pixie import errors, sse
from pixie.client import WORK_S
from pixie.errors import PixieError, UsageError
from pixie.session import Session, with_session
from pixie.texts import credits, harmless

DEFAULT_MODEL = "gpt-fast"
_HELP = "/new starts anew, /cost says what it cost so far, /exit or Ctrl-D ends, Ctrl-C stops an answer."


@dataclass
class Answer:
    """One answer as far as it has come."""

    text: str = ""
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    cost: str | None = None
    left: str | None = None
    request_id: str | None = None


@dataclass
class Conversation:
    """What has been said, and how to ask."""

    model: str
    options: dict[str, Any]
    messages: list[dict[str, str]] = field(default_factory=list)
    costs: list[str] = field(default_factory=list)


@with_session
def chat(
    session: Session,
    prompt: Annotated[
        str, typer.Argument(help="One question; without it, a conversation. stdin is added to it.", show_default=False)
    ] = "",
    *,
    model: Annotated[str, typer.Option("--model", "-m", envvar="PIXIE_CHAT_MODEL")] = DEFAULT_MODEL,
    system: Annotated[str, typer.Option(help="How the model shall behave.", show_default=False)] = "",
    max_tokens: Annotated[int, typer.Option(min=0, help="The longest answer.", show_default=False)] = 0,
    temperature: Annotated[float | None, typer.Option(min=0, max=2, show_default=False)] = None,
    max_credits: Annotated[
        str, typer.Option(help="Refuse to start an answer that could cost more.", show_default=False)
    ] = "",
) -> None:
    """Talk to a model. Answers are shown as they are written, with what they cost."""
    options: dict[str, Any] = {"max_completion_tokens": max_tokens or None, "temperature": temperature}
    talk = Conversation(model, {name: value for name, value in options.items() if value is not None})
    if system:
        talk.messages.append({"role": "system", "content": system})
    question = _question(prompt)
    if question:
        _once(session, talk, question, max_credits)
    elif session.out.is_json:
        raise UsageError("With --json there must be a question.", "Give it as an argument or on stdin.")
    else:
        _converse(session, talk, max_credits)


def _once(session: Session, talk: Conversation, question: str, max_credits: str) -> None:
    talk.messages.append({"role": "user", "content": question})
    answer = Answer()
    for piece in _pieces(session, talk, answer, max_credits):
        if not session.out.is_json:
            _write(piece)
    if session.out.is_json:
        session.out.data(
            {
                "model": talk.model,
                "content": answer.text,
                "finish_reason": answer.finish_reason,
                "usage": answer.usage,
                "cost_credits": answer.cost,
                "credits_remaining": answer.left,
                "request_id": answer.request_id,
            }
        )
        return
    _write("" if answer.text.endswith("\n") else "\n")
    _tell(session, answer)


def _converse(session: Session, talk: Conversation, max_credits: str) -> None:
    out, start = session.out, list(talk.messages)
    out.note(f"{talk.model}. {_HELP}")
    while True:
        try:
            question = _ask(session)
        except (EOFError, KeyboardInterrupt):
            out.note("")
            return
        match question:
            case "":
                continue
            case "/exit" | "/quit":
                return
            case "/new":
                talk.messages = list(start)
                out.note("A new conversation.")
            case "/cost":
                out.note(f"{credits(sum_of(talk.costs))} credits so far.")
            case _ if question.startswith("/"):
                out.note(_HELP)
            case _:
                _turn(session, talk, question, max_credits)


def _turn(session: Session, talk: Conversation, question: str, max_credits: str) -> None:
    """One question and its answer; one that fails or is stopped leaves the conversation going."""
    talk.messages.append({"role": "user", "content": question})
    answer = Answer()
    try:
        for piece in _pieces(session, talk, answer, max_credits):
            _write(piece)
    except KeyboardInterrupt:
        session.out.note("\nStopped; what had been written is paid for.")
    except PixieError as error:
        talk.messages.pop()
        _write("\n" if answer.text else "")
        session.out.error(error)
        return
    _write("" if answer.text.endswith("\n") else "\n")
    talk.messages.append({"role": "assistant", "content": answer.text})
    if answer.cost is not None:
        talk.costs.append(answer.cost)
    _tell(session, answer)


def _pieces(session: Session, talk: Conversation, answer: Answer, max_credits: str) -> Iterator[str]:
    """The answer's text as it comes; `answer` is filled on the way."""
    body = {
        "model": talk.model,
        "messages": talk.messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        **talk.options,
    }
    headers = {"Idempotency-Key": f"pixie-{secrets.token_hex(16)}"}
    if max_credits:
        headers["x-max-credits"] = max_credits
    with session.client.stream("POST", "/v1/chat/completions", body=body, headers=headers, answer_s=WORK_S) as received:
        answer.request_id = received.headers.get("x-request-id")
        if "event-stream" not in received.headers.get("content-type", ""):
            received.read()
            raise errors.not_the_api(received)
        for event in sse.events(sse.lines(received.iter_bytes())):
            piece = _take(event, answer)
            if piece:
                answer.text += piece
                yield piece
    if answer.finish_reason is None:
        raise PixieError("The answer broke off.", "Try again.", exit_code=errors.ExitCode.UNAVAILABLE,
                         request_id=answer.request_id)  # fmt: skip


def _take(event: sse.Event, answer: Answer) -> str:
    """Note what an event says; returns the text in it."""
    if event.data is None:
        name, _, value = event.comment.partition(" ")
        if name == "x-cost-credits":
            answer.cost = value
        elif name == "x-credits-remaining":
            answer.left = value
        return ""
    told = sse.parsed(event)
    if isinstance(told.get("error"), dict):
        raise errors.from_body(told["error"], 502)
    answer.usage = told.get("usage") or answer.usage
    for choice in told.get("choices") or []:
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
        delta = choice.get("delta") or {}
        return str(delta.get("content") or delta.get("refusal") or "")
    return ""


def _question(prompt: str) -> str:
    """What is asked at once: the argument, stdin, or both; "" where a person is to be asked."""
    if prompt == "-":
        prompt = ""
    if sys.stdin is None or sys.stdin.isatty():
        return prompt.strip()
    given = sys.stdin.read().strip()
    if not given and not prompt:
        raise UsageError("There is no question.", "Give it as an argument or on stdin.")
    return "\n\n".join(part for part in (prompt.strip(), given) if part)


def _ask(session: Session) -> str:
    if session.out.is_terminal:
        import readline  # noqa: F401, PLC0415 - gives input() its history and its keys

        session.out.err.print(Text("› ", style="bold cyan"), end="")
    return input().strip()


def _write(text: str) -> None:
    sys.stdout.write(harmless(text))
    sys.stdout.flush()


def _tell(session: Session, answer: Answer) -> None:
    parts = []
    if answer.finish_reason == "length":
        parts.append("cut at the longest answer")
    if answer.usage:
        parts.append(f"{answer.usage.get('total_tokens', 0):,} tokens")
    if answer.cost is not None:
        parts.append(f"{credits(answer.cost)} credits")
    if answer.left is not None:
        parts.append(f"{credits(answer.left)} left")
    if answer.request_id:
        parts.append(answer.request_id)
    session.out.note(" · ".join(parts))


def sum_of(amounts: list[str]) -> str:
    """The exact sum of decimal texts."""
    from decimal import Decimal  # noqa: PLC0415

    return str(sum((Decimal(one) for one in amounts), Decimal(0)))
