"""The storm's proof of Realtime sessions finds what it is there to find."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from billing.slips import rest_id
from chaos import spoken_proof
from chaos.asked import REALTIME, Spoken
from chaos.records import Books
from config.tests.scripts import Call

# 30 tokens read at 100, 5 made at 1,000.
USAGE, PRICE = {"input_tokens": 30, "output_tokens": 5}, 8_000
HELD = 20_000
RESPONSE = "resp_1"


def row(cost: int, *, id_: UUID | None = None, response: str = RESPONSE, outcome: str = "completed") -> dict[str, Any]:
    return {
        "request_id": id_ or uuid4(),
        "cost_nanos": cost,
        "hold_nanos": 0 if outcome == "adjustment" else HELD,
        "outcome": outcome,
        "upstream_request_id": response,
        "error_code": "",
        "endpoint": REALTIME,
    }


def wrong(*rows: dict[str, Any], is_whole: bool = True) -> list[str]:
    found = Books().add(rows)
    made = [Call(REALTIME, {}, {"usage": USAGE}, marker=RESPONSE)]
    heard = Spoken(RESPONSE, 5, stream=True, is_whole=is_whole, usage_price=PRICE)
    return (spoken_proof.of_whole(found, heard) if is_whole else []) + spoken_proof.of_all(found, made)


def test_a_response_charged_once_at_its_price_is_right() -> None:
    assert wrong(row(PRICE)) == []


@pytest.mark.parametrize("before", [0, 3_000])
def test_so_is_one_whose_first_part_the_reaper_charged(before: int) -> None:
    first = row(before, response="", outcome="interrupted")
    rest = row(PRICE - before, id_=rest_id(first["request_id"]), outcome="adjustment")
    assert wrong(first, rest) == []


@pytest.mark.parametrize("costs", [[], [PRICE, PRICE], [PRICE - 1], [PRICE + 1]])
def test_uncharged_twice_and_at_another_price_are_wrong(costs: list[int]) -> None:
    assert wrong(*map(row, costs))


def test_a_broken_response_costs_at_most_its_hold_and_once() -> None:
    assert wrong(row(HELD), is_whole=False) == []
    assert wrong(row(HELD + 1), is_whole=False)
    assert wrong(row(10), row(10), is_whole=False)


def test_nobody_pays_for_what_was_never_made() -> None:
    assert wrong(row(PRICE), row(1, response="resp_2"))
    assert wrong(row(PRICE), row(1, response="", outcome="interrupted"))
    assert wrong(row(1, response="", outcome="interrupted"), is_whole=False) == []
