"""The gateway of one worker process, built from Django's settings and started with the server."""

import asyncio
import contextlib
import time
from uuid import UUID

import orjson
import redis.asyncio as redis_asyncio
import structlog
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import DatabaseError
from redis.exceptions import RedisError

from billing.teller import Teller
from proxy import catalog, gallery_store, keyring, live, realtime_sessions, tracing, transcript_store, upstream_objects
from proxy.client_secrets import Secrets
from proxy.gateway import tokens
from proxy.gateway.activity import ACTIVITY
from proxy.gateway.admission import Cashier
from proxy.gateway.app import Gateway
from proxy.gateway.attempts import Attempts, Deadlines
from proxy.gateway.concurrency import Concurrency
from proxy.gateway.errors import Unavailable, UserBlocked
from proxy.gateway.http_client import HttpClient
from proxy.gateway.limits import Limiter
from proxy.gateway.metrics import TellerObserver
from proxy.gateway.options import Options
from proxy.gateway.owned import Keeper
from proxy.gateway.passthrough import Passthrough
from proxy.gateway.pulse import PULSE
from proxy.gateway.realtime.door import Door, DoorOptions
from proxy.gateway.realtime.session import Limits
from proxy.gateway.realtime.upstream import AiohttpSockets
from proxy.gateway.relay import Relay
from proxy.gateway.routing import Router
from proxy.gateway.snapshots import Catalog
from proxy.gateway.transcripts import Transcripts
from proxy.in_thread import in_thread
from proxy.listener import BLOCKS, CATALOG, KEYS, MEMBERS, Listener
from status import traffic

log = structlog.get_logger(__name__)

CATALOG_RELOAD_S = 30.0
USE_RECORDED_EVERY_S = 10.0
PULSE_RECORDED_EVERY_S = 5.0
DRAIN_S = 120.0
TELL_EVERY_S = 1.0
SESSIONS_SEEN_EVERY_S = 15.0
SESSIONS_DRAIN_S = 10.0


class Runtime:
    """Everything a worker needs for `/v1`. `start()` once in the server's loop, `close()` when it stops."""

    def __init__(self) -> None:
        self.gateway: Gateway | None = None
        self.door: Door | None = None
        self._catalog: Catalog | None = None
        self._catalog_stale = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._session_states: dict[int, tuple[int, int]] = {}
        self._sessions_seen_at = 0.0

    async def start(self) -> None:
        tokens.warm_up()
        self.keyring = keyring.Keyring(pepper=settings.API_KEY_PEPPER)
        self.teller = Teller(
            settings.DATABASE_URL, holds_wait_for_disk=settings.HOLDS_WAIT_FOR_DISK, observer=TellerObserver()
        )
        await self.teller.start()
        self.client = HttpClient(may_be_private=self._may_be_private)
        redis = (
            redis_asyncio.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1)
            if settings.REDIS_URL
            else None
        )
        self.limiter = Limiter(redis)
        deadlines = Deadlines(
            first_byte_s=settings.GATEWAY_FIRST_BYTE_TIMEOUT_S,
            idle_s=settings.GATEWAY_IDLE_TIMEOUT_S,
            total_s=settings.GATEWAY_TOTAL_TIMEOUT_S,
            drain_s=settings.GATEWAY_DRAIN_TIMEOUT_S,
            queue_s=settings.GATEWAY_QUEUE_TIMEOUT_S,
            retries=settings.GATEWAY_RETRIES,
        )
        cashier = Cashier(self.teller, site_url=settings.SITE_URL)
        router = Router()
        traces = tracing.traces()
        attempts = Attempts(client=self.client, router=router, deadlines=deadlines, traces=traces)
        concurrency = Concurrency(redis)
        client_secrets = Secrets()
        self.sockets = AiohttpSockets(
            max_frame_bytes=settings.REALTIME_MAX_FRAME_BYTES, may_be_private=self._may_be_private
        )
        self._watchers = live.Watchers(redis)
        objects = upstream_objects.Objects()
        self.transcripts = Transcripts(transcript_store.TranscriptStore())
        relay = Relay(
            attempts=attempts,
            cashier=cashier,
            keyring=self.keyring,
            deadlines=deadlines,
            objects=objects,
            sells_credit=not settings.IS_SELF_HOSTED,
            images=gallery_store.GalleryStore(),
            traces=traces,
            transcripts=self.transcripts,
        )
        await self._reload_catalog()
        self.listener = Listener(settings.DATABASE_URL, on_change=self._on_change, on_state=self._on_state)
        self.listener.start()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._keep_catalog()),
            loop.create_task(self._record_use()),
            loop.create_task(self._record_pulse()),
            loop.create_task(self._tell_pages()),
            loop.create_task(self._obey()),
            loop.create_task(self.transcripts.run()),
        ]
        self.gateway = Gateway(
            keyring=self.keyring,
            catalog=self.current_catalog,
            limiter=self.limiter,
            concurrency=concurrency,
            cashier=cashier,
            relay=relay,
            passthrough=Passthrough(
                client=self.client,
                objects=objects,
                timeout_s=deadlines.first_byte_s,
                paths=settings.PASSTHROUGH_PATHS,
            ),
            client_secrets=client_secrets,
            keeper=Keeper(objects=objects, client=self.client, timeout_s=deadlines.first_byte_s),
            options=Options(
                site_url=settings.SITE_URL,
                max_body_bytes=settings.GATEWAY_MAX_BODY_BYTES,
                max_upload_bytes=settings.GATEWAY_MAX_UPLOAD_BYTES,
                realtime_model=settings.REALTIME_DEFAULT_MODEL,
                default_rpm=settings.DEFAULT_RPM,
                trusted_proxies=settings.ALLAUTH_TRUSTED_PROXY_COUNT,
                is_self_hosted=settings.IS_SELF_HOSTED,
                requires_own_key=settings.REQUIRE_OWN_OPENAI_KEY,
                deadlines=deadlines,
            ),
        )

        self.door = Door(
            keyring=self.keyring,
            client_secrets=client_secrets,
            catalog=self.current_catalog,
            limiter=self.limiter,
            concurrency=concurrency,
            cashier=cashier,
            settle=relay.settle,
            router=router,
            sockets=self.sockets,
            options=DoorOptions(
                site_url=settings.SITE_URL,
                default_model=settings.REALTIME_DEFAULT_MODEL,
                default_rpm=settings.DEFAULT_RPM,
                trusted_proxies=settings.ALLAUTH_TRUSTED_PROXY_COUNT,
                is_self_hosted=settings.IS_SELF_HOSTED,
                requires_own_key=settings.REQUIRE_OWN_OPENAI_KEY,
                limits=Limits(
                    idle_s=settings.REALTIME_IDLE_TIMEOUT_S,
                    session_s=settings.REALTIME_MAX_SESSION_S,
                    frame_bytes=settings.REALTIME_MAX_FRAME_BYTES,
                ),
            ),
            transcripts=self.transcripts,
        )

    async def begin_to_close(self) -> None:
        """What ends before the server stops: waiting for other requests, and Realtime sessions. May be called twice."""
        if self.gateway is not None:
            self.gateway.stop_waiting()
        if self.door is not None:
            await self.door.drain(SESSIONS_DRAIN_S)
            await self._record_sessions()

    async def close(self) -> None:
        """Finish what runs, settle it, and close every connection."""
        await self.begin_to_close()
        if self.gateway is not None:
            await self.gateway.drain(DRAIN_S)
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self.gateway is not None:
            await self.transcripts.close()
        await self.listener.close()
        await self.teller.close()
        await self.limiter.close()
        await self.sockets.close()
        await self.client.close()
        await tracing.close()

    def current_catalog(self) -> Catalog:
        """The snapshot that the gateway routes by. Raises `Unavailable` before there is one."""
        if self._catalog is None:
            raise Unavailable("The model catalogue is not loaded yet. Please retry.")
        return self._catalog

    def _may_be_private(self, host: str) -> bool:
        return self._catalog is not None and host in self._catalog.private_hosts

    async def _reload_catalog(self) -> None:
        try:
            self._catalog = await sync_to_async(catalog.load, thread_sensitive=False)()
        except DatabaseError as error:
            log.warning("catalog_not_loaded", error=type(error).__name__)

    async def _keep_catalog(self) -> None:
        """Reload when told, and every 30 s for what could not be told: a price whose day has come."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CATALOG_RELOAD_S if self._catalog else 1.0):
                    await self._catalog_stale.wait()
            self._catalog_stale.clear()
            await self._reload_catalog()

    async def _record_use(self) -> None:
        while True:
            await asyncio.sleep(USE_RECORDED_EVERY_S)
            used = self.keyring.take_used()
            if not used:
                continue
            started = time.perf_counter()
            try:
                await sync_to_async(keyring.record_use, thread_sensitive=False)(used)
            except DatabaseError as error:
                log.warning("key_use_not_recorded", error=type(error).__name__, keys=len(used))
            log.debug("key_use_recorded", keys=len(used), ms=round((time.perf_counter() - started) * 1000))

    async def _record_pulse(self) -> None:
        """Tell the status page how requests fare. While PostgreSQL is away, nothing is told: probes see that."""
        while True:
            await asyncio.sleep(PULSE_RECORDED_EVERY_S)
            counts = PULSE.take()
            if not counts:
                continue
            samples = [
                traffic.Sample(
                    provider,
                    model,
                    count.requests,
                    count.upstream_failures,
                    count.our_failures,
                    count.latency_ms_sum,
                )
                for (provider, model), count in counts.items()
            ]
            try:
                await sync_to_async(traffic.record, thread_sensitive=False)(samples)
            except DatabaseError as error:
                log.warning("pulse_not_recorded", error=type(error).__name__)

    async def _tell_pages(self) -> None:
        """Once a second: write what became of sessions, and let the open pages of whoever was charged look again."""
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            organization_ids = ACTIVITY.take() | await self._record_sessions()
            if organization_ids:
                await live.tell(await self._watchers.among(organization_ids))

    async def _record_sessions(self) -> set[int]:
        """Write the sessions that changed; the ids of their organizations."""
        if self.door is None:
            return set()
        over, self.door.over = self.door.over, []
        now = time.monotonic()
        is_due = now - self._sessions_seen_at > SESSIONS_SEEN_EVERY_S
        states = {id(one): (one.turns.responses, one.turns.cost_nanos) for one in self.door.sessions.values()}
        changed = [
            one for one in self.door.sessions.values() if is_due or self._session_states.get(id(one)) != states[id(one)]
        ]
        if not over and not changed:
            return set()
        try:
            await in_thread(lambda: realtime_sessions.record([*over, *changed]))
        except DatabaseError as error:
            self.door.over += over
            log.warning("sessions_not_recorded", error=type(error).__name__)
            return set()
        self._session_states = states
        if is_due:
            self._sessions_seen_at = now
        return {one.ticket.key.organization_id for one in [*over, *changed]}

    async def _obey(self) -> None:
        """Hear from the channel layer which sessions people end."""
        layer = get_channel_layer()
        while True:
            try:
                channel = await layer.new_channel()
                await layer.group_add(realtime_sessions.CONTROL_GROUP, channel)
                while True:
                    message = await layer.receive(channel)
                    if self.door is not None:
                        self.door.end(UUID(message["session"]), message["reason"])
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("channel_layer_lost", error=type(error).__name__)
                await asyncio.sleep(1.0)

    async def _on_change(self, channel: str, payload: str) -> None:
        if channel == BLOCKS:
            block = orjson.loads(payload)
            if self.door is not None:
                self.door.end_those_of(block["organization_id"], block["end_user"], UserBlocked(block["reason"]))
            return
        if channel == MEMBERS:
            self.keyring.let_go(*orjson.loads(payload))
            return
        if channel == CATALOG:
            self._catalog_stale.set()
            return
        if channel == KEYS:
            digest = self.keyring.forget(payload)
            changed = [digest] if digest else []
        else:
            changed = self.keyring.forget_organization(int(payload))
        with contextlib.suppress(Unavailable):
            await self.keyring.recheck(changed)

    async def _on_state(self, is_hearing: bool) -> None:
        if not is_hearing:
            self.keyring.go_deaf()
            return
        self._catalog_stale.set()
        with contextlib.suppress(Unavailable):
            await self.keyring.recheck(self.keyring.hear())
