"""Whoever saw a whole answer is charged exactly once, whatever was killed, and nothing else is (MONEY.md I5, I11-I13).

A storm of clients runs while a worker is killed, PostgreSQL restarted, Redis emptied and stopped. Each test prints its
seed; `CHAOS_SEED=…` runs that one again.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import redis
from websockets.sync.client import connect

from config.tests import books, storm
from config.tests.processes import Installation, Service, wait_for
from config.tests.scripted import Upstream
from config.tests.test_realtime import Talk

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("kills")]


@pytest.fixture
def workers(site: Installation, storm_model: None) -> Iterator[Service]:
    service = site.web(workers=2)
    yield service
    service.stop()


def test_kill_9_of_web_workers_under_load(
    site: Installation, workers: Service, storm_customer: dict[str, Any], upstream: Upstream, seed: int
) -> None:
    chance = random.Random(seed)
    killed = []
    with storm.Storm(site, workers, storm_customer["secret"], seed) as weather:
        weather.wait_for_answers(20)
        for _ in range(4):
            time.sleep(chance.random() * 0.5)
            wait_for(lambda: len(workers.workers()) == 2, timeout_s=15, what="the killed worker is replaced")
            victim = chance.choice(workers.workers())
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
            weather.wait_for_answers(15)
        assert workers.process is not None
        assert workers.process.poll() is None
    assert len(set(killed)) == 4
    storm.sweep(site)
    print(storm.prove(weather, storm_customer, upstream, credit=storm.CREDIT))


def test_postgresql_restarted_under_load(
    site: Installation, workers: Service, storm_customer: dict[str, Any], upstream: Upstream, seed: int
) -> None:
    chance = random.Random(seed)
    with storm.Storm(site, workers, storm_customer["secret"], seed) as weather:
        weather.wait_for_answers(20)
        for how in (signal.SIGQUIT, signal.SIGINT, signal.SIGQUIT):  # immediate, fast, immediate
            time.sleep(chance.random() * 0.5)
            site.postgres.restart(how)
            weather.wait_for_answers(15)
    statuses = {seen.status for seen in weather.seen if seen.status}
    assert statuses <= {200, 503}
    assert all(seen.retry_after for seen in weather.seen if seen.status == 503)
    assert len(workers.workers()) == 2
    storm.sweep(site)
    print(storm.prove(weather, storm_customer, upstream, credit=storm.CREDIT))


def test_postgresql_away_for_seconds_refuses_new_requests_and_lets_running_streams_go_on(
    site: Installation, workers: Service, storm_customer: dict[str, Any], upstream: Upstream, seed: int
) -> None:
    with storm.Storm(site, workers, storm_customer["secret"], seed) as weather:
        weather.wait_for_answers(20)
        site.postgres.stop()
        started = time.monotonic()
        wait_for(
            lambda: [seen for seen in weather.seen if seen.status == 503],
            timeout_s=5,
            what="a new request is answered 503 while PostgreSQL is away",
        )
        before = weather.whole_count()
        time.sleep(2)
        assert weather.whole_count() == before, "an answer was completed without a commit"
        site.postgres.start()
        weather.wait_for_answers(40)
        assert time.monotonic() - started < 30
    assert {seen.status for seen in weather.seen if seen.status} <= {200, 503}
    storm.sweep(site)
    print(storm.prove(weather, storm_customer, upstream, credit=storm.CREDIT))


def test_redis_flushed_and_stopped_under_load_is_noticed_by_nobody(
    site: Installation, workers: Service, storm_customer: dict[str, Any], upstream: Upstream, seed: int
) -> None:
    chance = random.Random(seed)
    with storm.Storm(site, workers, storm_customer["secret"], seed) as weather:
        weather.wait_for_answers(20)
        for _ in range(5):
            with redis.Redis.from_url(site.redis_url) as client:
                client.flushall()
            time.sleep(chance.random() * 0.3)
        weather.wait_for_answers(20)
        assert site.redis.process is not None
        site.redis.process.send_signal(signal.SIGSTOP)
        weather.wait_for_answers(20)
        site.redis.process.send_signal(signal.SIGCONT)
        weather.wait_for_answers(20)
        site.redis.stop()
        weather.wait_for_answers(40)
        site.redis.start()
        weather.wait_for_answers(40)
    assert {seen.status for seen in weather.seen} == {200}
    assert all(seen.is_whole for seen in weather.seen)
    storm.sweep(site)
    print(storm.prove(weather, storm_customer, upstream, credit=storm.CREDIT))


def test_a_request_repeated_under_its_idempotency_key_across_a_kill_is_charged_once(
    site: Installation, workers: Service, storm_customer: dict[str, Any], upstream: Upstream, seed: int
) -> None:
    """Every worker is killed while 12 requests are anywhere between claim and answer; their clients just ask again."""
    chance = random.Random(seed)
    tokens = {f"m-again-{seed}-{number}": chance.randint(1, 30) for number in range(12)}

    def ask_until_answered(marker: str) -> int:
        body = {
            "model": storm.MODEL,
            "max_tokens": tokens[marker],
            "messages": [{"role": "user", "content": f"{marker} [[pace={20 * tokens[marker]}]]"}],
        }
        headers = {"authorization": f"Bearer {storm_customer['secret']}", "idempotency-key": marker}
        for _ in range(400):
            try:
                answer = httpx.post(f"{workers.url}/v1/chat/completions", json=body, headers=headers, timeout=30)
            except httpx.HTTPError:
                pass
            else:
                if answer.status_code != 503:
                    return answer.status_code
            time.sleep(0.1)
        raise AssertionError(f"{marker} was never answered")

    with ThreadPoolExecutor(len(tokens)) as pool:
        asked = [pool.submit(ask_until_answered, marker) for marker in tokens]
        time.sleep(0.1 + chance.random() * 0.5)
        for pid in workers.workers():
            os.kill(pid, signal.SIGKILL)
        while not all(future.done() for future in asked):
            time.sleep(0.5)
            site.clerk.reap(dead_after_s=storm.DEAD_AFTER_S)
        statuses = [future.result() for future in asked]
    # 409: charged, the answer lost with its worker. Then asking again must not run it again.
    assert set(statuses) <= {200, 409}
    storm.sweep(site)
    rows = books.usage(site, storm_customer["id"])
    for marker, status in zip(tokens, statuses, strict=True):
        costs = [row["cost_nanos"] for row in rows if row["upstream_request_id"] == marker and row["cost_nanos"]]
        assert costs == [storm.price(tokens[marker])], (marker, status)
        assert 1 <= len(upstream.calls_of(marker)) <= 2
    spent = sum(row["cost_nanos"] for row in rows)
    assert spent == sum(map(storm.price, tokens.values()))
    books.prove(site, storm_customer, credit=storm.CREDIT, spent=spent)
    print(statuses, sorted(row["outcome"] for row in rows))


def test_a_worker_told_to_stop_finishes_what_it_has_begun(
    site: Installation, workers: Service, storm_customer: dict[str, Any], upstream: Upstream, seed: int
) -> None:
    """SIGTERM under load: every request that was accepted is answered whole or refused, and none stays held."""
    with storm.Storm(site, workers, storm_customer["secret"], seed) as weather:
        weather.wait_for_answers(20)
        workers.stop()
        time.sleep(0.2)
    assert books.holds(site) == 0
    print(storm.prove(weather, storm_customer, upstream, credit=storm.CREDIT))


def test_a_worker_told_to_stop_lets_a_realtime_response_come_to_its_end(
    site: Installation, workers: Service, upstream: Upstream
) -> None:
    name, prices = "storm-spoken", {"input": storm.INPUT, "output": storm.OUTPUT}
    site.clerk.model(
        name=name, base_url=upstream.base_url, upstream_name="m", prices=prices, endpoints=["/v1/realtime"]
    )
    customer = site.clerk.organization(name="storm-speaker", credit_nanos=storm.CREDIT)
    address = f"{workers.url.replace('http', 'ws')}/v1/realtime?model={name}"
    with connect(address, additional_headers={"authorization": f"Bearer {customer['secret']}"}) as socket:
        talk = Talk(socket)
        talk.say("session.update", session={"type": "realtime", "output_modalities": ["text"]})
        talk.write("[[words=20; slow=50ms]]")
        talk.say("response.create")
        talk.until("response.output_text.delta")
        workers.stop()
        events, code = talk.closing()
    done, error = (event for event in events if event["type"] in {"response.done", "error"})
    assert done["response"]["status"] == "completed"
    assert (error["error"]["code"], code) == ("service_unavailable", 1013)
    usage = done["response"]["usage"]
    spent = usage["input_tokens"] * storm.INPUT + usage["output_tokens"] * storm.OUTPUT
    books.prove(site, customer, credit=storm.CREDIT, spent=spent)
