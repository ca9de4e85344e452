"""What traffic and probes say of a service. Pure: the numbers of a window in, a state and a reason out."""

from dataclasses import dataclass

from status.states import State

# Fewer failures than this prove nothing, however few requests there were.
MIN_FAILURES = 3
MAJOR_PERCENT, PARTIAL_PERCENT, DEGRADED_PERCENT = 50, 20, 5
SLOW_FACTOR = 3
MIN_SLOW_MS = 2_000
PROBES_BEFORE_DOWN = 2


@dataclass(frozen=True, slots=True)
class Window:
    """Requests of the last minutes to a service: how many failed, by whose fault, and how long the good ones took."""

    requests: int = 0
    upstream_failures: int = 0
    our_failures: int = 0
    latency_ms_sum: int = 0

    @property
    def failures(self) -> int:
        return self.upstream_failures + self.our_failures

    @property
    def mean_latency_ms(self) -> int | None:
        """Of the requests that succeeded."""
        good = self.requests - self.failures
        return self.latency_ms_sum // good if good > 0 else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state with its reason in words, and whose fault it is: `upstream`, `ours`, or empty when all is well."""

    state: State
    reason: str = ""
    fault: str = ""


FINE = Verdict(State.OPERATIONAL)


def of_traffic(window: Window, baseline: Window) -> Verdict:
    """By error rate, else by latency against the hours before (`baseline`)."""
    failures = window.failures
    if failures >= MIN_FAILURES:
        rate = failures * 100 // window.requests
        fault = "ours" if window.our_failures > window.upstream_failures else "upstream"
        reason = f"{failures} of {window.requests} requests failed ({rate} %)"
        for percent, state in (
            (MAJOR_PERCENT, State.MAJOR_OUTAGE),
            (PARTIAL_PERCENT, State.PARTIAL_OUTAGE),
            (DEGRADED_PERCENT, State.DEGRADED_PERFORMANCE),
        ):
            if rate >= percent:
                return Verdict(state, reason, fault)
    now, usual = window.mean_latency_ms, baseline.mean_latency_ms
    good = window.requests - failures
    if now is None or usual is None or good < 2 * MIN_FAILURES or now < max(MIN_SLOW_MS, SLOW_FACTOR * usual):
        return FINE
    seconds = f"{now / 1000:.1f} s instead of {usual / 1000:.1f} s"
    return Verdict(State.DEGRADED_PERFORMANCE, f"answers take {seconds} on average", "upstream")


def of_probe(*, failures: int, error: str, latency_ms: int | None, slow_ms: int, fault: str) -> Verdict:
    """By how many probes failed in a row, else by the latency of the last."""
    if failures >= PROBES_BEFORE_DOWN:
        return Verdict(State.MAJOR_OUTAGE, f"our check fails: {error}", fault)
    if failures == 0 and latency_ms is not None and latency_ms > slow_ms:
        return Verdict(State.DEGRADED_PERFORMANCE, f"our check takes {latency_ms / 1000:.1f} s", fault)
    return FINE


def worst(verdicts: list[Verdict]) -> Verdict:
    """The worst of them, the first of equals; fine when there are none."""
    return max(verdicts, key=lambda verdict: verdict.state, default=FINE)
