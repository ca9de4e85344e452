"""The gateway against its callers: destinations, credentials, headers, smuggling; and its upstream client."""

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest

from accounts import key_format
from accounts.models import ApiKey
from accounts.tests.factories import issue
from proxy.gateway import keys
from proxy.gateway.errors import Unavailable
from proxy.gateway.http_client import HttpClient
from proxy.gateway.own import HEADER as UPSTREAM_KEY
from proxy.gateway.snapshots import Key
from proxy.gateway.upstream import UpstreamError
from proxy.gateway.wire import Request
from proxy.tests.api_kit import ApiClient, assert_error
from proxy.tests.kit import DEPLOYMENT, KEY, ROUTE, SECRET, Kit, Script, answer, chat, usage

EVIL = "https://evil.example/v1"
OK = Script([answer(usage())])
# Names by which gateways let a caller choose where a request goes, or what it goes with.
DESTINATIONS = (
    "api_base", "base_url", "api_url", "url", "endpoint", "host", "custom_host", "proxy", "api_key", "organization",
    "api_version", "azure_endpoint", "deployment", "deployment_id", "provider", "custom_llm_provider", "headers",
    "extra_headers", "default_headers", "extra_query", "extra_body", "metadata_url", "callback_url", "webhook_url",
    "aws_region_name", "vertex_project", "litellm_params", "fallbacks", "model_list", "mock_response",
)  # fmt: skip
ROUTING_HEADERS = (
    "x-portkey-custom-host", "x-portkey-config", "helicone-target-url", "helicone-openai-api-base", "x-forwarded-host",
    "x-original-url", "x-rewrite-url", "x-http-method-override", "x-api-base", "x-litellm-api-base", "host",
    "forwarded",
    "x-azure-endpoint", "proxy-authorization", "x-upstream-base",
)  # fmt: skip


# ---------------------------------------------------------------- Destinations


@pytest.mark.parametrize("name", DESTINATIONS)
async def test_no_field_of_a_body_leads_our_key_elsewhere(name: str) -> None:
    """LiteLLM CVE-2024-6587: the server's key went to the `api_base` of the body."""
    for value in (EVIL, {"url": EVIL, "authorization": "x"}, [EVIL]):
        kit = Kit(OK)
        await kit.call(body=chat(**{name: value}))
        for url, headers, _ in kit.client.requests:
            assert url == "http://upstream/v1/chat/completions"
            assert headers["authorization"] == "Bearer sk-upstream-secret"
            assert "evil" not in str(headers)


async def test_no_header_leads_our_key_elsewhere() -> None:
    kit = Kit(OK)
    await kit.call(body=chat(), headers=dict.fromkeys(ROUTING_HEADERS, EVIL))
    ((url, headers, _),) = kit.client.requests
    assert url == "http://upstream/v1/chat/completions"
    assert set(headers) == {"content-type", "accept", "accept-encoding", "user-agent", "authorization"}
    assert "evil" not in str(headers)


async def test_the_model_of_a_body_is_looked_up_and_never_part_of_an_address() -> None:
    azure = replace(DEPLOYMENT, kind="azure", base_url="http://upstream", api_version="v")
    for name in ("../../evil", "m/../x", "m?x=1", "m#x", "m\r\nx: y", "http://evil.example", "M ", "m\0"):
        kit = Kit(OK, routes=(replace(ROUTE, deployments=(azure,)),))
        told = await kit.call(body=chat(model=name))
        assert told.status == 404
        assert kit.client.requests == []


async def test_an_api_version_stays_in_its_parameter() -> None:
    azure = replace(DEPLOYMENT, kind="azure", base_url="http://upstream", api_version="v")
    kit = Kit(OK, routes=(replace(ROUTE, deployments=(azure,)),))
    await kit.call("/v1/chat/completions?api-version=x%26key%3Dy%0d%0aHost:evil", chat())
    ((url, _, _),) = kit.client.requests
    assert url.endswith("?api-version=x%26key%3Dy%0D%0AHost%3Aevil")


# ---------------------------------------------------------------- Credentials


ODD_CREDENTIALS = (
    "' OR 1=1--", "\0", "x" * 2**20, "sk-tup-" + "0" * 50, "sk-tup-", "Bearer", "null", "undefined", "*", "%", "_",
    "é" * 20, "{}", "[]", "${jndi:ldap://x}", "../../etc/passwd", f"{SECRET} ", f"{SECRET}x", SECRET[:-1],
    SECRET.upper(),
    "eyJhbGciOiJub25lIn0.e30.",
)  # fmt: skip
SCHEMES = ("authorization", "api-key", "x-api-key")


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_nonsense_for_a_key_is_401_of_one_shape(scheme: str) -> None:
    """LiteLLM CVE-2026-42208, -12773, -59822: no query made of it, no identity by default, no word of why."""
    for secret in ODD_CREDENTIALS:
        if secret.strip() == SECRET:
            continue
        kit = Kit(OK)
        sent = f"Bearer {secret}" if scheme == "authorization" else secret
        told = await kit.call(body=chat(), secret=None, headers={scheme: sent})
        assert (told.status, told.error["code"]) == (401, "invalid_api_key"), secret[:40]
        assert len(told.body) < 400
        assert kit.client.requests == []
        assert kit.teller.captures == []


async def test_a_keyring_that_fails_lets_nobody_in() -> None:
    class Broken:
        def __init__(self, error: Exception) -> None:
            self.error = error

        async def find(self, secret: str) -> Key | None:
            raise self.error

        def is_revoked(self, key_id: int) -> bool:
            return False

    for error, status in ((Unavailable(), 503), (RuntimeError("boom"), 500), (KeyError("id"), 500)):
        kit = Kit(OK)
        kit.gateway._keyring = Broken(error)  # type: ignore[assignment]
        for path in (
            "/v1/chat/completions",
            "/v1/models",
            "/v1/files",
            "/v1/responses/r_1",
            "/v1/messages/count_tokens",
        ):
            method = "GET" if path.endswith(("models", "files", "r_1")) else "POST"
            told = await kit.call(path, chat(), method=method)
            assert told.status == status, (path, told.body)
            assert b"boom" not in told.body
        assert kit.client.requests == []


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_every_header_of_a_key_is_held_to_the_same_limits(scheme: str) -> None:
    """Open WebUI CVE-2026-45339: `x-api-key` skipped what `Authorization` was held to."""
    sent = {scheme: f"Bearer {SECRET}" if scheme == "authorization" else SECRET}
    for key, code in (
        (replace(KEY, scopes=frozenset({"embeddings"})), "scope_missing"),
        (replace(KEY, allowed_endpoints=frozenset({"/v1/embeddings"})), "endpoint_not_allowed"),
        (replace(KEY, allowed_models=frozenset({"other"})), "model_not_allowed"),
        (replace(KEY, is_active=False), "organization_inactive"),
    ):
        for path in ("/v1/chat/completions", "/v1/chat/completions?x=/v1/embeddings"):
            told = await Kit(OK, key=key).call(path, chat(), secret=None, headers=sent)
            assert (told.status, told.error["code"]) == (403, code)


SPELLINGS = (
    "/v1/chat/completions/", "/v1//chat/completions", "/V1/chat/completions", "/v1/./models", "/v1/chat/completions;x",
    "/v1/chat%2fcompletions", "/v1/models/../chat/completions", "/v1/chat/completions\n",
    "/v1/embeddings/../chat/completions",
)  # fmt: skip


@pytest.mark.parametrize("path", SPELLINGS)
async def test_an_endpoint_has_one_name(path: str) -> None:
    """A policy is asked for the endpoint that is served: no other spelling of a path reaches it."""
    kit = Kit(OK, key=replace(KEY, allowed_endpoints=frozenset({"/v1/embeddings"})))
    assert (await kit.call(path, chat())).status in {403, 404, 405}
    assert kit.client.requests == []


async def test_of_repeated_headers_the_first_counts() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(b"authorization", b"Bearer first"), (b"authorization", b"Bearer second"), (b"x-api-key", b"third")]
    scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": headers}
    assert keys.credential(Request(scope, receive)) == "first"


@pytest.mark.django_db
def test_a_key_that_begins_as_another_is_nobody() -> None:
    """LiteLLM CVE-2026-35030: an identity was cached under the first characters of the credential."""
    made = issue()
    body = made.secret[: -key_format.CHECKSUM_LENGTH]
    assert ApiClient(made.key.organization, made.key, made.secret).get("/v1/key").status_code == 200
    for kept in (19, 40, len(body) - 1):
        twin = _with_checksum(body[:kept] + "".join("B" if letter == "A" else "A" for letter in body[kept:]))
        assert key_format.is_well_formed(twin)
        assert_error(ApiClient(made.key.organization, made.key, twin).get("/v1/key"), 401, "invalid_api_key")
    stored = ApiKey.objects.values_list("digest", flat=True).get()
    assert_error(ApiClient(made.key.organization, made.key, stored).get("/v1/key"), 401, "invalid_api_key")


def _with_checksum(body: str) -> str:
    return body + key_format._checksum(body)


def test_an_error_shows_little_of_a_key() -> None:
    secret = key_format.generate()
    shown = keys.mask(secret)
    assert len(shown) <= 12
    assert secret[len(key_format.PREFIX) : -4] not in shown
    assert keys.mask("short-secret") == "…"
    assert "\r" not in keys.mask(f"a\r\nset-cookie: x{secret}")


# ---------------------------------------------------------------- Headers


async def test_no_header_of_a_request_breaks_out_of_one_upstream() -> None:
    for value in ("sk-own\r\nx: y", "sk-own\nx: y", "sk-own\0", "sk-öwn", "x" * 2_000):
        kit = Kit(OK, is_self_hosted=True)
        told = await kit.call(body=chat(), headers={UPSTREAM_KEY: value})
        assert told.status == 400
        assert kit.client.requests == []


async def test_no_header_of_an_answer_is_the_callers_own_words() -> None:
    """Response splitting: what a caller sends comes back in no header."""
    odd = "evil\r\nset-cookie: a=b"
    names = ("x-request-id", "x-user-id", "x-run-id", "idempotency-key", "origin", "x-org-id", "x-gallery-visibility")
    for name in names:
        told = await Kit(OK).call(body=chat(user=odd, model="m"), headers={name: odd})
        assert "set-cookie" not in told.headers
        assert not [value for value in told.headers.values() if "evil" in value or "\r" in value or "\n" in value], name


async def test_an_upstreams_headers_stay_with_us() -> None:
    told = await Kit(OK).call(body=chat())
    allowed = {"content-type", "content-length", "openai-version", "openai-processing-ms"}
    assert {name for name in told.headers if not name.startswith("x-")} <= allowed
    assert "x-up" not in told.headers
    assert "server" not in told.headers


# ---------------------------------------------------------------- The upstream client on the wire


class Wire:
    """A server that remembers what came, byte for byte, and answers what it is told."""

    def __init__(self, answer_bytes: bytes) -> None:
        self.answer = answer_bytes
        self.received = b""
        self.connections = 0

    async def __aenter__(self) -> "Wire":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.received += await reader.read(65_536)
        writer.write(self.answer)
        await writer.drain()
        writer.close()


PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}"


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nx-evil: 1", "a\rx-evil: 1", "a\0b"])
async def test_the_client_sends_no_header_with_a_line_break(value: str) -> None:
    client = HttpClient()
    async with Wire(PLAIN) as wire:
        try:
            with pytest.raises(UpstreamError):
                await client.post(f"{wire.url}/v1/x", headers={"authorization": value}, body=b"{}", timeout_s=2)
        finally:
            await client.close()
    assert b"x-evil" not in wire.received


async def test_a_path_cannot_begin_another_request() -> None:
    client = HttpClient()
    async with Wire(PLAIN) as wire:
        url = f"{wire.url}/v1/a b\r\nGET /admin HTTP/1.1\r\nhost: x\r\n\r\n"
        try:
            told = await client.request("GET", url, headers={}, timeout_s=2)
            told.close()
        except UpstreamError:
            pass
        finally:
            await client.close()
    assert wire.received.count(b" HTTP/1.1\r\n") <= 1
    assert b"\nGET /admin" not in wire.received


async def test_a_redirect_of_an_upstream_takes_our_key_nowhere() -> None:
    async with Wire(PLAIN) as elsewhere:
        moved = f"HTTP/1.1 307 Moved\r\nlocation: {elsewhere.url}/x\r\ncontent-length: 0\r\n\r\n".encode()
        async with Wire(moved) as wire:
            client = HttpClient()
            told = await client.post(f"{wire.url}/v1/x", headers={"authorization": "Bearer k"}, body=b"", timeout_s=2)
            assert told.status == 307
            told.close()
            await client.close()
        assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 7\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: y\r\n : z\r\ncontent-length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
    ids=["two lengths", "signed length", "length and chunks", "no hex", "odd name", "no http", "huge header"],
)
async def test_an_upstream_that_smuggles_is_an_error_and_no_second_answer(head: bytes) -> None:
    client = HttpClient()
    async with Wire(head + PLAIN) as wire:
        try:
            told = await client.post(f"{wire.url}/v1/x", headers={}, body=b"{}", timeout_s=2)
            body = await told.read(limit=1_000, timeout_s=2)
            assert body in {b"hello", b""}
            told.close()
        except UpstreamError:
            pass
        finally:
            await client.close()


async def test_a_deep_body_is_an_error_and_no_crash() -> None:
    for body in (
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b"[" * 100_000,
        orjson.dumps(chat(tools=[{"x": "y" * 9}] * 900)),
    ):
        told = await Kit(OK).call(body=body)
        assert told.status in {200, 400}
