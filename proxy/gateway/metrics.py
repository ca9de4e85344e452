"""Prometheus metrics of the gateway. Labels are bounded: endpoint, model of the catalogue, outcome."""

from functools import cache, lru_cache

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

REQUESTS = Counter("tuppence_requests_total", "Requests by how they ended", ["endpoint", "model", "outcome"])
REFUSED = Counter("tuppence_refusals_total", "Requests refused before an upstream was called", ["code"])
LATENCY = Histogram(
    "tuppence_request_seconds", "From the request's arrival to the last byte", ["endpoint", "model"], buckets=_SECONDS
)
TTFT = Histogram("tuppence_first_byte_seconds", "Until the first byte of the answer", ["endpoint"], buckets=_SECONDS)
TOKENS = Counter("tuppence_tokens_total", "Tokens by kind", ["model", "kind"])
COST = Counter("tuppence_cost_nanos_total", "Charged, in nano-dollars", ["model"])
HOLDS = Gauge("tuppence_holds_open", "Requests in flight with a hold", multiprocess_mode="livesum")
TELLER_BATCH = Histogram(
    "tuppence_teller_batch_size", "Operations in one commit", ["kind"], buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
TELLER_COMMIT = Histogram(
    "tuppence_teller_commit_seconds", "Duration of one commit", ["kind"], buckets=(0.0005, 0.001, 0.0025, *_SECONDS)
)
TELLER_WAIT = Histogram(
    "tuppence_teller_wait_seconds",
    "From the question to the committed answer",
    ["kind"],
    buckets=(0.0005, 0.001, 0.0025, *_SECONDS),
)
DEAD_LETTERS = Counter("tuppence_dead_letters_total", "Rows that the database refused, kept for people", ["kind"])
UPSTREAM_FAILURES = Counter("tuppence_upstream_failures_total", "Failed attempts", ["deployment", "error"])


class TellerObserver:
    """What the teller reports, as metrics."""

    def batch(self, kind: str, size: int, seconds: float) -> None:
        sizes, commits, _ = teller_children(kind)
        sizes.observe(size)
        commits.observe(seconds)

    def waited(self, kind: str, seconds: float) -> None:
        teller_children(kind)[2].observe(seconds)

    def dead_letter(self, kind: str) -> None:
        DEAD_LETTERS.labels(kind).inc()


@cache
def teller_children(kind: str) -> tuple[Histogram, Histogram, Histogram]:
    return TELLER_BATCH.labels(kind), TELLER_COMMIT.labels(kind), TELLER_WAIT.labels(kind)


@lru_cache(maxsize=4096)
def children(
    endpoint: str, model: str, outcome: str
) -> tuple[Counter, Histogram, Histogram, Counter, Counter, Counter]:
    """The metrics of one kind of request: looking labels up costs more than counting."""
    return (
        REQUESTS.labels(endpoint, model, outcome),
        LATENCY.labels(endpoint, model),
        TTFT.labels(endpoint),
        TOKENS.labels(model, "input"),
        TOKENS.labels(model, "output"),
        COST.labels(model),
    )


def answered(
    endpoint: str,
    model: str,
    outcome: str,
    *,
    latency_s: float,
    ttft_s: float | None,
    input_tokens: int,
    output_tokens: int,
    cost: int,
) -> None:
    """Count one request that had a hold."""
    requests, latency, ttft, inputs, outputs, costs = children(endpoint, model, outcome)
    requests.inc()
    latency.observe(latency_s)
    if ttft_s is not None:
        ttft.observe(ttft_s)
    inputs.inc(input_tokens)
    outputs.inc(output_tokens)
    costs.inc(cost)
