"""What must be true of Realtime sessions: each response is a request of its own, known by the provider's id for it."""

from collections import Counter
from collections.abc import Iterable

from chaos.asked import COME_BACK, Asked, Spoken
from chaos.records import Books
from chaos.talks import price_of
from config.tests.scripted_realtime import PATH
from config.tests.scripts import Call

# How a session may end while things are struck: by its client, with its worker, with the provider or PostgreSQL.
ENDINGS = {
    (0, ""),
    (1006, ""),
    (1011, "upstream_cut"),
    (COME_BACK, "service_unavailable"),
}


def of_whole(found: Books, one: Spoken) -> list[str]:
    """A response that was said to be done is charged exactly once, at what its usage costs."""
    charged = found.charged_for(one.marker)
    if one.kind.customer == "hell" and not one.usage_price:
        return [] if len(charged) == 1 and charged[0] > 0 else [f"{one}, without usage, was charged {charged}"]
    return [] if charged == [one.price] else [f"{one} was done: charged {charged}, its price is {one.price}"]


def of_ending(one: Spoken) -> list[str]:
    """How its session ended, if it did."""
    how = (one.close_code, one.error_code)
    return [] if how in ENDINGS or one.status != 200 else [f"{one}: its session ended with {how}"]


def of_all(found: Books, calls: Iterable[Call]) -> list[str]:
    """No response is charged twice, nor more than was held or it costs; none that the provider never began."""
    made = {call.marker: call for call in calls if call.path == PATH}
    wrong = []
    for response_id, rows in found.spoken.items():
        charged = found.charged_for(response_id)
        if len(charged) > 1:
            wrong.append(f"{response_id} was charged {len(charged)} times: {charged}")
        if response_id not in made:
            wrong.append(f"{response_id} was charged and the provider never made it")
            continue
        usage = made[response_id].body.get("usage")
        most = max(rows[0]["hold_nanos"], price_of(usage) if usage else 0)
        earlier = found.reaped.get(rows[0]["request_id"])
        most = max(most, earlier["hold_nanos"] if earlier is not None else 0)
        if charged[0] > most:
            wrong.append(f"{response_id} was charged {charged[0]}, more than {most}")
    nameless = [row for rest, row in found.reaped.items() if row["cost_nanos"] and rest not in found.by_id]
    unpaid = len(made) - len(found.spoken)
    if len(nameless) > unpaid:
        wrong.append(f"{len(nameless)} responses were charged by the reaper, only {unpaid} were not charged yet")
    return wrong


def endings(asked: Iterable[Asked]) -> dict[str, int]:
    """How sessions ended, for the record."""
    ended = [one for one in asked if isinstance(one, Spoken) and not one.is_whole and one.status == 200]
    return dict(sorted(Counter(f"{one.close_code} {one.error_code}".strip() for one in ended).items()))
