"""Realtime in the whole product: sessions in the database, live pages, blocks by notification, a killed worker."""

import time
import uuid
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from config.tests.processes import Installation, Service, wait_for
from config.tests.test_realtime import Talk, cost_of
from sandbox.processes import free_port
from status import probing
from status.models import Check

MODEL = "spoken"
PRICES = {"input": 4_000, "cached_input": 400, "output": 24_000}
SOUND = {"audio_input": 32_000, "cached_audio_input": 500, "audio_output": 64_000}
KEY = "a-key-of-the-sandbox"


@pytest.fixture(scope="module")
def web(installation: Installation) -> Service:
    provider = installation.provider(KEY)
    installation.clerk.model(
        name=MODEL,
        base_url=f"{provider.url}/v1",
        upstream_name="gpt-realtime-2.1",
        api_key=KEY,
        prices=PRICES | SOUND,
        endpoints=["/v1/realtime"],
    )
    return installation.web()


def speak(web: Service, customer: dict[str, Any], **headers: str) -> Any:
    address = f"{web.url.replace('http', 'ws')}/v1/realtime?model={MODEL}"
    return connect(address, additional_headers={"authorization": f"Bearer {customer['secret']}", **headers})


def balance(installation: Installation, customer: dict[str, Any]) -> dict[str, Any]:
    return installation.query(
        "SELECT posted - unsettled AS available, held FROM billing_account WHERE id = %s", customer["account_id"]
    )[0]


def test_a_session_is_charged_shown_and_over(installation: Installation, web: Service) -> None:
    customer = installation.clerk.organization(name="speakers", credit_nanos=10**12)
    with speak(web, customer, **{"x-user-id": "ada"}) as socket:
        talk = Talk(socket)
        talk.say("session.update", session={"type": "realtime", "output_modalities": ["text"]})
        talk.write("[[say=hello there]]")
        talk.say("response.create")
        cost = cost_of(talk.until("response.done")["response"]["usage"])
        sessions = (
            "SELECT responses, cost_nanos, end_user, ended_at FROM proxy_realtimesession WHERE organization_id = %s"
        )
        rows = wait_for(
            lambda: [row for row in installation.query(sessions, customer["id"]) if row["responses"]],
            timeout_s=5,
            what="the session's row",
        )
        assert (rows[0]["responses"], rows[0]["cost_nanos"], rows[0]["end_user"]) == (1, cost, "ada")
        assert rows[0]["ended_at"] is None
    wait_for(
        lambda: installation.query(sessions, customer["id"])[0]["ended_at"],
        timeout_s=5,
        what="the session's end",
    )
    assert balance(installation, customer) == {"available": 10**12 - cost, "held": 0}


def test_a_block_reaches_an_open_session_within_a_second(installation: Installation, web: Service) -> None:
    customer = installation.clerk.organization(name="blocked-speaker", credit_nanos=10**12)
    with speak(web, customer, **{"x-user-id": "bob"}) as socket:
        talk = Talk(socket)
        talk.until("session.created")
        started = time.monotonic()
        installation.query(
            "INSERT INTO billing_enduserblock (organization_id, end_user, reason, created_at) "
            "VALUES (%s, 'bob', 'spam', now()) RETURNING id",
            customer["id"],
        )
        events, code = talk.closing()
        assert time.monotonic() - started < 1
    assert (events[-1]["error"]["code"], code) == ("user_blocked", 1008)


def test_a_killed_worker_leaves_clean_books(installation: Installation, web: Service) -> None:
    customer = installation.clerk.organization(name="cut-speaker", credit_nanos=10**12)
    second = installation.web(port=free_port())
    with speak(second, customer) as socket:
        talk = Talk(socket)
        talk.write("[[slow=100ms; words=500]]")
        talk.say("response.create")
        for _ in range(70):  # past a checkpoint
            talk.until("response.output_audio.delta")
        held = balance(installation, customer)["held"]
        assert held > 0
        second.kill()
    wait_for(lambda: installation.clerk.reap(dead_after_s=2), timeout_s=15, what="the dead worker's hold")
    after = balance(installation, customer)
    spent = 10**12 - after["available"]
    assert after["held"] == 0
    assert 50 * 64_000 < spent <= held
    assert installation.clerk.reconcile_command()


def test_the_official_shape_of_an_ephemeral_key(installation: Installation, web: Service) -> None:
    customer = installation.clerk.organization(name="minter", credit_nanos=10**12)
    answer = httpx.post(
        f"{web.url}/v1/realtime/client_secrets",
        headers={"authorization": f"Bearer {customer['secret']}"},
        json={"session": {"type": "realtime", "model": MODEL}},
        timeout=10,
    )
    assert answer.status_code == 200, answer.text
    secret = answer.json()["value"]
    stored = installation.query("SELECT digest, model FROM proxy_clientsecret WHERE model = %s", MODEL)
    assert stored
    assert all(secret not in row["digest"] for row in stored)
    address = f"{web.url.replace('http', 'ws')}/v1/realtime"
    with connect(address, subprotocols=["realtime", f"openai-insecure-api-key.{secret}"]) as socket:  # type: ignore[list-item]
        Talk(socket).until("session.created")
    refused = httpx.get(f"{web.url}/v1/models", headers={"authorization": f"Bearer {secret}"}, timeout=10)
    assert refused.status_code == 401


def test_strangers_hear_nothing_of_an_organization(installation: Installation, web: Service) -> None:
    customer = installation.clerk.organization(name=f"quiet-{uuid.uuid4().hex[:6]}", credit_nanos=10**9)
    address = f"{web.url.replace('http', 'ws')}/ws/o/{customer['slug']}/live"
    with pytest.raises(Exception, match="403"), connect(address, origin=web.url):  # type: ignore[arg-type]
        pass


def test_the_status_page_s_probe_sees_a_living_relay_and_a_dead_one(web: Service, settings: Any) -> None:
    check = Check(kind=Check.Kind.WEBSOCKET, target="/v1/realtime", timeout_s=5)
    settings.SITE_URL = web.url
    error, latency_ms = probing.probe(check)
    assert (error, latency_ms is not None) == ("", True)
    check.target = "/v1/nothing"
    assert probing.probe(check)[0].startswith("HTTP ")
    settings.SITE_URL = f"http://127.0.0.1:{free_port()}"
    assert probing.probe(check)[0] == "ConnectError"
