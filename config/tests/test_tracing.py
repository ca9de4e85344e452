"""Traces from the gateway over OTLP to a collector: what they tell, and what they must never tell."""

import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from billing import settlement
from config.tests.manifests import ROOT
from config.tests.test_settings import GOOD, start
from proxy import tracing
from proxy.gateway.traces import Traces, link_of, root_id
from proxy.tests.kit import CUT, DEPLOYMENT, ROUTE, SECRET, Kit, Script, answer, chat, delta, stream, usage

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """An OTLP/HTTP receiver that keeps what it gets."""

    def __init__(self):
        self.raw = b""
        self.requests = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.raw += body
                collector.requests.append((self.path, ExportTraceServiceRequest.FromString(body)))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def spans(self):
        return [
            span
            for _, request in self.requests
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def collector(settings):
    made = Collector()
    settings.OTEL_EXPORTER_OTLP_ENDPOINT = made.url
    settings.OTEL_TRACES_SAMPLER_ARG = 1.0
    yield made
    tracing.exporter.cache_clear()
    made.close()


def attributes(span):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


async def test_a_request_leaves_its_attempts_and_its_charge(collector):
    second = replace(DEPLOYMENT, id=2, provider="spare", priority=1)
    route = replace(ROUTE, deployments=(DEPLOYMENT, second))
    kit = Kit(Script([b"{}"], status=500), Script([answer(usage())]), routes=(route,), traces=tracing.traces())
    answered = await kit.call(body=chat(), headers={"traceparent": PARENT, "x-user-id": "someone@example.com"})
    await tracing.close()
    assert answered.status == 200
    ((path, _),) = collector.requests
    assert path == "/v1/traces"
    request, failed, worked, charge = sorted(collector.spans, key=lambda each: each.start_time_unix_nano)
    assert [each.name for each in (request, failed, worked, charge)] == [
        "POST /v1/chat/completions",
        "upstream",
        "upstream",
        "charge",
    ]
    trace_id = answered.headers["x-request-id"].removeprefix("req_")
    assert {each.trace_id.hex() for each in collector.spans} == {trace_id}
    assert {each.parent_span_id for each in (failed, worked, charge)} == {request.span_id}
    assert request.parent_span_id == b""
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in request.links] == [tuple(PARENT.split("-")[1:3])]
    told = attributes(request)
    assert (told["tuppence.cost_nanos"], told["tuppence.outcome"]) == (20_000, "completed")
    assert (told["tuppence.input_tokens"], told["tuppence.output_tokens"]) == (10, 5)
    assert attributes(failed)["error.type"] == "upstream_error"
    assert attributes(worked)["tuppence.deployment"] == "spare/real-model"
    assert request.start_time_unix_nano <= worked.start_time_unix_nano <= charge.start_time_unix_nano
    assert worked.end_time_unix_nano <= charge.end_time_unix_nano <= request.end_time_unix_nano


async def test_a_trace_holds_no_prompt_answer_key_or_name(collector):
    kit = Kit(stream(delta("the secret answer"), CUT), traces=tracing.traces())
    await kit.call(
        body=chat(stream=True, messages=[{"role": "user", "content": "the secret prompt"}], user="end-user-name")
    )
    await tracing.close()
    assert collector.spans
    request = min(collector.spans, key=lambda each: each.start_time_unix_nano)
    assert attributes(request)["tuppence.outcome"] == "upstream_cut"
    assert request.status.code == 2
    for secret in (b"secret", b"end-user-name", b"203.0.113.9", SECRET.encode(), DEPLOYMENT.api_key.encode()):
        assert secret not in collector.raw


@pytest.mark.parametrize(
    ("trusted", "is_own_key", "is_told"), [(set(), False, False), ({"up"}, False, True), ({"up"}, True, False)]
)
async def test_only_a_trusted_provider_hears_of_the_trace(trusted, is_own_key, is_told):
    spans = []
    traces = Traces(spans.extend, trusted=frozenset(trusted))
    route = replace(ROUTE, deployments=(replace(DEPLOYMENT, is_own_key=is_own_key),))
    kit = Kit(Script([answer(usage())]), routes=(route,), traces=traces)
    answered = await kit.call(body=chat(), headers={"traceparent": PARENT})
    sent = kit.client.requests[0][1].get("traceparent")
    if not is_told:
        assert sent is None
        return
    trace_id = answered.headers["x-request-id"].removeprefix("req_")
    (upstream,) = [each for each in spans if each.name == "upstream"]
    assert sent == f"00-{trace_id}-{upstream.span_id:016x}-01"


def test_a_share_of_requests_is_kept_by_its_random_bits():
    kept = Traces(lambda spans: None, ratio=0.25)
    quarters = [UUID(int=(0x0198 << 112) | (number << 54)) for number in range(4)]
    assert [kept.keeps(each) for each in quarters] == [True, False, False, False]
    assert not Traces(lambda spans: None, ratio=0).keeps(quarters[0])
    assert all(Traces(lambda spans: None).keeps(each) for each in quarters)


@pytest.mark.parametrize(
    "sent", ["", "garbage", PARENT.upper(), PARENT[:-1], f"00-{'0' * 32}-b7ad6b7169203331-01", PARENT + "x", "é" * 60]
)
def test_a_malformed_traceparent_is_no_link(sent):
    assert link_of(sent) == ()


async def test_a_trace_that_cannot_be_made_breaks_no_request():
    def explode(spans):
        raise RuntimeError

    answered = await Kit(Script([answer(usage())]), traces=Traces(explode)).call(body=chat())
    assert answered.status == 200


def test_settlement_is_linked_to_requests_that_it_settled(collector):
    request_id = UUID("01a1fea51182701cb52e6fb4a0c34e22")
    tracing.listen()
    try:
        settlement.posted.send(
            sender=None,
            account_id=5,
            summary={"records": 3, "cost": 4},
            request_ids=[request_id],
            began_at=time.perf_counter(),
        )
        tracing.exporter(collector.url).close()
    finally:
        settlement.posted.disconnect(dispatch_uid="proxy.tracing")
    (span,) = collector.spans
    assert (span.name, attributes(span)["tuppence.cost_nanos"]) == ("settle", 4)
    (link,) = span.links
    assert (link.trace_id, int.from_bytes(link.span_id)) == (request_id.bytes, root_id(request_id))


def test_without_an_address_nothing_of_it_is_imported(settings):
    settings.OTEL_EXPORTER_OTLP_ENDPOINT = ""
    assert tracing.traces() is None
    assert not settlement.posted.has_listeners()
    # redis-py imports OpenTelemetry's API by itself where it is installed; we import what would send.
    code = "import django; django.setup(); import config.asgi, sys; print('opentelemetry.exporter' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=GOOD | {"DJANGO_SETTINGS_MODULE": "config.settings"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.split()[-1] == "False"


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_TRACES_SAMPLER_ARG", "2"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")]
)
def test_a_wrong_setting_is_named(name, value):
    stopped = start(**{name: value})
    assert stopped.returncode == 1
    assert stopped.stderr.startswith(f"{name}: ")
