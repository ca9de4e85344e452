"""Responses: what is refused, what is charged, whose they are. A token of input is 1,000 n$, one of output 2,000."""

from dataclasses import replace

import orjson
import pytest

from billing.pricing import UnitPrice
from proxy.gateway.endpoints import ENDPOINTS
from proxy.gateway.errors import GatewayError, InvalidRequest
from proxy.gateway.responses import meter
from proxy.tests.kit import CUT, DEPLOYMENT, KEY, RATE, ROUTE, Kit, Script, stream

PATH = "/v1/responses"
PARSE = ENDPOINTS[PATH].parse
USAGE = {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 5, "total_tokens": 15}
EXACT = 20_000
# "hello world" is 2 tokens, 3 in a vocabulary that we do not have; the frame is 3 + 1; in the answer it is 2.
ESTIMATE = 7 * 1_000 + 2 * 2_000


def request(**fields):
    return {"model": "m", "input": "hello world"} | fields


def response(usage=USAGE, **fields):
    message = {"type": "message", "content": [{"type": "output_text", "text": "hello world"}]}
    told = {"id": "resp_1", "object": "response", "status": "completed", "error": None, "output": [message]}
    return told | ({"usage": usage} if usage is not ... else {}) | fields


def event(kind, **fields):
    return f"event: {kind}\n".encode() + b"data: " + orjson.dumps({"type": kind, **fields}) + b"\n\n"


CREATED = event("response.created", sequence_number=0, response={"id": "resp_1", "usage": None, "error": None})
DELTA = event("response.output_text.delta", sequence_number=1, delta="hello world")


def end(kind="response.completed", **fields):
    return event(kind, sequence_number=2, response=response(**fields))


def only_capture(kit):
    assert kit.teller.holds == {}
    (capture,) = kit.teller.captures
    return capture


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"background": "yes"}, "background", "invalid_type"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_value"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_value"),
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": 7}, "input", "invalid_value"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input", "unsupported_value"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
            "input",
            "unsupported_value",
        ),
        ({"tools": {}}, "tools", "invalid_value"),
        ({"tools": ["x"]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": "function"}, {"type": "mcp"}]}, "tools[1].type", "unsupported_value"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools[0].type", "unsupported_value"),
        ({"tools": [{"type": "file_search"}]}, "tools[0].type", "unsupported_value"),
        ({"tools": [{"type": "image_generation"}] * 2}, "tools[1].type", "invalid_value"),
        ({"tools": [{"type": "image_generation", "size": "1x1"}]}, "tools[0].size", "unsupported_value"),
        ({"tools": [{"type": "image_generation", "quality": "best"}]}, "tools[0].quality", "unsupported_value"),
        ({"tools": [{"type": "image_generation", "partial_images": 4}]}, "tools[0].partial_images", "invalid_value"),
        ({"tools": [{"type": "image_generation", "model": 7}]}, "tools[0].model", "invalid_value"),
        (
            {"tools": [{"type": "image_generation", "output_format": "svg"}]},
            "tools[0].output_format",
            "unsupported_value",
        ),
        (
            {"tools": [{"type": "image_generation", "input_image_mask": {"file_id": "file-1"}}]},
            "tools[0].input_image_mask",
            "unsupported_value",
        ),
        ({"input": [{"type": "image_generation_call", "id": "ig_1"}]}, "input", "unsupported_value"),
        ({"tools": [{"type": "web_search"}], "max_tool_calls": 0}, "max_tool_calls", "invalid_value"),
        ({"previous_response_id": 7}, "previous_response_id", "invalid_value"),
        ({"max_output_tokens": "many"}, "max_output_tokens", "invalid_value"),
        ({"store": "no"}, "store", "invalid_type"),
        ({"stream": 1}, "stream", "invalid_type"),
        ({"service_tier": "golden"}, "service_tier", "unsupported_value"),
    ],
)
def test_a_wrong_or_unpriced_field_is_named(fields, param, code):
    with pytest.raises(InvalidRequest) as refused:
        PARSE(request(**fields))
    assert (refused.value.param, refused.value.code, refused.value.status) == (param, code, 400)


async def test_web_search_without_a_price_is_refused():
    kit = Kit()
    answered = await kit.call(PATH, request(tools=[{"type": "web_search"}]))
    assert (answered.status, answered.error["param"]) == (400, "tools")
    assert kit.client.requests == []


async def test_web_searches_are_held_and_charged_by_the_call():
    rate = replace(RATE, units={"web_search_calls": UnitPrice("web_search_calls", 10_000_000 * 10**6)})
    items = [{"type": "web_search_call"}, {"type": "web_search_call"}, *response()["output"]]
    kit = Kit(Script([orjson.dumps(response(output=items))]), routes=(replace(ROUTE, rate=rate),))
    await kit.call(PATH, request(tools=[{"type": "web_search"}], max_output_tokens=10))
    capture = only_capture(kit)
    assert capture.cost == EXACT + 2 * 10_000_000
    assert capture.units == {"web_search_calls": 2}
    # The input is a few tokens and those of the tools, the answer 10; 8 searches are the limit that we set.
    assert capture.hold >= 8 * 10_000_000 + 10 * 2_000
    assert kit.client.requests[0][2]["max_tool_calls"] == 8


@pytest.mark.parametrize(
    ("told", "cost", "estimated", "outcome"),
    [
        (response(), EXACT, False, "completed"),
        (response(status="incomplete"), EXACT, False, "completed"),
        (response(usage=...), ESTIMATE, True, "completed"),
        (response(usage={"input_tokens": -1, "output_tokens": 5}), ESTIMATE, True, "completed"),
        (response(usage=None, status="failed", error={"message": "at http://10.0.0.1"}), 0, False, "upstream_error"),
        (response(status="failed", error={"message": "x"}), EXACT, False, "upstream_error"),
    ],
)
async def test_a_whole_answer(told, cost, estimated, outcome):
    kit = Kit(Script([orjson.dumps(told)]))
    answered = await kit.call(PATH, request())
    assert answered.status == 200
    assert b"10.0.0.1" not in answered.body
    capture = only_capture(kit)
    assert (capture.cost, capture.estimated, capture.outcome) == (cost, estimated, outcome)


@pytest.mark.parametrize(
    ("pieces", "cost", "outcome", "estimated"),
    [
        ([CREATED, DELTA, end()], EXACT, "completed", False),
        ([CREATED, DELTA, end("response.incomplete", status="incomplete")], EXACT, "completed", False),
        ([CREATED, DELTA, end(usage=None)], ESTIMATE, "completed", True),
        ([CREATED, DELTA, end(), b"data: [DONE]\n\n"], EXACT, "completed", False),
        ([CREATED, DELTA, end("response.failed", usage=None, status="failed")], 0, "upstream_error", False),
        ([CREATED, DELTA, end("response.failed", status="failed")], EXACT, "upstream_error", False),
        ([CREATED, DELTA, event("error", message="boom at http://10.0.0.1")], ESTIMATE, "upstream_error", True),
        ([CREATED, event("error", message="boom")], 0, "upstream_error", False),
        ([CREATED, DELTA, CUT], ESTIMATE, "upstream_cut", True),
        ([CREATED, DELTA], ESTIMATE, "upstream_cut", True),
        ([CREATED, CUT], 0, "upstream_cut", False),
    ],
)
async def test_a_stream(pieces, cost, outcome, estimated):
    kit = Kit(stream(*pieces))
    answered = await kit.call(PATH, request(stream=True, max_output_tokens=50))
    assert answered.status == 200
    assert answered.is_complete
    capture = only_capture(kit)
    assert (capture.cost, capture.outcome, capture.estimated) == (cost, outcome, estimated)
    assert b"[DONE]" not in answered.body
    assert b"10.0.0.1" not in answered.body
    is_cut = outcome == "upstream_cut" or b"event: error" in b"".join(p for p in pieces if isinstance(p, bytes))
    assert (b"event: error" in answered.body) is is_cut
    if is_cut:
        last = orjson.loads(answered.events[-1])
        assert last["error"]["code"] == last["code"] == "upstream_error"


async def test_the_last_event_waits_for_the_charge_and_bytes_pass_unchanged():
    pieces = [CREATED, DELTA, end()]
    kit = Kit(stream(*pieces))
    charged = []

    def on_send(message):
        if b"response.completed" in message.get("body", b""):
            charged.append(len(kit.teller.captures))

    answered = await kit.call(PATH, request(stream=True), on_send=on_send)
    assert charged == [1]
    note = b": x-cost-credits 0.0020\n: x-credits-remaining 99999.9980\n\n"
    assert answered.body == b"".join(pieces) + note
    assert "stream_options" not in kit.client.requests[0][2]


def test_no_cut_of_the_stream_into_pieces_matters():
    whole = (CREATED + DELTA + end()).replace(b"\n", b"\r\n")
    for at in range(1, len(whole)):
        one = meter(PARSE(request()))
        passed = one.feed(whole[:at]) + one.feed(whole[at:]) + one.flush()
        assert passed + one.last(None) == whole
        assert one.is_done
        assert one.usage == USAGE
        assert one.object_id == "resp_1"


async def test_the_output_limit_goes_by_its_own_name():
    kit = Kit(Script([orjson.dumps(response())]), balance=1_000_000)
    await kit.call(PATH, request())
    assert 16 <= kit.client.requests[0][2]["max_output_tokens"] < 500


async def test_only_its_maker_sees_a_response_again():
    kit = Kit(Script([orjson.dumps(response())]))
    await kit.call(PATH, request())
    assert kit.objects.owners == {(3, "response", "resp_1"): 1}
    for method, path in (
        ("GET", "/v1/responses/resp_1"),
        ("GET", "/v1/responses/resp_1/input_items?limit=2&evil=1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("DELETE", "/v1/responses/resp_1"),
    ):
        kit.keyring.key = replace(KEY, organization_id=4)
        assert (await kit.call(path, method=method)).status == 404
        kit.keyring.key = KEY
        assert (await kit.call(path, method=method)).status == 200
    assert [url for url, _, _ in kit.client.requests[1:]] == [
        "GET http://upstream/v1/responses/resp_1",
        "GET http://upstream/v1/responses/resp_1/input_items?limit=2",
        "POST http://upstream/v1/responses/resp_1/cancel",
        "DELETE http://upstream/v1/responses/resp_1",
    ]
    assert kit.objects.owners == {}
    assert len(kit.teller.captures) == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/responses/resp_2", 404),
        ("GET", "/v1/responses/resp_1/", 404),
        ("GET", "/v1/responses/resp_1/other", 404),
        ("GET", "/v1/responses/..%2Fmodels", 404),
        ("GET", "/v1/responses/../models", 404),
        ("PATCH", "/v1/responses/resp_1", 405),
        ("GET", "/v1/responses/resp_1/cancel", 405),
        ("GET", "/v1/responses/resp_1?stream=true", 400),
    ],
)
async def test_odd_addresses_of_objects_are_refused(method, path, status):
    kit = Kit()
    kit.objects.owners[3, "response", "resp_1"] = 1
    assert (await kit.call(path, method=method)).status == status
    assert kit.client.requests == []


async def test_a_response_that_is_not_stored_is_nobodys():
    kit = Kit(Script([orjson.dumps(response())]), Script([orjson.dumps(response(store=False))]))
    await kit.call(PATH, request(store=False))
    await kit.call(PATH, request())
    assert kit.objects.owners == {}


async def test_a_streamed_response_has_an_owner_too():
    kit = Kit(stream(CREATED, DELTA, end()))
    await kit.call(PATH, request(stream=True))
    assert kit.objects.owners == {(3, "response", "resp_1"): 1}


async def test_a_response_continues_only_its_owners_at_the_provider_that_made_it():
    other = replace(DEPLOYMENT, id=2, provider="spare", base_url="http://spare/v1", priority=-1)
    route = replace(ROUTE, deployments=(other, DEPLOYMENT), context_window=1_000)
    kit = Kit(Script([orjson.dumps(response())]), routes=(route,))
    refused = await kit.call(PATH, request(previous_response_id="resp_0"))
    assert (refused.status, refused.error["code"]) == (400, "previous_response_not_found")
    kit.objects.owners[3, "response", "resp_0"] = 1
    answered = await kit.call(PATH, request(previous_response_id="resp_0", max_output_tokens=5))
    assert answered.headers["x-upstream"] == "up/real-model"
    # The earlier turns may fill the context: 1,000 tokens of input, 5 of output.
    assert only_capture(kit).hold == 1_000 * 1_000 + 5 * 2_000


async def test_moderations_are_free_but_not_for_everybody():
    free = replace(RATE, base=replace(RATE.base, input=0, output=0))
    moderation = replace(ROUTE, model="omni-moderation-latest", rate=free)
    kit = Kit(Script([b'{"id":"modr-1","results":[{"flagged":false}]}']), routes=(moderation,))
    answered = await kit.call("/v1/moderations", {"input": ["hello", "world"]})
    assert answered.status == 200
    assert kit.client.requests[0][2]["model"] == "real-model"
    assert only_capture(kit).cost == 0
    assert (await kit.call("/v1/moderations", {"input": ""})).error["param"] == "input"
    assert (await kit.call("/v1/moderations", {"input": "x"}, secret="wrong")).status == 401
    kit.keyring.key = replace(KEY, scopes=frozenset({"chat"}))
    assert (await kit.call("/v1/moderations", {"input": "x"})).error["code"] == "scope_missing"


def test_an_error_event_reads_as_both_kinds_of_error():
    one = meter(PARSE(request()))
    one.feed(CREATED + DELTA)
    told = orjson.loads(one.last(GatewayError("broken")).split(b"data: ")[1])
    assert told["type"] == "error"
    assert told["sequence_number"] == 2
    assert told["error"]["message"] == told["message"] == "broken"
