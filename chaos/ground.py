"""What is struck: two web workers, a Celery worker and beat, behind TCP proxies to PostgreSQL, Redis and upstream."""

import contextlib
import re
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from config.tests import storm
from config.tests.processes import HOST, Installation, Service, wait_for
from config.tests.scripted import Upstream
from config.tests.scripted_realtime import PATH as REALTIME
from config.tests.scripts import SCRIPTS
from config.tests.tcp_proxy import TcpProxy

MODEL, SPOKEN_MODEL = "chaos", "chaosspoken"
# A worker that PostgreSQL has not heard of for so long is dead: in production 600 s.
DEAD_AFTER_S = 20
# The longest stream of the load takes 6 s.
GRACEFUL_S = 20
READY_TIMEOUT_S = 120.0
CREDITS = {"rich": 10**13, "hell": 10**13, "poor": 500_000, "capped": 10**13}
CAP_NANOS = 500_000
# What each round gives to those who are always near their end.
ALLOWANCE_NANOS = 300_000


def model_of(script: str) -> str:
    """The model behind which the upstream does `script`. One that cools down after failures troubles no other."""
    return "hell" + re.sub("[^a-z0-9]", "", script)


@dataclass
class Customer:
    """An organization, its key, and what it was given."""

    id: int
    account_id: int
    key_id: int
    secret: str
    credit: int
    cap: int = 0


@dataclass
class Ground:
    """Starts everything on `site`. `webs` are the workers that the balancer sends requests to."""

    site: Installation
    upstream: Upstream
    settings: dict[str, str] = field(default_factory=dict)
    has_celery: bool = True
    webs: list[Service] = field(default_factory=list)
    celery: list[Service] = field(default_factory=list)
    customers: dict[str, Customer] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._ends = contextlib.ExitStack()
        try:
            self.postgres_line = self._ends.enter_context(TcpProxy(self.site.postgres.port))
            self.redis_line = self._ends.enter_context(TcpProxy(self.site.redis.port))
            self.upstream_line = self._ends.enter_context(TcpProxy(self.upstream.port))
            self._ends.callback(self._stop)
            self._furnish()
            self.webs = [self.new_web(), self.new_web()]
            if self.has_celery:
                self.celery = [
                    self.site.worker(has_beat=False, **self._environment()),
                    self.site.beat(**self._environment()),
                ]
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for service in (*self.webs, *self.celery):
                print(f"--- the end of {service.log}\n{service.last_words(15)}")
        self._ends.close()

    @property
    def organization_ids(self) -> list[int]:
        return [customer.id for customer in self.customers.values()]

    def new_web(self, **environment: str) -> Service:
        """One more web worker, ready to serve."""
        given: dict[str, Any] = {**self._environment(), **environment}
        return self.site.web(graceful_s=GRACEFUL_S, **given)

    def calm(self) -> None:
        """Everything runs and every line is whole; raises when something does not come up again."""
        for line in (self.postgres_line, self.redis_line, self.upstream_line):
            line.is_stalled, line.delay_s, line.lost_replies = False, 0.0, 0.0
        for service in (*self.webs, *self.celery):
            if service.process is None or service.process.poll() is not None:
                service.launch()
        for service in self.webs:
            wait_for(service.is_ready, timeout_s=READY_TIMEOUT_S, what=f"{service.url} is ready")

    def give(self) -> None:
        """A little more for those who are near their end."""
        poor, capped = self.customers["poor"], self.customers["capped"]
        self.site.clerk.grant(organization_id=poor.id, amount_nanos=ALLOWANCE_NANOS)
        poor.credit += ALLOWANCE_NANOS
        capped.cap += ALLOWANCE_NANOS
        self.site.clerk.cap(key_id=capped.key_id, cost_nanos=capped.cap)

    def _furnish(self) -> None:
        base_url = f"http://{HOST}:{self.upstream_line.port}/v1"
        prices = {"input": storm.INPUT, "output": storm.OUTPUT}
        names = [MODEL, *map(model_of, SCRIPTS)]
        self.site.clerk.models(names=names, base_url=base_url, upstream_name="m", prices=prices)
        spoken = [SPOKEN_MODEL, model_of(REALTIME)]
        self.site.clerk.models(names=spoken, base_url=base_url, upstream_name="m", prices=prices, endpoints=[REALTIME])
        for name, credit in CREDITS.items():
            made = self.site.clerk.organization(name=f"chaos-{name}", credit_nanos=credit)
            self.customers[name] = Customer(
                made["id"], made["account_id"], made["key_id"], made["secret"], credit=credit
            )
        capped = self.customers["capped"]
        capped.cap = CAP_NANOS
        self.site.clerk.cap(key_id=capped.key_id, cost_nanos=capped.cap)

    def _environment(self) -> dict[str, str]:
        return {
            "DATABASE_URL": _by_way_of(self.site.database_url, self.postgres_line),
            "REDIS_URL": _by_way_of(self.site.redis_url, self.redis_line),
            "REAPER_WORKER_TIMEOUT_S": str(DEAD_AFTER_S),
            "GATEWAY_FIRST_BYTE_TIMEOUT_S": "5",
            "GATEWAY_IDLE_TIMEOUT_S": "5",
            "GATEWAY_TOTAL_TIMEOUT_S": "20",
            "GATEWAY_DRAIN_TIMEOUT_S": "10",
            "GATEWAY_RETRIES": "1",
            **self.settings,
        }

    def _stop(self) -> None:
        for service in (*self.webs, *self.celery):
            service.kill()


def _by_way_of(url: str, line: TcpProxy) -> str:
    """`url` with the proxy's port."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{line.port}"))


def record(customer: Customer) -> dict[str, Any]:
    """The customer as `books.prove` takes it."""
    return {"id": customer.id, "account_id": customer.account_id}
