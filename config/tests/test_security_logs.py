"""No prompt, answer or credential is in any log of the running product, not even with LOG_LEVEL=debug."""

import json
import logging
import logging.config
import secrets
from typing import Any

import httpx
import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from config import logs
from config.tests.processes import Installation
from config.tests.scripted import Upstream

PROMPT = "a-very-private-sentence-of-a-customer"


@pytest.mark.processes
@pytest.mark.xdist_group("clients")
def test_a_private_prompt_and_its_credentials_are_in_no_log(site: Installation, upstream: Upstream) -> None:
    name = f"logged-{secrets.token_hex(4)}"
    provider_key = f"provider-key-{secrets.token_hex(12)}"
    site.clerk.model(
        name=name, base_url=upstream.base_url, upstream_name="m", prices={"input": 1, "output": 1}, api_key=provider_key
    )
    record: dict[str, Any] = site.clerk.organization(name="logged", credit_nanos=10**10)
    web = site.web(LOG_LEVEL="debug")
    base = f"http://127.0.0.1:{web.port}"
    good, wrong = record["secret"], f"{record['secret'][:-1]}!"
    body = {"model": name, "messages": [{"role": "user", "content": PROMPT}], "user": f"{PROMPT}-user"}
    try:
        with httpx.Client(base_url=base, timeout=20) as client:
            asked = [
                client.post("/v1/chat/completions", json=body | {"stream": is_stream}, headers=_bearer(secret))
                for secret in (good, wrong)
                for is_stream in (False, True)
            ]
            for path in ("/v1/chat/completions", "/v1/auth/login", "/v1/sdk/record", "/v1/quote", "/v1/nothing"):
                client.post(path, content=json.dumps(body)[:-1], headers=_bearer(good))
            login = {"email": "a@example.com", "password": PROMPT}
            client.post("/v1/auth/login", json=login, headers={"x-admin-token": PROMPT})
            client.post("/accounts/login/", data={"login": "a@example.com", "password": PROMPT})
            client.get(f"/v1/admin/usage/{good}", headers={"x-admin-token": PROMPT})
        for secret in (good, wrong):
            _speak(web.port, name, secret)
        assert [one.status_code for one in asked] == [200, 200, 401, 401]
        told = "".join(service.log.read_text(errors="replace") for service in site.services if service.log.exists())
    finally:
        web.kill()
    told += (site.home / "clerk.log").read_text(errors="replace")
    for secret in (PROMPT, good, wrong, good[20:-6], provider_key):
        assert secret not in told


def _bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}", "content-type": "application/json"}


def _speak(port: int, model: str, secret: str) -> None:
    """A Realtime session, as far as it is let in."""
    protocols: Any = ["realtime", f"openai-insecure-api-key.{secret}"]
    try:
        with connect(f"ws://127.0.0.1:{port}/v1/realtime?model={model}", subprotocols=protocols) as socket:
            socket.send(json.dumps({"type": "session.update", "session": {"instructions": PROMPT}}))
            socket.recv(timeout=2)
    except (WebSocketException, TimeoutError, OSError):
        pass


def test_at_debug_only_our_own_loggers_say_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries log headers, frames and statements at that level."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(logging.config, "dictConfig", told.update)
    monkeypatch.setattr(logs.structlog, "configure", lambda **_: None)
    logs.configure({"level": "DEBUG", "format": "json"})
    assert told["root"]["level"] == "INFO"
    assert {told["loggers"][name]["level"] for name in logs.OUR_LOGGERS} == {"DEBUG"}
    for library in ("websockets", "httpcore", "botocore", "django.db.backends", "aiohttp"):
        assert library not in told["loggers"]
    logs.configure({"level": "ERROR", "format": "json"})
    assert told["root"]["level"] == "ERROR"


@pytest.mark.parametrize("secret", ["play_" + "a" * 43, "ek_" + "B" * 32])
def test_passes_of_browsers_are_masked(secret: str) -> None:
    assert logs.scrub(None, "info", {"event": f"the pass {secret} ended"})["event"] == "the pass [secret] ended"
