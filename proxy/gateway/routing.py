"""Which deployment serves a request: by priority, then by weight and speed; those that keep failing cool down.

What is known of a deployment is known to this process alone: it costs no round trip, and a few failures teach each.
"""

import asyncio
import random
import time
from dataclasses import dataclass

from proxy.gateway.snapshots import Deployment, Route

FAILURES_BEFORE_COOLDOWN = 3
COOLDOWN_S = 5.0
MAX_COOLDOWN_S = 60.0
MAX_ATTEMPTS = 3
# How much the newest time to the first byte counts in the mean.
NEWEST_SHARE = 0.2
# The slowest of equals still gets this share of what its weight says, so that it can show that it got better.
SLOWEST_SHARE = 0.2


@dataclass(slots=True)
class Health:
    """How a deployment has fared in this process. Times are on the monotonic clock, in seconds.

    After its cooldown one request at a time tries it (`is_probed`), until one succeeds.
    """

    failures: int = 0
    retry_at: float = 0.0
    is_probed: bool = False
    running: int = 0
    first_byte_s: float | None = None

    @property
    def is_suspect(self) -> bool:
        return self.failures >= FAILURES_BEFORE_COOLDOWN


class Router:
    """Orders a route's deployments for one request and learns from how each attempt ended."""

    def __init__(self, *, random_source: random.Random | None = None) -> None:
        self._health: dict[int, Health] = {}
        self._random = random_source or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._waiting: set[asyncio.Future[None]] = set()

    def candidates(self, route: Route, *, provider: str = "") -> list[Deployment]:
        """At most `MAX_ATTEMPTS` deployments (of `provider`, if given), best first.

        One that cools down, or is being probed, comes last: a try beats a refusal.
        """
        deployments = route.deployments
        if provider:
            deployments = tuple(deployment for deployment in deployments if deployment.provider == provider)
        if len(deployments) == 1:
            return list(deployments)
        now = time.monotonic()
        known = [self._health.get(deployment.id) for deployment in deployments]
        fastest = min((one.first_byte_s for one in known if one and one.first_byte_s), default=0.0)
        return sorted(deployments, key=lambda deployment: self._order(deployment, now, fastest))[:MAX_ATTEMPTS]

    async def enter(self, deployments: list[Deployment], *, wait_s: float) -> Deployment | None:
        """The first of `deployments` that may take another request, which then counts as running there.

        Waits for at most `wait_s` while all of them are full; None if that did not help.
        """
        found = self._enter_now(deployments)
        if found is not None or not deployments or not wait_s:
            return found
        try:
            async with asyncio.timeout(wait_s):
                while (found := self._enter_now(deployments)) is None:
                    await self._freed()
        except TimeoutError:
            return None
        return found

    def leave(self, deployment: Deployment) -> None:
        """A request that entered has ended, however."""
        health = self._health_of(deployment)
        health.running -= 1
        health.is_probed = False
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def succeeded(self, deployment: Deployment, first_byte_s: float) -> None:
        """An attempt was answered after `first_byte_s`."""
        health = self._health_of(deployment)
        health.failures, health.retry_at = 0, 0.0
        if health.first_byte_s is None:
            health.first_byte_s = first_byte_s
        else:
            health.first_byte_s += NEWEST_SHARE * (first_byte_s - health.first_byte_s)

    def failed(self, deployment: Deployment) -> None:
        """Count a failure that is the deployment's own fault; after a few in a row it cools down, longer each time."""
        health = self._health_of(deployment)
        health.failures += 1
        excess = health.failures - FAILURES_BEFORE_COOLDOWN
        if excess >= 0:
            health.retry_at = time.monotonic() + min(MAX_COOLDOWN_S, COOLDOWN_S * 2 ** min(excess, 10))

    async def _freed(self) -> None:
        """Wait until some request has left."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def _enter_now(self, deployments: list[Deployment]) -> Deployment | None:
        for deployment in deployments:
            health = self._health_of(deployment)
            if deployment.max_concurrency and health.running >= deployment.max_concurrency:
                continue
            health.running += 1
            health.is_probed = health.is_suspect
            return deployment
        return None

    def _health_of(self, deployment: Deployment) -> Health:
        health = self._health.get(deployment.id)
        if health is None:
            health = self._health[deployment.id] = Health()
        return health

    def _order(self, deployment: Deployment, now: float, fastest: float) -> tuple[bool, int, float]:
        health = self._health.get(deployment.id)
        is_out = health is not None and (health.retry_at > now or (health.is_suspect and health.is_probed))
        share = 1.0
        if health is not None and health.first_byte_s:
            share = max(SLOWEST_SHARE, fastest / health.first_byte_s)
        # Efraimidis and Spirakis: sorting by u^(1/w) draws without replacement in proportion to the weights.
        draw = self._random.random() ** (1.0 / (max(deployment.weight, 1) * share))
        return is_out, deployment.priority, -draw
