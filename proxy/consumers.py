"""The WebSocket of console pages: `changed` whenever there is something new to see."""

import asyncio
import contextlib
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast

import redis.asyncio as redis_asyncio
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest

from accounts.models import Membership, User
from proxy import live

NOT_A_MEMBER = 4404
# While something changes all the time, a page looks again this often.
QUIET_S = 1.0


class LiveConsumer(AsyncJsonWebsocketConsumer):
    """One open page of an organization. Members only: who stops being one, or signs out, hears nothing more and is let
    go within a minute."""

    organization_id: int | None = None

    async def connect(self) -> None:
        self.organization_id = await self._organization()
        if self.organization_id is None:
            await self.close(NOT_A_MEMBER)
            return
        self._redis = redis_asyncio.Redis.from_url(settings.REDIS_URL) if settings.REDIS_URL else None
        self._changed = asyncio.Event()
        await self.channel_layer.group_add(live.group_of(self.organization_id), self.channel_name)
        await self.accept()
        self._tasks = [asyncio.create_task(self._keep_watching()), asyncio.create_task(self._tell())]

    async def disconnect(self, code: int) -> None:
        if self.organization_id is None:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.channel_layer.group_discard(live.group_of(self.organization_id), self.channel_name)
        if self._redis is not None:
            await self._redis.aclose()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """Pages have nothing to say."""

    async def live_changed(self, event: dict[str, Any]) -> None:
        """From the channel layer."""
        self._changed.set()

    async def _tell(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not await self._is_still_welcome():
                return
            await self.send_json({"type": "changed"})
            await asyncio.sleep(QUIET_S)

    async def _keep_watching(self) -> None:
        watchers = live.Watchers(self._redis)
        while self.organization_id is not None:
            await watchers.watch(self.organization_id)
            await asyncio.sleep(live.WATCH_S)
            if not await self._is_still_welcome():
                return

    async def _is_still_welcome(self) -> bool:
        """Whether the page's session still signs a member in; else the connection ends."""
        if await self._organization() == self.organization_id:
            return True
        with contextlib.suppress(RuntimeError):
            await self.close(NOT_A_MEMBER)
        return False

    @database_sync_to_async
    def _organization(self) -> int | None:
        """The organization of the page, if the session as it stands now signs a member of it in."""
        session: SessionBase = import_module(settings.SESSION_ENGINE).SessionStore(self.scope["session"].session_key)
        user = get_user(cast(HttpRequest, SimpleNamespace(session=session)))
        slug = self.scope["url_route"]["kwargs"]["slug"]
        if not user.is_authenticated:
            return None
        found = Membership.objects.filter(user=cast(User, user), organization__slug=slug)
        organization_id: int | None = found.values_list("organization_id", flat=True).first()
        return organization_id
