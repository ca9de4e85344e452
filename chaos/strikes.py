"""The strikes. Each is a context: entered, something is broken; left, it is mended. It yields what it did, in words."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import psycopg
import redis

from chaos.ground import DEAD_AFTER_S, Ground
from chaos.load import Load
from config.tests.processes import Service, processes_below
from config.tests.tcp_proxy import TcpProxy
from sandbox.processes import end

Begin = Callable[[Ground, Load, random.Random], AbstractContextManager[str]]


@dataclass(frozen=True)
class Strike:
    """`part` is what it strikes: no part is struck twice at once. `lasts_s`: the shortest and the longest."""

    part: str
    begin: Begin
    lasts_s: tuple[float, float] = (0.5, 5.0)
    is_alone: bool = False

    @property
    def name(self) -> str:
        return self.begin.__name__.replace("_", " ")


# ---------------------------------------------------------------- our processes


def _killed(services: list[Service]) -> Iterator[str]:
    pids = [service.pid for service in services]
    for service in services:
        service.kill()
    yield f"kill -9 of {services[0].name} {pids}"
    for service in services:
        service.launch()


def _stopped(pids: list[int], what: str) -> Iterator[str]:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield f"SIGSTOP of {what} {pids[:3]}{'…' if len(pids) > 3 else ''}"
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def kill_a_web_worker(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    yield from _killed([chance.choice(ground.webs)])


@contextmanager
def kill_every_web_worker(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    yield from _killed(ground.webs)


@contextmanager
def stop_a_web_worker(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    yield from _stopped([chance.choice(ground.webs).pid], "a web worker")


@contextmanager
def stop_a_web_worker_until_it_counts_as_dead(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    """The balancer sees that it does not answer and asks it no more, until it is back."""
    web = chance.choice(ground.webs)
    load.webs = [service for service in ground.webs if service is not web]
    yield from _stopped([web.pid], "a web worker, until the reaper takes it for dead:")
    load.webs = list(ground.webs)


@contextmanager
def replace_a_web_worker(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    """As a deployment does: a new one serves, the old one is asked no more, then told to stop. No answer is cut."""
    old, new = chance.choice(ground.webs), ground.new_web()
    ground.webs = load.webs = [service for service in (*ground.webs, new) if service is not old]
    time.sleep(0.5)  # what was being sent to it has arrived
    told_at = time.monotonic()
    assert old.process is not None
    old.process.send_signal(signal.SIGTERM)
    yield f"deploy: SIGTERM to {old.pid}, {new.pid} serves"
    old.process.wait(60)
    old.process = None
    cut = [asked for asked in load.asked if asked.port == old.port and asked.finished_at > told_at and asked.is_cut]
    if cut:
        load.broken.append(f"deploy: {len(cut)} answers were cut, such as {cut[0]}")


@contextmanager
def kill_celery(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    yield from _killed([chance.choice(ground.celery)])


@contextmanager
def stop_celery(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    service = chance.choice(ground.celery)
    yield from _stopped(processes_below(service.pid), service.name)


# ---------------------------------------------------------------- PostgreSQL


def _postmaster(ground: Ground) -> int:
    assert ground.site.postgres.process is not None
    return ground.site.postgres.process.pid


def _away(ground: Ground, how: signal.Signals, what: str) -> Iterator[str]:
    process = ground.site.postgres.process
    assert process is not None
    end(process, [(how, 30.0)])
    yield what
    ground.site.postgres.start()


@contextmanager
def kill_postgresql(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    yield from _away(ground, signal.SIGKILL, "kill -9 of PostgreSQL's postmaster")


@contextmanager
def restart_postgresql(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    how, word = chance.choice([(signal.SIGINT, "fast"), (signal.SIGQUIT, "immediate")])
    yield from _away(ground, how, f"{word} shutdown of PostgreSQL")


@contextmanager
def kill_a_backend(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    """PostgreSQL restarts all of itself after that."""
    backends = _backends(ground)
    victim = chance.choice(backends) if backends else 0
    if victim:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    yield f"kill -9 of PostgreSQL's backend {victim}"


@contextmanager
def stop_the_tellers_backends(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    """Whatever locks they hold, they hold on to."""
    yield from _stopped(_backends(ground, "tuppence %"), "the tellers' backends")


@contextmanager
def terminate_backends(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    with contextlib.suppress(psycopg.OperationalError):
        ground.site.query(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where backend_type = 'client backend' and pid <> pg_backend_pid()"
        )
    yield "pg_terminate_backend of every connection"


@contextmanager
def stop_postgresql(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    yield from _stopped(processes_below(_postmaster(ground)), "all of PostgreSQL")


def _backends(ground: Ground, name: str = "%") -> list[int]:
    rows = ground.site.query(
        "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid() "
        "and datname = 'tuppence' and application_name like %s order by pid",
        name,
    )
    return [row["pid"] for row in rows]


# ---------------------------------------------------------------- Redis


def _redis_pid(ground: Ground) -> int:
    assert ground.site.redis.process is not None
    return ground.site.redis.process.pid


@contextmanager
def flush_redis(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    with redis.Redis.from_url(ground.site.redis_url) as client:
        for _ in range(3):
            client.flushall()
            time.sleep(0.3)
    yield "Redis FLUSHALL, three times"


@contextmanager
def kill_redis(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    process = ground.site.redis.process
    assert process is not None
    end(process, [(signal.SIGKILL, 10.0)])
    yield "kill -9 of Redis"
    ground.site.redis.start()


@contextmanager
def stop_redis(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    yield from _stopped([_redis_pid(ground)], "Redis")


@contextmanager
def age_redis(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    """It comes back as it was some seconds ago."""
    with redis.Redis.from_url(ground.site.redis_url) as client, contextlib.suppress(redis.ResponseError):
        client.save()
    yield "Redis comes back with old data"
    ground.site.redis.restart(signal.SIGKILL)


@contextmanager
def slow_redis(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    yield from _slow(ground.redis_line, 0.3, "Redis")


# ---------------------------------------------------------------- the network


def _slow(line: TcpProxy, delay_s: float, what: str) -> Iterator[str]:
    line.delay_s = delay_s
    yield f"{what} is {delay_s * 1000:.0f} ms away"
    line.delay_s = 0.0


def _stalled(line: TcpProxy, what: str) -> Iterator[str]:
    line.is_stalled = True
    yield f"the line to {what} is silent"
    line.is_stalled = False


def _cut(line: TcpProxy, what: str, chance: random.Random) -> Iterator[str]:
    times = chance.randint(1, 5)
    for _ in range(times):
        line.cut()
        time.sleep(chance.random() * 0.4)
    yield f"the line to {what} was cut {times} times"


@contextmanager
def cut_postgresql(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    yield from _cut(ground.postgres_line, "PostgreSQL", chance)


@contextmanager
def stall_postgresql(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    yield from _stalled(ground.postgres_line, "PostgreSQL")


@contextmanager
def slow_postgresql(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    yield from _slow(ground.postgres_line, 0.05, "PostgreSQL")


@contextmanager
def lose_replies_of_postgresql(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    """It has committed, and nobody hears of it."""
    line = ground.postgres_line
    line.lost_replies = 0.05
    yield "PostgreSQL's answers are lost, one in 20"
    line.lost_replies = 0.0


@contextmanager
def cut_redis(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    yield from _cut(ground.redis_line, "Redis", chance)


@contextmanager
def stall_redis(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    yield from _stalled(ground.redis_line, "Redis")


@contextmanager
def cut_upstream(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    yield from _cut(ground.upstream_line, "the upstream", chance)


@contextmanager
def stall_upstream(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    yield from _stalled(ground.upstream_line, "the upstream")


# ---------------------------------------------------------------- both ends


@contextmanager
def upstream_from_hell(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    usual, load.hell = load.hell, 0.7
    yield "an upstream from hell for 7 requests in 10"
    load.hell = usual


@contextmanager
def clients_leave(ground: Ground, load: Load, chance: random.Random) -> Iterator[str]:
    load.leave()
    yield "every client hangs up"


STRIKES = [
    Strike("web", kill_a_web_worker, (0.0, 3.0)),
    Strike("web", kill_every_web_worker, (0.0, 1.0)),
    Strike("web", stop_a_web_worker, (1.0, 8.0)),
    Strike("web", stop_a_web_worker_until_it_counts_as_dead, (DEAD_AFTER_S + 32.0, DEAD_AFTER_S + 34.0)),
    Strike("web", replace_a_web_worker, (0.0, 0.5), is_alone=True),
    Strike("celery", kill_celery, (0.0, 5.0)),
    Strike("celery", stop_celery, (1.0, 8.0)),
    Strike("postgresql", kill_postgresql, (0.0, 5.0)),
    Strike("postgresql", restart_postgresql, (0.0, 5.0)),
    Strike("postgresql", kill_a_backend, (0.0, 1.0)),
    Strike("postgresql", stop_the_tellers_backends, (1.0, 8.0)),
    Strike("postgresql", terminate_backends, (0.0, 1.0)),
    Strike("postgresql", stop_postgresql, (1.0, 8.0)),
    Strike("redis", flush_redis, (0.0, 1.0)),
    Strike("redis", kill_redis, (0.0, 5.0)),
    Strike("redis", stop_redis, (1.0, 8.0)),
    Strike("redis", age_redis, (2.0, 5.0)),
    Strike("redis", slow_redis, (1.0, 5.0)),
    Strike("postgresql", cut_postgresql, (0.0, 1.0)),
    Strike("postgresql", stall_postgresql, (1.0, 8.0)),
    Strike("postgresql", slow_postgresql, (1.0, 5.0)),
    Strike("postgresql", lose_replies_of_postgresql, (1.0, 5.0)),
    Strike("redis", cut_redis, (0.0, 1.0)),
    Strike("redis", stall_redis, (1.0, 8.0)),
    Strike("upstream", cut_upstream, (0.0, 1.0)),
    Strike("upstream", stall_upstream, (1.0, 8.0)),
    Strike("upstream", upstream_from_hell, (2.0, 5.0)),
    Strike("clients", clients_leave, (0.0, 0.5)),
]
