"""Realtime over real sockets: the official SDK, and a bare WebSocket for what it would not do. Charges by hand."""

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from billing.teller import Refused
from config.tests.surface_kit import Surface, running
from proxy.gateway.errors import UserBlocked
from proxy.gateway.realtime.session import Limits
from proxy.tests.kit import KEY, SECRET

MODEL = "gpt-realtime-2.1"
# Nano-dollars a token.
TEXT, CACHED, WRITTEN, HEARD, CACHED_HEARD, SPOKEN = 4_000, 400, 24_000, 32_000, 500, 64_000
SECOND = 48_000


@pytest.fixture
def surface() -> Iterator[Surface]:
    with running() as one:
        yield one


def cost_of(usage: dict[str, Any]) -> int:
    read, made = usage["input_token_details"], usage["output_token_details"]
    cached = read["cached_tokens_details"]
    return (
        (read["text_tokens"] - cached["text_tokens"]) * TEXT
        + cached["text_tokens"] * CACHED
        + (read["audio_tokens"] - cached["audio_tokens"]) * HEARD
        + cached["audio_tokens"] * CACHED_HEARD
        + made["text_tokens"] * WRITTEN
        + made["audio_tokens"] * SPOKEN
    )


class Talk:
    """A client that speaks JSON over a bare WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def say(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def write(self, text: str) -> None:
        content = [{"type": "input_text", "text": text}]
        self.say("conversation.item.create", item={"type": "message", "role": "user", "content": content})

    def until(self, kind: str) -> dict[str, Any]:
        while True:
            event = json.loads(self.socket.recv(timeout=10))
            if event["type"] == kind:
                return event

    def closing(self) -> tuple[list[dict[str, Any]], int]:
        """Every event until the close, and its code."""
        events = []
        try:
            while True:
                events.append(json.loads(self.socket.recv(timeout=10)))
        except ConnectionClosed as closed:
            return events, closed.rcvd.code if closed.rcvd else 1006


@pytest.fixture
def talk(surface: Surface) -> Iterator[Talk]:
    with connect_to(surface) as socket:
        yield Talk(socket)


def connect_to(surface: Surface, secret: str = SECRET, query: str = f"?model={MODEL}", **options: Any) -> Any:
    headers = options.pop("headers", {"Authorization": f"Bearer {secret}"})
    address = surface.url.replace("http:", "ws:") + "/realtime" + query
    return connect(address, additional_headers=headers, open_timeout=10, **options)


def settled(surface: Surface, charges: int) -> None:
    """Wait until that many requests are charged and nothing is held."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if len(charged(surface)) == charges and not surface.teller.holds and not surface.door.sessions:
            return
        time.sleep(0.02)
    raise AssertionError((surface.teller.captures, surface.teller.holds))


def charged(surface: Surface) -> list[Any]:
    return [one for one in surface.teller.captures if one.error_code != "session_ended"]


# ---------------------------------------------------------------- what it costs


@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")  # the SDK's way of connecting
def test_the_sdk_has_turns_in_text_and_each_is_charged_exactly(surface: Surface) -> None:
    usages = []
    with surface.sdk.realtime.connect(model=MODEL) as connection:
        connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        for text in ("hello", "[[say=Good day to you]]"):
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
            connection.conversation.item.create(item=item)  # type: ignore[arg-type]
            connection.response.create()
            for event in connection:
                if event.type == "response.done":
                    assert event.response.usage
                    usages.append(event.response.usage.to_dict())
                    break
                assert event.type != "error", event
    settled(surface, 2)
    assert [one.cost for one in charged(surface)] == [cost_of(usage) for usage in usages]
    assert [one.output_tokens for one in charged(surface)][1] == 4
    assert {one.endpoint for one in charged(surface)} == {"/v1/realtime"}
    assert surface.teller.captures[-1].cost == 0


def test_voice_is_heard_answered_and_written_down(surface: Surface, talk: Talk) -> None:
    transcription = {"transcription": {"model": "gpt-4o-mini-transcribe"}}
    talk.say("session.update", session={"type": "realtime", "audio": {"input": transcription}})
    talk.until("session.updated")
    loud = (b"\x00\x20\x00\xe0" * (SECOND // 4)) * 2
    talk.say("input_audio_buffer.append", audio=base64.b64encode(loud).decode())
    talk.say("input_audio_buffer.append", audio=base64.b64encode(bytes(SECOND * 6 // 10)).decode())
    usage = talk.until("conversation.item.input_audio_transcription.completed")["usage"]
    done = talk.until("response.done")
    talk.socket.close()
    settled(surface, 2)
    written, spoken = charged(surface)
    assert (written.model, written.cost) == (
        "gpt-4o-mini-transcribe",
        usage["input_tokens"] * 3_000 + usage["output_tokens"] * 5_000,
    )
    assert spoken.cost == cost_of(done["response"]["usage"])
    assert spoken.audio_input_tokens == 26
    assert spoken.audio_output_tokens > 0
    assert not spoken.estimated


def test_what_is_said_is_taken_down_without_the_sound(surface: Surface) -> None:
    surface.keyring.key = replace(KEY, transcript_days=7)
    with connect_to(surface) as socket:
        talk = Talk(socket)
        transcription = {"transcription": {"model": "gpt-4o-mini-transcribe"}}
        talk.say("session.update", session={"type": "realtime", "audio": {"input": transcription}})
        content = [{"type": "input_text", "text": "[[say=data: one]]"}, {"type": "input_audio", "audio": "AAAA" * 50}]
        talk.say("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        talk.say("response.create")
        talk.until("response.done")
        loud = (b"\x00\x20\x00\xe0" * (SECOND // 4)) * 2
        talk.say("input_audio_buffer.append", audio=base64.b64encode(loud).decode())
        talk.say("input_audio_buffer.append", audio=base64.b64encode(bytes(SECOND * 6 // 10)).decode())
        written = talk.until("conversation.item.input_audio_transcription.completed")
        talk.until("response.done")
        talk.write("and that was all")
    settled(surface, 3)
    (first, answer), heard, (second, spoken), (rest, nothing) = surface.said(4)
    assert [event["type"] for event in first["events"]] == [
        "session.update", "conversation.item.create", "response.create",
    ]  # fmt: skip
    kept = first["events"][1]["item"]["content"]
    assert (kept[0], kept[1]["audio"]) == (content[0], "[200 characters left out]")
    assert answer == "data: one"
    assert heard == ({"item_id": written["item_id"]}, written["transcript"])
    assert [event["type"] for event in second["events"]] == ["input_audio_buffer.committed"]
    assert spoken
    assert (rest["events"][0]["item"]["content"][0]["text"], nothing) == ("and that was all", "")
    ids = {one.request_id for one in surface.words}
    assert ids <= {one.request_id for one in surface.teller.captures}
    assert {(one.organization_id, one.days) for one in surface.words} == {(KEY.organization_id, 7)}


def test_what_a_broken_response_had_said_is_taken_down(surface: Surface) -> None:
    surface.keyring.key = replace(KEY, transcript_days=7)
    with connect_to(surface) as socket:
        talk = Talk(socket)
        talk.write("[[cut=5; words=50]]")
        talk.say("response.create")
        talk.closing()
    ((asked, said),) = surface.said(1)
    assert len(asked["events"]) == 2
    assert said


def test_without_consent_nothing_is_taken_down(surface: Surface, talk: Talk) -> None:
    talk.write("[[say=secret]]")
    talk.say("response.create")
    talk.until("response.done")
    talk.socket.close()
    settled(surface, 1)
    assert surface.words == []


def test_without_usage_the_answer_is_counted(surface: Surface, talk: Talk) -> None:
    talk.say("session.update", session={"type": "realtime", "output_modalities": ["text"]})
    talk.write("[[no-usage; say=one two three]]")
    talk.say("response.create")
    assert talk.until("response.done")["response"]["usage"] is None
    talk.socket.close()
    settled(surface, 1)
    (one,) = charged(surface)
    assert one.estimated
    assert one.output_tokens == 3
    assert one.cost >= 3 * WRITTEN


def test_what_a_client_breaks_off_is_cancelled_and_charged_as_the_provider_says(surface: Surface, talk: Talk) -> None:
    talk.write("[[slow=20ms; words=500]]")
    talk.say("response.create")
    talk.until("response.output_audio.delta")
    talk.socket.close()
    settled(surface, 1)
    (one,) = charged(surface)
    assert not one.estimated
    assert 0 < one.audio_output_tokens < 500


def test_a_provider_that_breaks_off_is_charged_by_estimate_and_told(surface: Surface, talk: Talk) -> None:
    talk.write("[[cut=5; words=50]]")
    talk.say("response.create")
    events, code = talk.closing()
    assert (events[-1]["type"], events[-1]["error"]["code"], code) == ("error", "upstream_cut", 1011)
    settled(surface, 1)
    (one,) = charged(surface)
    assert (one.outcome, one.estimated) == ("upstream_cut", True)
    assert one.upstream_request_id in {event["response"]["id"] for event in events if "response" in event}
    assert one.audio_output_tokens == 5 * 120 // 50


# ---------------------------------------------------------------- who ends it


def test_credit_that_is_used_up_ends_the_session_after_the_response_that_was_paid(surface: Surface) -> None:
    with connect_to(surface) as socket:
        talk = Talk(socket)
        talk.until("session.created")
        surface.teller.refusal = Refused("insufficient_credit", 0, None)
        talk.write("[[say=the last words]]")
        talk.say("response.create")
        events, code = talk.closing()
    kinds = [event["type"] for event in events]
    assert kinds[-2:] == ["response.done", "error"]
    assert (events[-1]["error"]["code"], code) == ("insufficient_quota", 1013)
    settled(surface, 1)


def test_revocation_and_blocks_reach_an_open_session_within_a_second(surface: Surface) -> None:
    with connect_to(surface) as socket:
        talk = Talk(socket)
        talk.until("session.created")
        surface.keyring.revoked = True
        started = time.monotonic()
        events, code = talk.closing()
        assert time.monotonic() - started < 1
        assert (events[-1]["error"]["code"], code) == ("invalid_api_key", 3000)
    surface.keyring.revoked = False
    headers = {"Authorization": f"Bearer {SECRET}", "x-user-id": "ada"}
    with connect_to(surface, headers=headers) as socket:
        talk = Talk(socket)
        talk.write("[[slow=20ms; words=500]]")
        talk.say("response.create")
        talk.until("response.output_audio.delta")
        session = next(iter(surface.door.sessions.values()))  # its loop is another thread's
        session._end.get_loop().call_soon_threadsafe(
            surface.door.end_those_of, KEY.organization_id, "ada", UserBlocked("spam")
        )
        events, code = talk.closing()
    assert (events[-1]["error"]["code"], code) == ("user_blocked", 1008)
    settled(surface, 1)
    assert charged(surface)[0].end_user == "ada"
    assert charged(surface)[0].cost > 0


def test_limits_of_time(surface: Surface) -> None:
    surface.door._options = replace(surface.door._options, limits=Limits(idle_s=0.6))
    with connect_to(surface) as socket:
        events, code = Talk(socket).closing()
    assert (events[-1]["error"]["code"], code) == ("session_expired", 1008)
    surface.door._options = replace(surface.door._options, limits=Limits(session_s=0.6))
    with connect_to(surface) as socket:
        events, code = Talk(socket).closing()
    assert (events[-1]["error"]["code"], code) == ("session_expired", 1008)
    settled(surface, 0)


def test_rates_answer_an_event_and_keep_the_session(surface: Surface) -> None:
    surface.keyring.key = replace(KEY, rpm=2)
    with connect_to(surface) as socket:
        talk = Talk(socket)
        for _ in range(2):
            talk.write("[[say=yes]]")
            talk.say("response.create")
        error = talk.until("error")["error"]
        assert error["code"] == "rate_limit_exceeded"
        talk.say("input_audio_buffer.clear")
        talk.until("input_audio_buffer.cleared")
    surface.keyring.key = KEY
    settled(surface, 1)


# ---------------------------------------------------------------- who comes in


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        (f"?model={MODEL}", {"Authorization": "Bearer sk-tup-wrong"}, 401, "invalid_api_key"),
        (f"?model={MODEL}", {}, 401, "invalid_api_key"),
        ("?model=nothing", None, 404, "model_not_found"),
        ("?model=gpt-4o-mini", None, 400, "unsupported_model"),
        ("?call_id=rtc_1", None, 400, "invalid_value"),
    ],
    ids=["wrong key", "no key", "no model", "not realtime", "a call"],
)
def test_refusals_come_before_the_upgrade(
    surface: Surface, query: str, headers: dict[str, str] | None, status: int, code: str
) -> None:
    with pytest.raises(InvalidStatus) as raised:
        connect_to(surface, query=query, **({} if headers is None else {"headers": headers}))
    response = raised.value.response
    assert response.status_code == status
    assert json.loads(response.body)["error"]["code"] == code
    assert surface.teller.holds == {}


def test_without_credit_nobody_comes_in(surface: Surface) -> None:
    surface.teller.balance = 10
    with pytest.raises(InvalidStatus) as raised:
        connect_to(surface)
    assert json.loads(raised.value.response.body)["error"]["code"] == "insufficient_quota"


def test_a_provider_that_is_away_is_told_and_nothing_is_held(surface: Surface) -> None:
    surface.provider.key = b"another"
    with pytest.raises(InvalidStatus) as raised:
        connect_to(surface)
    assert raised.value.response.status_code == 502
    settled(surface, 1)
    assert charged(surface)[0].cost == 0


def test_a_browser_sends_its_key_as_a_subprotocol_and_gets_only_realtime_back(surface: Surface) -> None:
    protocols = ["realtime", f"openai-insecure-api-key.{SECRET}"]
    with connect_to(surface, headers={}, subprotocols=protocols) as socket:
        assert socket.subprotocol == "realtime"
        Talk(socket).until("session.created")
    with connect_to(surface, headers={}, subprotocols=["realtime", "openai-insecure-api-key.wrong"]) as socket:
        events, code = Talk(socket).closing()
    assert (events[0]["error"]["code"], code) == ("invalid_api_key", 3000)
    with connect_to(surface, headers={}, subprotocols=["realtime", "openai-beta.realtime-v1"]) as socket:
        events, code = Talk(socket).closing()
    assert (events[0]["error"]["code"], code) == ("beta_api_shape_disabled", 4000)


def test_an_ephemeral_key_opens_the_session_that_it_was_minted_for(surface: Surface) -> None:
    made = surface.sdk.realtime.client_secrets.create(
        session={"type": "realtime", "model": MODEL, "output_modalities": ["text"], "instructions": "Be brief."},
        expires_after={"anchor": "created_at", "seconds": 60},
    )
    assert made.value.startswith("ek_")
    assert 0 < made.expires_at - time.time() <= 60
    with connect_to(
        surface, headers={}, query="", subprotocols=["realtime", f"openai-insecure-api-key.{made.value}"]
    ) as s:
        talk = Talk(s)
        assert talk.until("session.updated")["session"]["instructions"] == "Be brief."
        talk.write("[[say=brief]]")
        talk.say("response.create")
        assert talk.until("response.output_text.done")["text"] == "brief"
    settled(surface, 1)
    with pytest.raises(InvalidStatus):
        connect_to(surface, secret=made.value, query="?model=another")


# ---------------------------------------------------------------- what passes


def test_a_transcription_model_without_a_price_is_refused_and_the_session_goes_on(surface: Surface, talk: Talk) -> None:
    talk.say(
        "session.update", session={"type": "realtime", "audio": {"input": {"transcription": {"model": "unheard-of"}}}}
    )
    assert talk.until("error")["error"]["code"] == "model_not_priced"
    talk.say("session.update", session={"type": "realtime", "instructions": "x"})
    assert talk.until("session.updated")["session"]["audio"]["input"]["transcription"] is None


def test_errors_of_the_provider_and_close_codes_pass(surface: Surface, talk: Talk) -> None:
    talk.say("nonsense.event")
    assert talk.until("error")["error"]["code"] == "unknown_event"
    talk.socket.send("no json")
    talk.say("input_audio_buffer.clear")
    talk.until("input_audio_buffer.cleared")


def test_a_frame_that_is_too_large_ends_the_session(surface: Surface) -> None:
    surface.door._options = replace(surface.door._options, limits=Limits(frame_bytes=10_000))
    with connect_to(surface) as socket:
        talk = Talk(socket)
        talk.say("input_audio_buffer.append", audio="A" * 20_000)
        assert talk.closing()[1] == 1009
    settled(surface, 0)
