"""Slices: what settlement adds up for reports, and that reconciliation proves and repairs it."""

from datetime import UTC

import pytest
from django.db import connection

from billing import reconciliation, settlement, slices
from billing.models import UsageRecord, UsageSlice


def use(run, teller, customer, **more):
    hold = customer.hold(10)
    run(teller.hold(hold))
    run(teller.capture(customer.capture(hold, 3, **more)))


def test_settlement_sums_by_every_dimension(run, teller, customer):
    use(run, teller, customer, input_tokens=5, output_tokens=2, latency_ms=20, end_user="ann")
    use(run, teller, customer, input_tokens=7, output_tokens=1, latency_ms=2_000)
    assert settlement.settle_all() == 2
    use(run, teller, customer, outcome="upstream_error", latency_ms=30)
    assert settlement.settle_all() == 1
    at = UsageRecord.objects.first().created_at.astimezone(UTC)
    hour, day = at.replace(minute=0, second=0, microsecond=0), at.replace(hour=0, minute=0, second=0, microsecond=0)
    found = list(UsageSlice.objects.exclude(slice="end_user"))
    by = {"all", "key", "model", "endpoint", "cross"}
    assert {(one.slice, one.grain) for one in found} == {(name, grain) for name in by for grain in ("hour", "day")}
    for one in found:
        assert (one.requests, one.errors, one.input_tokens, one.output_tokens, one.cost_nanos) == (3, 1, 12, 3, 9)
        # 20 ms begins the fifth bucket (20 to 25), 2,000 ms lies between 1,995 and 2,512.
        assert {number: count for number, count in enumerate(one.latency) if count} == {4: 1, 24: 1}
        assert one.starts_at == (day if one.grain == "day" else hour)
        assert one.key_id == (customer.key.pk if one.slice in {"key", "cross"} else None)
        assert one.model == ("m" if one.slice in {"model", "cross"} else "")
        assert one.endpoint == ("/v1/chat/completions" if one.slice in {"endpoint", "cross"} else "")
    by_end_user = {one.end_user: one.requests for one in UsageSlice.objects.filter(slice="end_user", starts_at=day)}
    assert by_end_user == {"ann": 1, "": 2}
    assert reconciliation.check() == []


@pytest.mark.parametrize("change", ["requests = requests + 1", "cost_nanos = 0", "latency[4] = 7"])
def test_a_slice_that_drifts_is_found_and_mended(run, teller, customer, change):
    use(run, teller, customer, latency_ms=20)
    settlement.settle_all()
    before = list(UsageSlice.objects.order_by("slice", "grain").values("slice", "requests", "cost_nanos", "latency"))
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE billing_usageslice SET {change} WHERE slice = 'cross' AND grain = 'hour'")
    assert [drift.check for drift in reconciliation.check()] == ["slices"]
    assert [drift.check for drift in reconciliation.repair()] == ["slices"]
    assert reconciliation.check() == []
    assert (
        list(UsageSlice.objects.order_by("slice", "grain").values("slice", "requests", "cost_nanos", "latency"))
        == before
    )


def test_a_lost_slice_is_found_and_mended(run, teller, customer):
    use(run, teller, customer)
    settlement.settle_all()
    UsageSlice.objects.all().delete()
    assert {drift.check for drift in reconciliation.repair()} == {"slices"}
    assert UsageSlice.objects.count() == 11
    assert reconciliation.check() == []


def test_quantiles_lie_inside_their_bucket():
    histogram = [0] * slices.BUCKETS
    assert slices.quantile(histogram, 0.5) is None
    histogram[20] = 90  # 794 to 1,000 ms
    histogram[30] = 10  # 7,943 to 10,000 ms
    assert slices.quantile(histogram, 0.5) == round(794 + 206 * 50 / 90)
    assert slices.quantile(histogram, 0.9) == 1_000
    assert slices.quantile(histogram, 0.95) == round(7_943 + 2_057 * 5 / 10)
    histogram[-1] = 1_000
    assert slices.quantile(histogram, 0.95) == 1_000_000
