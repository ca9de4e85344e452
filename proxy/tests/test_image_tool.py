"""The image tool of responses: two charges, each at its own model's price. Amounts are worked out by hand.

The response's model costs 1,000 n$ a token of input and 2,000 of output: its reported usage, 10 + 5 tokens, is 20,000.
The image model costs 5,000 n$ a token of text, 1,250 cached; 8,000 a token of an image that comes in, 2,000 cached; and
30,000 a token of an image that goes out. A small image of low quality is 272 of these.
"""

import asyncio
import base64
from dataclasses import replace
from uuid import uuid4

import orjson
import pytest

from billing.money import format_credits
from billing.rate_json import parse as parse_rate
from billing.teller import Refused
from proxy.gateway import image_tool
from proxy.gateway.artifacts import MadeImage
from proxy.gateway.attempts import Deadlines
from proxy.gateway.endpoints import ENDPOINTS
from proxy.gateway.responses import meter
from proxy.tests.kit import CUT, DEPLOYMENT, KEY, ROUTE, SILENCE, Kit, Script, stream

PATH = "/v1/responses"
IMAGE_RATES = {
    "input": "5",
    "cached_input": "1.25",
    "image_input": "8",
    "cached_image_input": "2",
    "image_output": "30",
}
PAINTER = replace(
    ROUTE,
    model="painter",
    rate=parse_rate("painter", IMAGE_RATES, version=21),
    deployments=(replace(DEPLOYMENT, id=2, upstream_name="real-painter"),),
    endpoints=frozenset({"/v1/images/generations"}),
)
ROUTES = (ROUTE, PAINTER)
B64 = base64.b64encode(b"\x89PNG a picture").decode()
USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
TEXT_COST = 20_000
REPORT = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    "output_tokens": 272,
    "total_tokens": 322,
}
# 10 x 5,000 + 40 x 8,000 + 272 x 30,000
IMAGE_COST = 8_530_000
ZERO = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
# "draw a fox" is 3 tokens: 3 x 5,000 + 272 x 30,000.
ESTIMATE = 8_175_000
# A partial image counts 100 tokens.
PARTIAL = 15_000 + 100 * 30_000
LEFT = {"background": "opaque", "output_format": "png"}


def request(**fields):
    tool = {"type": "image_generation", "model": "painter", "quality": "low", "size": "1024x1024"} | fields.pop(
        "tool", {}
    )
    return {"model": "m", "input": "draw a fox", "max_output_tokens": 50, "tools": [tool]} | fields


def picture(number=1, **fields):
    item = {"id": f"ig_{number}", "type": "image_generation_call", "status": "completed", "result": B64}
    return item | {"revised_prompt": "a red fox", "size": "1024x1024", "quality": "low"} | fields


# The prompt as we count it, and the least that a call of the tool is of output: one token.
BEGUN = ENDPOINTS[PATH].parse(request()).prompt_tokens * 1_000 + 2_000


def response(report=REPORT, images=1, **fields):
    message = {"type": "message", "content": [{"type": "output_text", "text": "here"}]}
    output = [*(picture(number + 1) for number in range(images)), message]
    told = {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "error": None,
        "output": output,
        "usage": USAGE,
    }
    return told | ({"tool_usage": {"image_gen": report}} if report is not ... else {}) | fields


def whole(*args, **fields):
    return Script([orjson.dumps(response(*args, **fields))])


def event(kind, **fields):
    return f"event: {kind}\n".encode() + b"data: " + orjson.dumps({"type": kind, **fields}) + b"\n\n"


CREATED = event("response.created", response={"id": "resp_1", "usage": None, "tool_usage": None})
GENERATING = event("response.image_generation_call.generating", item_id="ig_1", output_index=0)
PART = event(
    "response.image_generation_call.partial_image", item_id="ig_1", partial_image_b64=B64, partial_image_index=0
)
DONE = event("response.output_item.done", output_index=0, item=picture())
SECOND = event("response.output_item.done", output_index=1, item=picture(2))
DELTA = event("response.output_text.delta", delta="here")


def end(kind="response.completed", *args, **fields):
    return event(kind, response=response(*args, **fields))


def both(kit):
    """The captures of the response and of its images; no hold is left."""
    assert kit.teller.holds == {}
    assert len(kit.teller.captures) == 2
    images = next(one for one in kit.teller.captures if one.endpoint == "/v1/images/generations")
    return next(one for one in kit.teller.captures if one is not images), images


# ---------------------------------------------------------------- whole answers


async def test_images_are_a_charge_of_their_own_at_the_image_models_price():
    kit = Kit(whole(), routes=ROUTES)
    answered = await kit.call(PATH, request(), headers={"x-user-id": "ann", "x-run-id": "r"})
    assert answered.status == 200
    text, images = both(kit)
    assert (text.cost, text.model, text.price_version, text.outcome) == (TEXT_COST, "m", 11, "completed")
    assert (images.cost, images.model, images.price_version) == (IMAGE_COST, "painter", 21)
    assert (images.image_input_tokens, images.image_output_tokens, images.estimated) == (40, 272, False)
    assert (images.end_user, images.run_id, images.deployment) == ("ann", "r", "up/real-painter")
    assert images.request_id != text.request_id
    assert (images.attempts[0]["of"], text.attempts[0]["images"]) == (str(text.request_id), str(images.request_id))
    assert answered.headers["x-cost-credits"] == "0.8550"  # 8,550,000 nano-dollars
    assert answered.headers["x-image-request-id"] == f"req_{images.request_id.hex}"
    assert kit.teller.balance == 10**12 - TEXT_COST - IMAGE_COST


async def test_the_upstream_gets_the_image_model_that_was_priced_and_a_limit():
    kit = Kit(whole(), routes=ROUTES, key=replace(KEY, aliases={"gpt-image-1": "painter"}))
    sent = request()
    del sent["tools"][0]["model"]
    await kit.call(PATH, sent | {"tools": [{"type": "function", "name": "f"}, *sent["tools"]]})
    body = kit.client.requests[0][2]
    assert [tool.get("model") for tool in body["tools"]] == [None, "real-painter"]
    assert body["max_tool_calls"] == 4
    assert both(kit)[1].model == "painter"


@pytest.mark.parametrize(
    ("report", "images", "cost", "estimated", "code"),
    [
        (REPORT | {"cached_tokens": 20, "cached_tokens_details": {"cached_text_tokens": 5, "cached_image_tokens": 15}},
         1, 5 * 5_000 + 5 * 1_250 + 25 * 8_000 + 15 * 2_000 + 272 * 30_000, False, ""),
        (REPORT | {"output_tokens": 544, "total_tokens": 594}, 2, IMAGE_COST + 272 * 30_000, False, ""),
        # a report of 0 says that nobody counted
        (..., 1, ESTIMATE, True, ""),
        (ZERO, 1, ESTIMATE, True, ""),
        (None, 1, ESTIMATE, True, ""),
        ("much", 1, ESTIMATE, True, ""),
        (REPORT | {"output_tokens": -272}, 1, ESTIMATE, True, ""),
        (..., 2, ESTIMATE + 272 * 30_000, True, ""),
        # an image that was refused after it had been made is reported, and charged
        (REPORT, 0, IMAGE_COST, False, ""),
        # the tool was not used
        (ZERO, 0, 0, False, "tool_not_used"),
        (..., 0, 0, False, "tool_not_used"),
        (REPORT | {"output_tokens": -272}, 0, 0, False, "tool_not_used"),
    ],
)  # fmt: skip
async def test_a_whole_answer(report, images, cost, estimated, code):
    kit = Kit(whole(report, images), routes=ROUTES)
    answered = await kit.call(PATH, request())
    text, made = both(kit)
    assert text.cost == TEXT_COST
    assert (made.cost, made.estimated, made.outcome, made.error_code) == (cost, estimated, "completed", code)
    assert answered.headers["x-cost-credits"] == format_credits(TEXT_COST + cost)


@pytest.mark.parametrize(
    ("script", "status", "outcome"),
    [
        (Script(error=CUT), 502, "upstream_error"),
        (Script(error=SILENCE), 504, "timeout"),
        (Script([b"oops"], status=500), 502, "upstream_error"),
        (Script([b'{"error":{"message":"no"}}'], status=400), 400, "rejected"),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_failure_before_the_first_byte_costs_nothing_of_either(script, status, outcome, is_stream):
    kit = Kit(script, routes=ROUTES)
    assert (await kit.call(PATH, request(stream=is_stream))).status == status
    for capture in both(kit):
        assert (capture.cost, capture.outcome, capture.status_code) == (0, outcome, status)
    assert kit.teller.balance == 10**12


async def test_a_failed_response_costs_what_it_reports_and_the_images_that_came():
    kit = Kit(whole(..., status="failed", usage=None, error={"message": "x"}), routes=ROUTES)
    await kit.call(PATH, request())
    text, images = both(kit)
    assert (text.cost, text.outcome) == (0, "upstream_error")
    assert (images.cost, images.estimated, images.outcome) == (ESTIMATE, True, "upstream_error")


async def test_images_priced_by_the_piece_are_charged_as_delivered():
    flux = replace(PAINTER, rate=parse_rate("painter", {"units": {"image": "0.02"}}, version=22))
    kit = Kit(whole(..., 2), whole(ZERO, 0), routes=(ROUTE, flux))
    await kit.call(PATH, request())
    _, images = both(kit)
    assert (images.cost, images.units, images.estimated) == (2 * 20_000_000, {"images": 2}, False)
    assert images.hold == 4 * 20_000_000
    kit.teller.captures.clear()
    await kit.call(PATH, request())
    assert both(kit)[1].cost == 0


async def test_searches_and_images_go_together():
    rate = parse_rate("m", {"input": "1", "output": "2", "units": {"web_search_call": "0.01"}}, version=11)
    answer = response(output=[{"type": "web_search_call"}, picture()])
    kit = Kit(Script([orjson.dumps(answer)]), routes=(replace(ROUTE, rate=rate), PAINTER))
    sent = request()
    await kit.call(PATH, sent | {"tools": [{"type": "web_search"}, *sent["tools"]]})
    text, images = both(kit)
    assert (text.cost, images.cost) == (TEXT_COST + 10_000_000, IMAGE_COST)


# ---------------------------------------------------------------- streams


@pytest.mark.parametrize(
    ("pieces", "text_cost", "cost", "outcome", "estimated"),
    [
        ([CREATED, GENERATING, PART, DONE, DELTA, end()], TEXT_COST, IMAGE_COST, "completed", False),
        ([CREATED, DONE, end("response.incomplete", status="incomplete")], TEXT_COST, IMAGE_COST, "completed", False),
        ([CREATED, end("response.completed", ZERO, 0)], TEXT_COST, 0, "completed", False),
        # an image counts once, wherever it stands
        ([CREATED, DONE, end("response.completed", ...)], TEXT_COST, ESTIMATE, "completed", True),
        ([CREATED, end("response.completed", ...)], TEXT_COST, ESTIMATE, "completed", True),
        ([CREATED, DONE, SECOND, end("response.completed", ZERO, 2)], TEXT_COST, ESTIMATE + 272 * 30_000, "completed",
         True),
        # cut or failed: what came
        ([CREATED, GENERATING, PART, PART, DONE, CUT], BEGUN, ESTIMATE, "upstream_cut", True),
        ([CREATED, PART, CUT], BEGUN, PARTIAL, "upstream_cut", True),
        ([CREATED, DONE, PART, CUT], BEGUN, ESTIMATE + 100 * 30_000, "upstream_cut", True),
        ([CREATED, GENERATING, CUT], 0, 0, "upstream_cut", False),
        ([CREATED, DONE, event("error", message="boom")], BEGUN, ESTIMATE, "upstream_error", True),
        ([CREATED, DONE, end("response.failed", ..., status="failed", usage=None)], 0, ESTIMATE, "upstream_error",
         True),
        ([CREATED, DONE, end("response.failed", status="failed")], TEXT_COST, IMAGE_COST, "upstream_error", False),
    ],
)  # fmt: skip
async def test_a_stream(pieces, text_cost, cost, outcome, estimated):
    kit = Kit(stream(*pieces), routes=ROUTES)
    answered = await kit.call(PATH, request(stream=True))
    assert answered.is_complete
    text, images = both(kit)
    assert (text.cost, text.outcome) == (text_cost, outcome)
    assert (images.cost, images.outcome, images.estimated) == (cost, outcome, estimated)
    assert f": x-cost-credits {format_credits(text_cost + cost)}\n".encode() in answered.body
    assert answered.headers["x-image-request-id"] == f"req_{images.request_id.hex}"


async def test_the_last_event_waits_for_both_charges_and_bytes_pass_unchanged():
    pieces = [CREATED, GENERATING, PART, DONE, DELTA, end()]
    kit = Kit(stream(*pieces), routes=ROUTES)
    charged = []

    def on_send(message):
        if b"response.completed" in message.get("body", b""):
            charged.append(len(kit.teller.captures))

    answered = await kit.call(PATH, request(stream=True), on_send=on_send)
    assert charged == [2]
    assert answered.body.startswith(b"".join(pieces) + b": x-cost-credits 0.8550\n")


@pytest.mark.parametrize(
    ("pieces", "cost", "outcome"),
    [
        ([DONE, end()], IMAGE_COST, "client_closed"),
        ([PART, DONE, end("response.completed", ...)], ESTIMATE, "client_closed"),
        ([PART, DONE, CUT], ESTIMATE, "upstream_cut"),
    ],
)
async def test_a_client_that_leaves_is_drained_and_charged(pieces, cost, outcome):
    kit = Kit(stream(CREATED, *pieces), routes=ROUTES)
    await kit.call(PATH, request(stream=True), leaves_after=1)
    text, images = both(kit)
    assert (text.outcome, images.outcome, images.cost) == (outcome, outcome, cost)


async def test_draining_is_bounded():
    kit = Kit(stream(CREATED, DONE, *[SILENCE] * 50), routes=ROUTES, deadlines=Deadlines(drain_s=0))
    await kit.call(PATH, request(stream=True), leaves_after=1)
    assert (both(kit)[1].cost, both(kit)[1].outcome) == (ESTIMATE, "client_closed")


async def test_a_stream_is_ended_when_its_key_is_revoked():
    kit = Kit(routes=ROUTES)
    kit.client._scripts = [stream(CREATED, lambda: setattr(kit.keyring, "revoked", True) or DONE)]
    answered = await kit.call(PATH, request(stream=True))
    assert b"revoked" in answered.events[-1]
    assert (both(kit)[1].cost, both(kit)[1].outcome) == (ESTIMATE, "refused")


async def test_a_worker_that_stops_settles_both():
    kit = Kit(routes=ROUTES)
    kit.client._scripts = [stream(CREATED, DONE, lambda: asyncio.current_task().cancel() or DELTA, SILENCE)]
    with pytest.raises(asyncio.CancelledError):
        await kit.call(PATH, request(stream=True))
    await asyncio.sleep(0.05)
    assert (both(kit)[1].cost, both(kit)[1].outcome) == (ESTIMATE, "interrupted")


async def test_a_long_stream_writes_down_what_both_have_cost(monkeypatch):
    monkeypatch.setattr("proxy.gateway.streams.CHECKPOINT_S", 0)
    kit = Kit(stream(CREATED, DONE, DELTA, end()), routes=ROUTES)
    await kit.call(PATH, request(stream=True))
    text, images = both(kit)
    assert (images.request_id, ESTIMATE) in kit.teller.checkpoints
    assert {request_id for request_id, _ in kit.teller.checkpoints} == {text.request_id, images.request_id}


def test_no_cut_of_the_stream_into_pieces_matters():
    job = ENDPOINTS[PATH].parse(request(stream=True))
    every = (CREATED + PART + DONE + DELTA + end()).replace(b"\n", b"\r\n")
    for at in range(1, len(every)):
        one = meter(job)
        passed = one.feed(every[:at]) + one.feed(every[at:]) + one.flush()
        assert passed + one.last(None) == every
        assert (one.images, one.partials, one.tool_usage) == (1, 0, REPORT)


# ---------------------------------------------------------------- holds and refusals


async def test_the_most_that_the_images_may_cost_is_held_before_the_call():
    kit = Kit(whole(), routes=ROUTES)
    held = []
    kit.client._scripts = [Script([lambda: held.append(dict(kit.teller.holds)) or orjson.dumps(response())])]
    given = [
        {"role": "user", "content": [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "u"}]}
    ]
    await kit.call(PATH, request(input=given, max_tool_calls=2, tool={"partial_images": 2}))
    text, images = both(kit)
    assert held == [{text.request_id: text.hold, images.request_id: images.hold}]
    # Twice 272 tokens and 2 partial images; twice the text and the image that came in, and the first image once more.
    words = ENDPOINTS[PATH].parse(request(input=given, tool={"partial_images": 2})).prompt_tokens
    inputs = 2 * (words + words // 20 + 20) + (2 * 1 + 1) * 6_500
    assert images.hold == inputs * 8_000 + 2 * (272 + 200) * 30_000


async def test_a_long_conversation_is_not_held_for_the_image_model_in_full():
    kit = Kit(whole(), routes=ROUTES)
    await kit.call(PATH, request(input="word " * 50_000, max_tool_calls=1))
    assert both(kit)[1].hold == (8_000 + 400 + 20) * 8_000 + 272 * 30_000


@pytest.mark.parametrize(
    ("routes", "tool", "param"),
    [
        ((ROUTE,), {}, "tools[0].model"),
        ((ROUTE,), {"model": None}, "tools[0].type"),
        ((ROUTE, replace(PAINTER, rate=None)), {}, "tools[0].model"),
        ((ROUTE, replace(PAINTER, endpoints=frozenset({"/v1/chat/completions"}))), {}, "tools[0].model"),
        ((ROUTE, replace(PAINTER, deployments=(replace(DEPLOYMENT, provider="other"),))), {}, "tools[0].model"),
        ((ROUTE, replace(PAINTER, deployments=(replace(DEPLOYMENT, kind="cloudflare"),))), {}, "tools[0].model"),
    ],
)
async def test_a_tool_without_a_price_or_a_provider_is_refused(routes, tool, param):
    kit = Kit(routes=routes)
    answered = await kit.call(PATH, request(tool=tool))
    assert (answered.status, answered.error["code"], answered.error["param"]) == (400, "unsupported_value", param)
    assert kit.client.requests == kit.teller.captures == []


async def test_a_key_must_be_allowed_the_image_model_too():
    kit = Kit(whole(), routes=ROUTES, key=replace(KEY, allowed_models=frozenset({"m"})))
    answered = await kit.call(PATH, request())
    assert (answered.status, answered.error["code"]) == (403, "model_not_allowed")
    kit.keyring.key = replace(KEY, allowed_models=frozenset({"m", "painter"}))
    assert (await kit.call(PATH, request())).status == 200


async def test_a_response_goes_only_where_its_images_are_made_too():
    elsewhere = replace(DEPLOYMENT, id=9, provider="spare", base_url="http://spare/v1", priority=-1)
    kit = Kit(whole(), routes=(replace(ROUTE, deployments=(elsewhere, DEPLOYMENT)), PAINTER))
    assert (await kit.call(PATH, request())).headers["x-upstream"] == "up/real-model"


async def test_too_little_credit_for_several_images_allows_one():
    # One image: (text and margin) x 8,000 + 272 x 30,000 = about 9 million; four take 170 million with what they read.
    kit = Kit(whole(), routes=ROUTES, balance=20_000_000)
    assert (await kit.call(PATH, request())).status == 200
    assert kit.client.requests[0][2]["max_tool_calls"] == 1
    kit = Kit(whole(), routes=ROUTES, balance=20_000_000)
    refused = await kit.call(PATH, request(max_tool_calls=4))
    assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
    assert kit.client.requests == kit.teller.captures == []


async def test_what_is_held_for_images_is_given_back_when_the_response_cannot_be_held():
    kit = Kit(whole(), routes=ROUTES)
    hold = kit.teller.hold

    async def only_images(asked):
        return await hold(asked) if asked.model == "painter" else Refused("insufficient_credit", 5, None)

    kit.teller.hold = only_images
    assert (await kit.call(PATH, request())).status == 429
    assert kit.teller.holds == {}
    (released,) = kit.teller.captures
    assert (released.cost, released.outcome, released.status_code, released.model) == (0, "refused", 429, "painter")
    assert kit.client.requests == []


async def test_one_ceiling_binds_both():
    kit = Kit(whole(), routes=ROUTES)
    sent = request(max_tool_calls=1)
    await kit.call(PATH, sent)
    text, images = both(kit)
    enough, less = (f"{(text.hold + images.hold + more) / 10**7:.7f}" for more in (0, -1))
    refused = await kit.call(PATH, sent, headers={"x-max-credits": less})
    assert (refused.status, refused.error["rule"]["scope"]) == (429, "call")
    assert kit.teller.holds == {}
    assert (await kit.call(PATH, sent, headers={"x-max-credits": enough})).status == 200


async def test_a_repeat_is_answered_from_the_first_and_charged_once():
    kit = Kit(whole(), routes=ROUTES)
    headers = {"Idempotency-Key": "once"}
    sent = {name.lower(): value for name, value in headers.items()}
    first, again = [await kit.call(PATH, request(), headers=sent) for _ in range(2)]
    assert (again.body, again.headers["idempotent-replayed"]) == (first.body, "true")
    assert again.headers["x-cost-credits"] == "0.8550"
    both(kit)


async def test_what_is_sent_back_loses_our_address_and_what_failed():
    kit = Kit(whole(), routes=ROUTES)
    failed = {"type": "image_generation_call", "id": "ig_2", "status": "failed", "result": None}
    given = [
        {"role": "user", "content": "draw"},
        picture(url="https://here/1"),
        failed,
        {"role": "user", "content": "x"},
    ]
    assert (await kit.call(PATH, request(input=given))).status == 200
    sent = kit.client.requests[0][2]["input"]
    assert [item.get("id") for item in sent] == [None, "ig_1", None]
    assert "url" not in sent[1]
    refused = await kit.call(PATH, request(input=[{"type": "image_generation_call", "id": "ig_of_another"}]))
    assert (refused.status, refused.error["param"]) == (400, "input")


async def test_a_fallback_makes_its_images_itself():
    other = replace(ROUTE, model="second", deployments=(replace(DEPLOYMENT, id=4, upstream_name="second"),))
    key = replace(KEY, fallback_model="second")
    kit = Kit(Script([b"no"], status=500), whole(), routes=(*ROUTES, other), key=key)
    assert (await kit.call(PATH, request())).headers["x-fallback-from"] == "m"
    assert kit.teller.holds == {}
    assert [one.cost for one in kit.teller.captures] == [0, 0, TEXT_COST, IMAGE_COST]


# ---------------------------------------------------------------- the gallery


class Shelf:
    def __init__(self):
        self.kept = []

    def address(self, data, visibility):
        made = MadeImage(uuid4(), data, "image/png")
        return made, f"https://here/{made.id}?{visibility}"

    async def keep(self, batch, cost):
        self.kept.append((batch, cost))


async def test_each_image_of_a_whole_answer_gets_an_address_and_is_kept():
    shelf = Shelf()
    kit = Kit(whole(images=2), routes=ROUTES, key=replace(KEY, image_visibility="private"), images=shelf)
    answered = await kit.call(PATH, request(), headers={"x-gallery-visibility": "public"})
    ((batch, cost),) = shelf.kept
    first, second, message = answered.json()["output"]
    assert [first["url"], second["url"]] == [f"https://here/{image.id}?public" for image in batch.images]
    assert "url" not in message
    assert first["result"] == B64
    assert (cost, batch.exchange.request_id) == (IMAGE_COST, both(kit)[1].request_id)
    assert batch.images[0].told == {"revised_prompt": "a red fox", "size": "1024x1024", "quality": "low"}
    assert batch.exchange.job.body["prompt"] == "draw a fox"


async def test_an_image_of_a_stream_has_one_address_in_both_its_places():
    shelf = Shelf()
    key = replace(KEY, image_visibility="private")
    kit = Kit(stream(CREATED, PART, DONE, DELTA, end()), routes=ROUTES, key=key, images=shelf)
    events = [orjson.loads(data) for data in (await kit.call(PATH, request(stream=True))).events]
    ((batch, cost),) = shelf.kept
    (image,) = batch.images
    done = next(one for one in events if one["type"] == "response.output_item.done")
    assert done["item"]["url"] == events[-1]["response"]["output"][0]["url"] == f"https://here/{image.id}?private"
    assert (cost, image.data) == (IMAGE_COST, b"\x89PNG a picture")
    assert [one["type"] for one in events] == [
        "response.created", "response.image_generation_call.partial_image", "response.output_item.done",
        "response.output_text.delta", "response.completed",
    ]  # fmt: skip


async def test_who_keeps_no_images_gets_answers_as_they_came():
    kit = Kit(whole(), routes=ROUTES, images=Shelf())
    assert "url" not in (await kit.call(PATH, request())).json()["output"][0]


def test_without_the_tool_nothing_is_looked_at():
    job = ENDPOINTS[PATH].parse({"model": "m", "input": "draw a fox"})
    assert job.tool is None
    assert not isinstance(meter(job), image_tool.ToolMeter)
