"""What sharding the holds of a hot account would give, and cost: a seeded simulation of discrete events.

    python -m bench.hold_sharding

One account's row in PostgreSQL can be changed by one commit at a time. Today every worker's batch of holds on it waits
for the one before. Sharded, the account's credit is split over rows of its own, and a batch takes from one of them. The
price: near the end of the credit no shard can see all of it, so it must be gathered, in a commit that locks every
shard; no request is refused that the account could pay. Charges go back to the shard that held.
"""

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

COMMIT_MS = 1.0  # measured: one billing_admit of a small batch (docs/performance.md)
PER_HOLD_MS = 0.01  # what one more hold in a batch adds
REQUEST_MS = 400.0  # how long a hold stays open, on average


@dataclass(frozen=True)
class Scenario:
    """`requests_s` arrive (Poisson) for `seconds` at `workers`; each holds `hold` of `credit`, which is in `shards`."""

    requests_s: float
    seconds: float = 5.0
    workers: int = 16
    shards: int = 1
    batch: int = 64
    hold: int = 100
    charge: int = 30
    credit: int = 10**9
    seed: int = 1


@dataclass
class Outcome:
    """Counts, waits in milliseconds, and the books at the end."""

    admitted: int = 0
    refused: int = 0
    gathered: int = 0
    charged: int = 0
    left: int = 0
    waits_ms: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.waits_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class Simulation:
    """One account under load. Time is in milliseconds."""

    def __init__(self, scenario: Scenario) -> None:
        self.s = scenario
        self.random = random.Random(scenario.seed)
        each, rest = divmod(scenario.credit, scenario.shards)
        self.available = [each + (number < rest) for number in range(scenario.shards)]
        self.row_free_at = [0.0] * scenario.shards
        self.queues: list[deque[float]] = [deque() for _ in range(scenario.workers)]
        self.is_busy = [False] * scenario.workers
        self.open = 0
        self.events: list[tuple[float, int, str, tuple[int, ...]]] = []
        self.number = 0
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Play it to the end: every hold is admitted or refused, every admitted one is charged."""
        self._at(self.random.expovariate(self.s.requests_s / 1000), "arrive")
        while self.events:
            now, _, what, data = heapq.heappop(self.events)
            getattr(self, f"_{what}")(now, *data)
            assert sum(self.available) + self.open + self.outcome.charged == self.s.credit
            assert min(self.available) >= 0
        self.outcome.left = sum(self.available)
        return self.outcome

    def _at(self, when: float, what: str, *data: int) -> None:
        self.number += 1
        heapq.heappush(self.events, (when, self.number, what, data))

    def _arrive(self, now: float) -> None:
        worker = self.random.randrange(self.s.workers)
        self.queues[worker].append(now)
        self._next_batch(now, worker)
        if now < self.s.seconds * 1000:
            self._at(now + self.random.expovariate(self.s.requests_s / 1000), "arrive")

    def _next_batch(self, now: float, worker: int) -> None:
        """A worker sends one batch at a time, and waits for the row's lock."""
        if self.is_busy[worker] or not self.queues[worker]:
            return
        self.is_busy[worker] = True
        shard = self.random.randrange(self.s.shards)
        size = min(self.s.batch, len(self.queues[worker]))
        begins = max(now, self.row_free_at[shard])
        ends = begins + COMMIT_MS + PER_HOLD_MS * size
        self.row_free_at[shard] = ends
        self._at(ends, "committed", worker, shard, size)

    def _committed(self, now: float, worker: int, shard: int, size: int) -> None:
        for _ in range(size):
            arrived = self.queues[worker].popleft()
            self.outcome.waits_ms.append(now - arrived)
            self._admit(now, shard)
        self.is_busy[worker] = False
        self._next_batch(now, worker)

    def _admit(self, now: float, shard: int) -> None:
        """Take a hold from the shard; where that lacks it, gather from the others in one commit that locks them all."""
        if self.available[shard] < self.s.hold:
            if sum(self.available) < self.s.hold:
                self.outcome.refused += 1
                return
            self._gather(now, shard)
        self.available[shard] -= self.s.hold
        self.open += self.s.hold
        self.outcome.admitted += 1
        self._at(now + self.random.expovariate(1 / REQUEST_MS), "end", shard)

    def _gather(self, now: float, shard: int) -> None:
        """Spread what is left evenly: one commit that holds every row."""
        total = sum(self.available)
        if total < self.s.hold * self.s.shards * 2:
            self.available = [0] * self.s.shards
            self.available[shard] = total
        else:
            each, rest = divmod(total, self.s.shards)
            self.available = [each + (number < rest) for number in range(self.s.shards)]
        free_at = max(now, *self.row_free_at) + COMMIT_MS
        self.row_free_at = [free_at] * self.s.shards
        self.outcome.gathered += 1

    def _end(self, now: float, shard: int) -> None:
        self.open -= self.s.hold
        self.outcome.charged += self.s.charge
        self.available[shard] += self.s.hold - self.s.charge
        # The charge is a commit on the same row; charges of a batch share one, so each takes its part of it.
        self.row_free_at[shard] = max(now, self.row_free_at[shard]) + PER_HOLD_MS + COMMIT_MS / self.s.batch


def simulate(scenario: Scenario) -> Outcome:
    return Simulation(scenario).run()


def table() -> list[str]:
    """The page's table, as Markdown."""
    lines = [
        "| requests/s on one organization | shards | hold waits p50 ms | p99 ms | gathered near the end of credit |",
        "|---|---|---|---|---|",
    ]
    for requests_s in (2_000, 10_000, 17_000, 40_000):
        for shards in (1, 4, 16):
            plenty = simulate(Scenario(requests_s=requests_s, shards=shards, seconds=1.0))
            short = simulate(Scenario(requests_s=requests_s, shards=shards, seconds=1.0, credit=requests_s * 20))
            lines.append(
                f"| {requests_s:,} | {shards} | {plenty.percentile(0.5):.1f} | {plenty.percentile(0.99):.1f} "
                f"| {short.gathered} of {short.admitted + short.refused:,} |"
            )
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
