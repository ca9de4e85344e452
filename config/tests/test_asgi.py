"""Which application answers which path, and what the start of a worker leaves behind."""

import gc
from typing import Any

import pytest

from config import asgi
from proxy.api.urls import urlpatterns


def test_every_address_of_the_management_api_is_sent_to_django() -> None:
    served = {str(pattern.pattern).partition("/")[0] for pattern in urlpatterns} - {"^.*$"}
    assert served == {*asgi.MANAGED, "images"}


@pytest.mark.parametrize(
    ("path", "is_managed"),
    [
        ("/v1/key", True),
        ("/v1/images", True),
        ("/v1/images/0198c0de-0000-7000-8000-000000000000", True),
        ("/v1/images/generations", False),
        ("/v1/images/edits", False),
        ("/v1/keys", False),
        ("/v1/models/key", False),
        ("/v1/chat/completions", False),
        ("/v1/", False),
        ("/v1", True),
        ("//v1", False),
        ("//v1/chat/completions", False),
        ("///v1//key", False),
        ("/v1//key", False),
        ("//v10/chat/completions", True),
        ("//evil.example/v1/chat/completions", True),
        ("/", True),
    ],
)
async def test_all_else_under_v1_is_the_gateways(path: str, is_managed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    def application(name: str) -> Any:
        async def answer(*_: Any) -> None:
            called.append(name)

        return answer

    monkeypatch.setattr(asgi, "django_application", application("django"))
    monkeypatch.setattr(asgi.runtime, "gateway", application("gateway"))
    await asgi.application({"type": "http", "path": path}, None, None)  # type: ignore[arg-type]
    assert called == ["django" if is_managed else "gateway"]


def test_the_collector_passes_over_what_a_worker_has_loaded() -> None:
    before = gc.get_freeze_count()
    try:
        asgi.spare_what_is_loaded()
        assert gc.get_freeze_count() - before > 10_000
    finally:
        gc.unfreeze()
