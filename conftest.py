"""What every test may use. PostgreSQL, Redis and the settings come from `sandbox/pytest_plugin.py`."""

from typing import Any

import pytest


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, monkeypatch_session: pytest.MonkeyPatch) -> None:
    """Lets Django empty the test database between tests, though triggers refuse TRUNCATE where the past must stay."""
    from django.db import connection

    flush = connection.ops.sql_flush

    def sql_flush(*args: Any, **options: Any) -> list[str]:
        statements = flush(*args, **options)
        return ["SET LOCAL session_replication_role = replica", *statements] if statements else []

    monkeypatch_session.setattr(connection.ops, "sql_flush", sql_flush)


@pytest.fixture(scope="session")
def monkeypatch_session() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield patch
