"""The API's description: complete, true, and the same for machines and people."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import jsonschema_rs
import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.test import Client
from django.urls import Resolver404, resolve, reverse
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts import organizations
from accounts.models import Organization
from gallery.tests import kit as gallery_kit
from proxy import catalog
from proxy.gateway.endpoints import ENDPOINTS
from proxy.openapi.description import METHODS, described, hand_kept
from proxy.tests import api_kit

EXAMPLES = 4
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OPERATOR = "operators-token"
IMAGE = UUID("019a9b2c-71f4-7d0e-8f3a-5b6c7d8e9f01")


def _operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operations[method])
        for path, operations in described()["paths"].items()
        for method in sorted(METHODS & operations.keys())
    ]


def _is_managed(path: str) -> bool:
    """Whether Django answers it; all else under `/v1` is the gateway's."""
    try:
        return resolve(re.sub(r"{\w+}", str(uuid4()), path)).url_name != "unknown"
    except Resolver404:
        return False


OPERATIONS = _operations()


# ---------------------------------------------------------------- Complete


def test_every_metered_endpoint_is_described() -> None:
    told = {path for path, _, _ in OPERATIONS}
    assert set(ENDPOINTS) <= told
    assert {"/v1/models", "/v1/models/{model}", "/v1/realtime", "/v1/realtime/client_secrets"} <= told


def test_every_managed_endpoint_is_described_by_hand() -> None:
    kept = {(path, method) for path, operations in hand_kept() for method in METHODS & operations.keys()}
    missing = {(path, method) for path, method, _ in OPERATIONS} - kept
    assert not missing, f"describe these in proxy/openapi/paths: {sorted(missing)}"


def test_nothing_is_described_that_is_not_there() -> None:
    generated = {path for path, _, _ in OPERATIONS if _is_managed(path)}
    for path, operations in hand_kept():
        if path in generated:
            view = resolve(re.sub(r"{\w+}", str(uuid4()), path)).func
            allowed = {method.lower() for method in view.cls.http_method_names if hasattr(view.cls, method)}
            assert METHODS & operations.keys() <= allowed, path
        else:
            assert path.startswith(("/v1/models", "/v1/realtime", *ENDPOINTS)), path


@pytest.mark.parametrize(
    ("path", "method", "operation"), OPERATIONS, ids=lambda one: one if isinstance(one, str) else ""
)
def test_each_operation_says_what_it_is_for_and_how_it_fails(path: str, method: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["operationId"]
    assert len(operation["tags"]) == 1
    assert "default" in operation["responses"]
    assert any(status[0] in "12" for status in operation["responses"])
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None:
        schema = _resolved(body["schema"])
        assert "example" in body or "examples" in body or "example" in schema, f"{method} {path} has no example"
        for example in _examples(body):
            _validator(body["schema"]).validate(example)


def test_pages_that_try_a_call_fill_in_nothing_that_changes_it() -> None:
    """Swagger UI sends a header's example as it stands: a second try would be a repeat under another's key."""
    parameters = described()["components"]["parameters"].values()
    assert [one["name"] for one in parameters if one["in"] == "header" and "example" in one] == []


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(ids) == len(set(ids))


def _examples(body: dict[str, Any]) -> list[Any]:
    return [body["example"]] if "example" in body else [one["value"] for one in body.get("examples", {}).values()]


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        found: dict[str, Any] = described()["components"]["schemas"][name]
        return found
    return schema


def _validator(schema: dict[str, Any]) -> Any:
    return jsonschema_rs.Draft202012Validator({**schema, "components": described()["components"]})


# ---------------------------------------------------------------- For machines and people


def test_the_description_is_served_to_everybody_with_this_server_in_it() -> None:
    response = Client().get("/v1/openapi.json")
    assert response.status_code == 200
    made = response.json()
    assert made["openapi"].startswith("3.1")
    assert made["servers"] == [{"url": "http://testserver"}]
    assert made["paths"].keys() == described()["paths"].keys()
    assert response["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("name", ["proxy:docs", "proxy:redoc"])
def test_the_reference_pages_use_our_own_files_under_a_strict_policy(name: str) -> None:
    response = Client().get(reverse(name))
    page, policy = response.content.decode(), response["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    for source in re.findall(r'<(?:script|link)[^>]+(?:src|href)="([^"]+)"', page):
        assert source.startswith("/"), source
    assert not re.search(r"<script(?![^>]*src=)", page)


# ---------------------------------------------------------------- True

schema = schemathesis.openapi.from_dict(described())
schema.app = get_wsgi_application()
managed = schema.include(lambda context: _is_managed(context.operation.path))


@pytest.fixture
def same_connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Requests close the connection that the test's transaction lives in; not here."""
    monkeypatch.setattr(catalog, "close_old_connections", lambda: None)
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def world(db: None, same_connection: None, settings: Any) -> dict[str, str]:
    """What the examples name: a customer with credit, another organization, a model, an image; and the operator."""
    settings.ADMIN_TOKEN = OPERATOR
    settings.DEFAULT_RPM = 0
    client = api_kit.customer(credit=10**12)
    Organization.objects.filter(pk=client.organization.pk).update(slug="acme")
    organizations.create(name="Other team", slug="other-team")
    api_kit.model("gpt-4o-mini", endpoints=["/v1/chat/completions"])
    gallery_kit.kept(client.organization, is_stored=False, visibility="public", public_id=IMAGE)
    return {"Authorization": f"Bearer {client.secret}", "X-Admin-Token": OPERATOR}


@managed.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_no_answer_breaks_the_description(case: Any, world: dict[str, str]) -> None:
    case.call_and_validate(headers=world, checks=CHECKS)
