import pytest
from django.test import AsyncClient

pytestmark = pytest.mark.django_db(transaction=True)


async def test_health_asks_nothing():
    answer = await AsyncClient().get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer["Cache-Control"] == "no-store"


async def test_ready_names_each_dependency():
    answer = await AsyncClient().get("/ready")
    assert answer.json() == {"status": "ok", "checks": {"database": "ok", "redis": "ok"}}


async def test_without_redis_the_service_is_degraded_and_ready(settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    answer = await AsyncClient().get("/ready")
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["checks"]["redis"].startswith("failed: ")


async def test_without_postgresql_it_is_not_ready(monkeypatch):
    monkeypatch.setattr("config.health._migrations", _refuse)
    answer = await AsyncClient().get("/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"]["database"] == "failed: ConnectionError"
    assert "secret" not in answer.content.decode()


def _refuse():
    raise ConnectionError("postgres://user:secret@host")


def test_metrics_are_prometheus_text(client):
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert b"tuppence_requests_total" in answer.content


@pytest.mark.parametrize(("token", "status"), [("", 401), ("Bearer wrong", 401), ("Bearer letmein", 200)])
def test_metrics_may_want_a_token(client, settings, token, status):
    settings.METRICS_TOKEN = "letmein"
    assert client.get("/metrics", headers={"authorization": token}).status_code == status


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
def test_probes_may_come_to_an_address(client, settings, path):
    settings.ALLOWED_HOSTS = ["api.example.com"]
    assert client.get(path, headers={"host": "10.1.2.3:8000"}).status_code == 200


def test_pages_may_not(client, settings):
    client.raise_request_exception = False
    settings.ALLOWED_HOSTS = ["api.example.com"]
    assert client.get("/", headers={"host": "10.1.2.3:8000"}).status_code == 400
