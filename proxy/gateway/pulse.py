"""How requests fare, counted for the status page: by provider and model, and for the installation itself.

Counting is a few additions a request; `take` hands the counts over, every few seconds.
"""

from dataclasses import dataclass, field

from billing.teller import Capture

# Endings that are the provider's fault; what a client did wrong or broke off says nothing about anybody.
UPSTREAM_FAILURES = frozenset({"upstream_error", "upstream_cut", "timeout"})


@dataclass(slots=True)
class Count:
    """Requests since the last `take`."""

    requests: int = 0
    upstream_failures: int = 0
    our_failures: int = 0
    latency_ms_sum: int = 0


@dataclass(slots=True)
class Pulse:
    """The counts of one worker process, by (provider, model). The installation's own are under ("", "")."""

    _counts: dict[tuple[str, str], Count] = field(default_factory=dict)

    def ended(self, capture: Capture) -> None:
        """Count a request that had a hold: its last attempt, and each one before it that failed."""
        own = self._count("", "")
        own.requests += 1
        for attempt in capture.attempts[:-1]:
            self._failed_over(attempt, capture.model)
        if not capture.provider:
            return
        is_failure = capture.outcome in UPSTREAM_FAILURES
        if not is_failure and capture.outcome != "completed":
            return
        count = self._count(capture.provider, capture.model)
        count.requests += 1
        if is_failure:
            count.upstream_failures += 1
        else:
            count.latency_ms_sum += capture.latency_ms
            own.latency_ms_sum += capture.latency_ms

    def failed_ourselves(self) -> None:
        """Count a request that we could not serve through no fault of the client or a provider."""
        own = self._count("", "")
        own.requests += 1
        own.our_failures += 1

    def take(self) -> dict[tuple[str, str], Count]:
        """The counts since the last call."""
        taken, self._counts = self._counts, {}
        return taken

    def _failed_over(self, attempt: dict[str, object], model: str) -> None:
        provider = str(attempt.get("deployment", "")).partition("/")[0]
        if provider:
            count = self._count(provider, model)
            count.requests += 1
            count.upstream_failures += 1

    def _count(self, provider: str, model: str) -> Count:
        count = self._counts.get((provider, model))
        if count is None:
            count = self._counts[provider, model] = Count()
        return count


PULSE = Pulse()
