"""Parsers that face the network, given anything: an answer or a named error, never another exception."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client, override_settings
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accounts import device_login, events, key_format, spreadsheets, tokens
from billing import stripe_events
from billing.usage_counts import InvalidUsage, usage_from_openai
from config.tests.stripe_kit import SECRET
from gallery.tests import kit as gallery_kit
from proxy import conversations
from proxy.api import numbers, usage
from proxy.gateway import forms, idempotency, keys, sse
from proxy.gateway.errors import GatewayError
from proxy.gateway.wire import Request
from proxy.tests.api_kit import customer
from sandbox.stripe.webhooks import signature

quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
with_database = settings(quick, max_examples=25)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\0", "\ud800", "1e400", "NaN", "0x10", " 5 "]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
COUNTS = st.sampled_from(
    [
        "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "seconds", "type",
        "prompt_tokens_details", "input_tokens_details", "completion_tokens_details", "output_tokens_details",
        "cached_tokens", "audio_tokens", "image_tokens", "reasoning_tokens", "text_tokens", "cached_tokens_details",
    ]
)  # fmt: skip
USAGE = st.recursive(
    JSON, lambda inner: st.dictionaries(COUNTS, inner | st.integers(-5, 10**20), max_size=7), max_leaves=14
)


# ---------------------------------------------------------------- What upstreams send


@quick
@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"data: x\n\n", b"\r\n\r\n", b"\r", b"data:"]), max_size=20))
def test_a_stream_keeps_every_byte_however_it_is_cut(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    splitter, blocks = sse.Splitter(), []
    for piece in pieces:
        blocks.append(splitter.feed(piece))
    blocks.append(splitter.flush())
    assert b"".join(blocks) == whole
    for block in blocks:
        assert b"".join(frame.raw for frame in sse.frames(block)) == block


@quick
@given(st.binary(max_size=300), st.integers(1, 64))
def test_an_endless_event_is_refused_at_its_limit(data: bytes, limit: int) -> None:
    splitter = sse.Splitter(limit)
    try:
        for _ in range(20):
            splitter.feed(b"x" + data.replace(b"\n", b"").replace(b"\r", b""))
    except sse.FrameTooLarge:
        return
    assert len(splitter.flush()) <= limit


@quick
@given(USAGE, st.sampled_from(["text", "audio", "image"]), st.booleans())
def test_any_usage_is_counts_of_nothing_less_than_zero_or_refused(raw: Any, kind: Any, needs_output: bool) -> None:
    try:
        found = usage_from_openai(raw, output_kind=kind, needs_output=needs_output)
    except InvalidUsage:
        return
    if found is not None:
        counts = [value for value in found.columns().values() if isinstance(value, int)]
        assert all(0 <= count < 2**63 for count in counts)
        assert found.total_tokens >= 0


# ---------------------------------------------------------------- What callers send


def _form(content_type: str, body: bytes, cut: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), cut):
            yield body[start : start + cut]

    async def read() -> None:
        try:
            form = await forms.parse(content_type, pieces(), limit=10_000)
        except GatewayError:
            return
        with suppress(GatewayError):
            form.texts()
        form.close()

    asyncio.run(read())


PARTS = st.lists(
    st.sampled_from(
        [
            b"--x\r\n", b"--x--\r\n", b"--x--", b"--", b"\r\n", b"\r\n\r\n", b"\n",
            b'Content-Disposition: form-data; name="a"\r\n',
            b'Content-Disposition: form-data; name="f"; filename="../../x"\r\n', b"Content-Disposition: form-data\r\n",
            b"Content-Disposition: form-data; name*=utf-8''%00\r\n", b"Content-Type: \xff\r\n", b"value", b"\0",
            b"x" * 300,
        ]
    )
    | st.binary(max_size=12),
    max_size=16,
)  # fmt: skip


@quick
@given(
    st.sampled_from(['multipart/form-data; boundary=x', 'multipart/form-data; boundary="x"', "multipart/form-data", ""])
    | st.text(st.characters(max_codepoint=255), max_size=40).map(lambda text: f"multipart/form-data; boundary={text}"),
    PARTS,
    st.integers(1, 50),
)  # fmt: skip
def test_any_form_is_read_or_refused(content_type: str, parts: list[bytes], cut: int) -> None:
    _form(content_type, b"".join(parts), cut)


CLAIMS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("iss", "aud", "sub", "sid", "jti", "iat", "exp", "nbf"), JSON)
)
HEADERS = st.fixed_dictionaries({}, optional=dict.fromkeys(("alg", "typ", "kid", "b64", "crit", "jwk", "zip"), JSON))


def _b64(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@quick
@given(HEADERS, CLAIMS, st.text(max_size=20))
@example({"alg": "none"}, {}, "")
@example({"alg": "HS256", "jwk": {"kty": "oct", "k": ""}}, {}, "AA")
def test_no_made_up_token_is_one_of_ours(header: Any, claims: Any, tail: str) -> None:
    for token in (f"{_b64(header)}.{_b64(claims)}.{tail}", tail, f"eyJ{tail}..", "." * 3, f"{_b64(header)}.{tail}."):
        for kind in (tokens.ACCESS, tokens.REFRESH):
            with pytest.raises(tokens.InvalidToken):
                tokens.read(token, kind)


@quick
@given(st.integers(0, 400), st.sampled_from(list("ABCabc019-_.=é\0 ")))
def test_a_token_with_another_letter_is_refused_or_the_same(place: int, letter: str) -> None:
    now = datetime.now(UTC)
    user, session = uuid4(), uuid4()
    token = tokens.make(tokens.ACCESS, user_id=user, session_id=session, now=now, expires_at=now + timedelta(hours=1))
    place %= len(token)
    try:
        found = tokens.read(token[:place] + letter + token[place + 1 :], tokens.ACCESS)
    except tokens.InvalidToken:
        return
    assert (found.user_id, found.session_id) == (user, session)  # the last letter of base64 has spare bits


def test_deep_nonsense_in_a_token_is_refused() -> None:
    for nested in (b"[" * 1_400, b'{"a":' * 280):
        deep = base64.urlsafe_b64encode(nested).decode().rstrip("=")
        for token in (f"{deep}.e30.x", f"{_b64({'alg': 'HS256'})}.{deep}.x"):
            with pytest.raises(tokens.InvalidToken):
                tokens.read(token, tokens.ACCESS)


@quick
@given(st.text(max_size=120))
def test_no_text_is_a_key_by_accident(text: str) -> None:
    assert not key_format.is_well_formed(text)
    assert len(keys.mask(text)) <= 12
    assert keys.mask(text).isprintable()


@quick
@given(st.dictionaries(st.sampled_from(["authorization", "api-key", "x-api-key", "x-forwarded-for", "idempotency-key"]),
                       st.text(st.characters(max_codepoint=255), max_size=60)), st.integers(0, 3))  # fmt: skip
def test_any_header_is_read_or_refused(headers: dict[str, str], proxies: int) -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"method": "GET", "path": "/v1/models", "headers": sent, "client": ("192.0.2.1", 1)}
    request = Request(scope, receive)
    assert isinstance(keys.credential(request), str)
    request.client_address(proxies)
    with suppress(GatewayError):
        idempotency.read_key(request.headers.get("idempotency-key"))


# ---------------------------------------------------------------- Cursors and codes


@quick
@given(st.text(max_size=60) | st.from_regex(r"\A[0-9]{1,40}-[0-9]{1,40}\Z") | st.datetimes().map(lambda at: f"{at}~1"))
@example("0001-01-01T00:00:00+14:00~1")
@example("9999-12-31T23:59:59-14:00~" + "9" * 30)
def test_any_cursor_is_a_place_or_refused(text: str) -> None:
    try:
        cursor = events.Cursor.read(text)
        assert 0 <= cursor.transaction < 2**63
        assert events.Cursor.read(str(cursor)) == cursor
    except events.InvalidCursor:
        pass
    conversations._cursor(text)
    asked: Any = SimpleNamespace(query_params={"limit": text})
    numbers_of = (numbers.above_zero, numbers.whole, partial(numbers.up_to, most=9))
    readers = [partial(read, asked, "limit") for read in numbers_of]
    readers += [partial(usage._cursor, text), partial(usage.day_of, text, name="x")]
    for read in readers:
        with suppress(GatewayError):
            read()


@pytest.mark.django_db
@with_database
@given(st.text(max_size=60))
def test_any_device_code_is_unknown(text: str) -> None:
    for ask in (device_login.find, device_login.asking):
        with pytest.raises(device_login.NoSuchCode):
            ask(text)
    with pytest.raises(device_login.NotYet) as refused:
        device_login.poll(device_code=text, client_id=text)
    assert refused.value.code == "invalid_grant"
    assert set(device_login.normalized(text)) <= set(device_login.ALPHABET)


@pytest.mark.django_db
def test_extreme_cursors_break_no_query() -> None:
    client = customer()
    moments = ("0001-01-01T00:00:00+14:00~1", "9999-12-31T23:59:59-14:00~" + "9" * 30, "2026-01-01T00:00:00+00:00~-5")
    rows = conversations.of(client.organization, None)  # type: ignore[arg-type]
    assert rows.count() == 0
    for text in moments:
        conversations.page(client.organization, None, after=text)  # type: ignore[arg-type]
    for path in (
        f"/v1/events?after={'9' * 18}-{'9' * 18}", f"/v1/credits/transactions?after={'9' * 18}",
        f"/v1/images?mine=1&after={'9' * 18}&limit={'9' * 18}", "/v1/usage/logs?after=" + "f" * 32,
        "/v1/usage/logs?start=9999-12-31", "/v1/usage/daily?start=0001-01-01", "/v1/usage/logs?min_credits=1e999",
        "/v1/usage/logs?min_credits=" + "9" * 400,
    ):  # fmt: skip
        assert client.get(path).status_code in {200, 400}, path


@pytest.mark.django_db
@pytest.mark.parametrize("value", [f"bytes={'9' * 5_000}-", f"bytes=-{'9' * 5_000}", "bytes=5-1", "bytes=-", "x=1-2"])
def test_any_range_of_an_image_is_answered(value: str) -> None:
    image = gallery_kit.kept(customer().organization, is_stored=False, visibility="public")
    answer = Client().get(f"/images/{image.public_id}.png", headers={"range": value})
    assert answer.status_code in {200, 206, 416}


# ---------------------------------------------------------------- Webhooks, files


@quick
@given(
    st.binary(max_size=60),
    st.text(st.characters(max_codepoint=255), max_size=60) | st.integers().map(lambda at: f"t={at},v1=00"),
)
@example(b"{}", "t=1,v1=")
@example(b"{}", "t=9" + "9" * 5_000 + ",v1=00")
@example(b"\xff", "t=1,v1=00")
def test_no_made_up_signature_is_stripes(payload: bytes, header: str) -> None:
    with override_settings(STRIPE_WEBHOOK_SECRETS=[SECRET]):
        for given_header in (header, f"t={int(time.time())},v1={header}", signature(payload, "another-secret", None)):
            with pytest.raises(stripe_events.BadSignature):
                stripe_events.verify(payload, given_header)
    with override_settings(STRIPE_WEBHOOK_SECRETS=[]), pytest.raises(stripe_events.BadSignature):
        stripe_events.verify(payload, signature(payload, "", None))


@quick
@given(JSON)
def test_a_signed_event_of_any_shape_is_an_event_or_refused(event: Any) -> None:
    payload = json.dumps(event).encode()
    with override_settings(STRIPE_WEBHOOK_SECRETS=[SECRET], STRIPE_SECRET_KEY="sk_test_x"):
        try:
            found = stripe_events.verify(payload, signature(payload, SECRET, None))
        except (stripe_events.BadSignature, stripe_events.WrongMode):
            return
    assert isinstance(found["id"], str)


@quick
@given(st.text(max_size=30))
def test_no_text_of_a_file_begins_a_formula(text: str) -> None:
    plain = spreadsheets.plain(text)
    assert plain[:1] not in set("=+-@\t\r\n＝＋－＠")
    assert plain.removeprefix("'") == text.removeprefix("'") or plain == text
