"""What the gateway's own requests say of services: samples in, windows out."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Sum
from django.utils import timezone

from status.judgement import Window
from status.models import Service, TrafficSample

WINDOW = timedelta(seconds=60)
BASELINE = timedelta(hours=6)
BASELINE_ENDS = timedelta(minutes=10)
KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Sample:
    """Requests to a provider's model since the last sample. Of the installation itself: `provider` is empty."""

    provider: str
    model: str
    requests: int
    upstream_failures: int = 0
    our_failures: int = 0
    latency_ms_sum: int = 0


def record(samples: Iterable[Sample]) -> None:
    """Write samples of now, all in one statement."""
    now = timezone.now()
    TrafficSample.objects.bulk_create(
        TrafficSample(
            at=now,
            provider=sample.provider[:60],
            model=sample.model[:200],
            requests=sample.requests,
            upstream_failures=sample.upstream_failures,
            our_failures=sample.our_failures,
            latency_ms_sum=sample.latency_ms_sum,
        )
        for sample in samples
    )


def forget() -> int:
    """Delete samples that are a day old; returns how many."""
    return TrafficSample.objects.filter(at__lt=timezone.now() - KEPT).delete()[0]


class Traffic:
    """The windows of every service at `now`, from two queries."""

    def __init__(self, now: datetime) -> None:
        self._recent = _sums(now - WINDOW, now)
        self._before = _sums(now - BASELINE, now - BASELINE_ENDS)

    def window(self, service: Service) -> Window:
        return _of(service, self._recent)

    def baseline(self, service: Service) -> Window:
        return _of(service, self._before)


def _sums(start: datetime, end: datetime) -> list[Sample]:
    rows = (
        TrafficSample.objects.filter(at__gte=start, at__lt=end)
        .values("provider", "model")
        .annotate(
            requests_sum=Sum("requests"),
            upstream_sum=Sum("upstream_failures"),
            our_sum=Sum("our_failures"),
            latency_sum=Sum("latency_ms_sum"),
        )
    )
    return [
        Sample(
            row["provider"], row["model"], row["requests_sum"], row["upstream_sum"], row["our_sum"], row["latency_sum"]
        )
        for row in rows
    ]


def _of(service: Service, samples: list[Sample]) -> Window:
    """What of `samples` concerns `service`: its provider, its family of models, or the installation itself."""
    requests = upstream = ours = latency = 0
    for sample in samples:
        if not sample.provider:
            if service.counts_our_failures:
                requests += sample.requests
                ours += sample.our_failures
                latency += sample.latency_ms_sum
        elif (service.provider and sample.provider == service.provider) or (
            service.model_prefix and sample.model.startswith(service.model_prefix)
        ):
            requests += sample.requests
            upstream += sample.upstream_failures
            latency += sample.latency_ms_sum
    return Window(requests, upstream, ours, latency)
