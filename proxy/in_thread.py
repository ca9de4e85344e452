"""Queries of the gateway's loop, run in a thread that gives its connection back."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections


async def in_thread(query: Callable[[], Any]) -> Any:
    """The result of `query()`; raises what it raises."""

    def run() -> Any:
        close_old_connections()
        try:
            return query()
        finally:
            close_old_connections()

    return await sync_to_async(run, thread_sensitive=False)()
