"""Which deployment serves a request: by priority, then by weight; those that keep failing cool down."""

import random
import time
from dataclasses import dataclass

from proxy.gateway.snapshots import Deployment, Route

FAILURES_BEFORE_COOLDOWN = 3
COOLDOWN_S = 5.0
MAX_COOLDOWN_S = 60.0
MAX_ATTEMPTS = 3


@dataclass(slots=True)
class Health:
    """How a deployment has fared in this process. `retry_at` is on the monotonic clock."""

    failures: int = 0
    retry_at: float = 0.0


class Router:
    """Orders a route's deployments for one request and learns from how each attempt ended."""

    def __init__(self, *, random_source: random.Random | None = None) -> None:
        self._health: dict[int, Health] = {}
        self._random = random_source or random.Random()  # noqa: S311 - spreads load, guards nothing

    def candidates(self, route: Route, *, provider: str = "") -> list[Deployment]:
        """At most `MAX_ATTEMPTS` deployments (of `provider`, if given), best first.

        One that cools down comes last: a try beats a refusal.
        """
        deployments = route.deployments
        if provider:
            deployments = tuple(deployment for deployment in deployments if deployment.provider == provider)
        if len(deployments) == 1:
            return list(deployments)
        now = time.monotonic()
        return sorted(deployments, key=lambda deployment: self._order(deployment, now))[:MAX_ATTEMPTS]

    def succeeded(self, deployment: Deployment) -> None:
        self._health.pop(deployment.id, None)

    def failed(self, deployment: Deployment) -> None:
        """Count a failure that is the deployment's own fault; after a few in a row it cools down, longer each time."""
        health = self._health.setdefault(deployment.id, Health())
        health.failures += 1
        excess = health.failures - FAILURES_BEFORE_COOLDOWN
        if excess >= 0:
            health.retry_at = time.monotonic() + min(MAX_COOLDOWN_S, COOLDOWN_S * 2 ** min(excess, 10))

    def _order(self, deployment: Deployment, now: float) -> tuple[bool, int, float]:
        health = self._health.get(deployment.id)
        is_cooling = health is not None and health.retry_at > now
        # Efraimidis and Spirakis: sorting by u^(1/w) draws without replacement in proportion to the weights.
        draw = self._random.random() ** (1.0 / max(deployment.weight, 1))
        return is_cooling, deployment.priority, -draw
