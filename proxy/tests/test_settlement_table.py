"""What is charged for each way a request can end: who ended it x what usage arrived. Amounts worked out by hand.

The price is 1,000 nano-dollars an input token and 2,000 an output token. Reported usage is 10 + 5 tokens: 20,000.
Estimates: the prompt "hello world" is 2 tokens + 4 for "user" and the message's frame (see tokens.messages_bound).
"""

import pytest

from proxy.gateway import tokens
from proxy.gateway.attempts import Deadlines
from proxy.tests.kit import CUT, DONE, SILENCE, Kit, Script, answer, chat, delta, stream, usage, usage_chunk

PROMPT = tokens.messages_bound(chat(), "m") * 1_000
HELLO_WORLD = 2 * 2_000
EXACT = 20_000


def only_capture(kit: Kit):
    assert kit.teller.holds == {}
    (capture,) = kit.teller.captures
    return capture


@pytest.mark.parametrize(
    ("reported", "cost", "estimated"),
    [
        (usage(), EXACT, False),
        (usage(0, 0, total_tokens=0), 0, False),
        (..., PROMPT + HELLO_WORLD, True),
        (None, PROMPT + HELLO_WORLD, True),
        (usage(-10, 5), PROMPT + HELLO_WORLD, True),
        (usage("10", 5), PROMPT + HELLO_WORLD, True),
        (usage(10, 1.5), PROMPT + HELLO_WORLD, True),
        (usage(10**30, 5), PROMPT + HELLO_WORLD, True),
        ("many", PROMPT + HELLO_WORLD, True),
        ([], PROMPT + HELLO_WORLD, True),
    ],
)
async def test_a_whole_answer(reported, cost, estimated):
    body = (
        answer(reported)
        if not (isinstance(reported, dict) and reported["prompt_tokens"] == 10**30)
        else (answer(usage(10, 5)).replace(b'"prompt_tokens":10', b'"prompt_tokens":1e30'))
    )
    kit = Kit(Script([body]))
    answered = await kit.call(body=chat())
    assert answered.status == 200
    capture = only_capture(kit)
    assert (capture.cost, capture.estimated, capture.outcome) == (cost, estimated, "completed")


@pytest.mark.parametrize(
    ("pieces", "cost", "outcome", "estimated"),
    [
        # the upstream came to its end
        ([delta("hello world", "stop"), usage_chunk(), DONE], EXACT, "completed", False),
        ([delta("hello world", "stop"), DONE], PROMPT + HELLO_WORLD, "completed", True),
        ([delta("hello world", "stop", usage=usage()), DONE], EXACT, "completed", False),
        ([delta("hello world", "stop"), usage_chunk(usage(0, 0, total_tokens=0)), DONE], 0, "completed", False),
        ([delta("hello world", "stop"), usage_chunk(usage(-1, 5)), DONE], PROMPT + HELLO_WORLD, "completed", True),
        ([delta("hello world", "stop"), usage_chunk()], EXACT, "completed", False),
        ([delta("hello world", "stop")], PROMPT + HELLO_WORLD, "completed", True),
        ([delta("", "stop"), DONE], PROMPT, "completed", True),
        # the upstream was cut
        ([delta("hello world"), CUT], PROMPT + HELLO_WORLD, "upstream_cut", True),
        ([delta("hello world")], PROMPT + HELLO_WORLD, "upstream_cut", True),
        ([delta("hello world"), usage_chunk(), CUT], EXACT, "upstream_cut", False),
        ([b": hello\n\n", CUT], 0, "upstream_cut", False),
        # the upstream failed after its 200
        (
            [delta("hello world"), b'data: {"error":{"message":"boom"}}\n\n'],
            PROMPT + HELLO_WORLD,
            "upstream_error",
            True,
        ),
        ([b'data: {"error":{"message":"boom"}}\n\n'], 0, "upstream_error", False),
    ],
)
async def test_a_stream(pieces, cost, outcome, estimated):
    kit = Kit(stream(*pieces))
    answered = await kit.call(body=chat(stream=True, max_tokens=50))
    assert answered.status == 200
    assert answered.is_complete
    capture = only_capture(kit)
    assert (capture.cost, capture.outcome, capture.estimated) == (cost, outcome, estimated)
    is_whole = outcome == "completed"
    assert (b"[DONE]" in answered.events) is is_whole
    assert (b'"error"' in answered.body) is not is_whole
    assert b"boom" not in answered.body


@pytest.mark.parametrize(
    ("pieces", "cost", "estimated"),
    [
        ([delta("hello world", "stop"), usage_chunk(), DONE], EXACT, False),
        ([delta("hello world", "stop"), DONE], PROMPT + HELLO_WORLD, True),
        ([delta("hello"), delta(" world"), CUT], PROMPT + HELLO_WORLD, True),
    ],
)
async def test_a_client_that_leaves_is_drained_and_charged(pieces, cost, estimated):
    kit = Kit(stream(delta(""), *pieces))
    answered = await kit.call(body=chat(stream=True, max_tokens=50), leaves_after=1)
    assert b"hello" not in answered.body
    capture = only_capture(kit)
    assert (capture.cost, capture.estimated) == (cost, estimated)
    assert capture.outcome == ("upstream_cut" if pieces[-1] is CUT else "client_closed")


async def test_draining_a_client_that_left_is_bounded():
    kit = Kit(stream(delta("hello world"), *[SILENCE] * 50), deadlines=Deadlines(drain_s=0))
    await kit.call(body=chat(stream=True, max_tokens=50), leaves_after=1)
    capture = only_capture(kit)
    assert (capture.cost, capture.outcome, capture.estimated) == (PROMPT + HELLO_WORLD, "client_closed", True)
    assert kit.client.answers[0].is_closed


@pytest.mark.parametrize(
    ("script", "status", "code", "outcome"),
    [
        (Script(error=CUT), 502, "upstream_error", "upstream_error"),
        (Script(error=SILENCE), 504, "upstream_timeout", "timeout"),
        (Script([b"oops"], status=500), 502, "upstream_error", "upstream_error"),
        (Script([b"no"], status=401), 502, "upstream_error", "upstream_error"),
        (Script([b'{"error":{"code":"quota"}}'], status=429), 503, "upstream_overloaded", "upstream_error"),
        (Script([b"<html>"], status=302, content_type="text/html"), 502, "upstream_error", "upstream_error"),
        (Script([b"<html>fine</html>"], content_type="text/html"), 502, "upstream_error", "upstream_error"),
        (Script([b'{"error":{"message":"x"}}']), 502, "upstream_error", "upstream_error"),
        (Script([b'{"error":{"message":"too long","code":"context_length_exceeded"}}'], status=400), 400,
         "context_length_exceeded", "rejected"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_failure_before_the_first_byte_costs_nothing(script, status, code, outcome, is_stream):
    kit = Kit(script)
    answered = await kit.call(body=chat(stream=is_stream))
    assert (answered.status, answered.error["code"]) == (status, code)
    capture = only_capture(kit)
    assert (capture.cost, capture.outcome, capture.status_code) == (0, outcome, status)
    assert kit.teller.balance == 10**12


async def test_a_stream_that_is_cut_before_its_first_byte_costs_nothing():
    kit = Kit(stream(CUT))
    answered = await kit.call(body=chat(stream=True))
    assert answered.status == 502
    assert only_capture(kit).cost == 0


async def test_an_estimate_never_exceeds_its_hold():
    kit = Kit(stream(*[delta("hello world ") for _ in range(200)], CUT))
    await kit.call(body=chat(stream=True, max_tokens=3))
    capture = only_capture(kit)
    assert capture.estimated
    assert capture.cost == capture.hold


async def test_reported_usage_above_the_hold_is_charged_in_full():
    kit = Kit(Script([answer(usage(10, 5_000))]))
    await kit.call(body=chat(max_tokens=5))
    capture = only_capture(kit)
    assert capture.cost == 10 * 1_000 + 5_000 * 2_000
    assert capture.cost > capture.hold
    assert capture.upstream_cost == capture.cost // 2


async def test_a_stream_is_ended_when_its_key_is_revoked():
    kit = Kit()
    kit.client._scripts = [stream(delta("hello world"), lambda: setattr(kit.keyring, "revoked", True) or delta(" x"))]
    answered = await kit.call(body=chat(stream=True, max_tokens=50))
    assert b"revoked" in answered.events[-1]
    capture = only_capture(kit)
    assert capture.outcome == "refused"
    assert capture.cost == PROMPT + 3 * 2_000


async def test_a_stream_without_limit_ends_when_its_hold_cannot_grow():
    words = [delta("hello " * 40 + "x" * 400) for _ in range(400)]
    kit = Kit(stream(*words, DONE), balance=9_000_000)
    answered = await kit.call(body=chat(stream=True))
    capture = only_capture(kit)
    assert capture.outcome == "refused"
    assert b"insufficient_quota" in answered.events[-1]
    assert b"[DONE]" not in answered.events
    assert kit.teller.balance >= 0


async def test_a_stream_without_limit_grows_its_hold_while_there_is_credit():
    words = [delta("hello " * 40 + "x" * 400) for _ in range(400)]
    kit = Kit(stream(*words, usage_chunk(usage(10, 40_000, total_tokens=40_010)), DONE))
    await kit.call(body=chat(stream=True))
    capture = only_capture(kit)
    assert capture.outcome == "completed"
    assert capture.hold > 4_096 * 2_000 * 2
