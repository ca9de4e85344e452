"""What settlement and admission find of requests of several months, and that they open no month in vain."""

from uuid import UUID

import pytest
from django.db import connection


def test_a_batch_of_several_months_finds_what_each_has_of_it(run, teller, customer):
    nowhere = UUID("ffffffff-0000-7000-8000-000000000001")  # far in the future: the default partition
    ended = [customer.hold(10), customer.hold(10, request_id=nowhere)]
    run.together(*(teller.hold(hold) for hold in ended))
    run.together(*(teller.capture(customer.capture(hold, 1)) for hold in ended))
    fresh = customer.hold(10)
    answers = run.together(*(teller.hold(hold) for hold in (ended[1], fresh, ended[0])))
    assert [getattr(answer, "reason", None) for answer in answers] == ["id_taken", None, "id_taken"]
    settled = run.together(*(teller.capture(customer.capture(hold, 2)) for hold in (ended[1], fresh, ended[0])))
    assert [each.recorded for each in settled] == [False, True, False]
    assert customer.available == 1000 - 1 - 1 - 2


@pytest.mark.parametrize(
    ("function", "times"),
    [("billing_admit_plain(json, uuid)", 1), ("billing_settle_plain(json)", 1), ("billing_settle_any(json)", 2)],
)
def test_batches_look_for_usage_by_a_range_alone(db, function, times):
    # A look-up by each row of a batch opens every month there is.
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef(%s::regprocedure)", [function])
        body = cursor.fetchone()[0]
    assert body.count("FROM billing_usagerecord") == times
    assert body.count("u.request_id BETWEEN first_id AND last_id") == times
