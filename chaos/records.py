"""Usage records as the proofs need them: by their id, and by the upstream call that they pay for."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from billing.slips import rest_id
from chaos.asked import REALTIME
from chaos.ground import Ground

Row = dict[str, Any]
_ROWS = (
    "select request_id, cost_nanos, hold_nanos, outcome, upstream_request_id, error_code, endpoint "
    "from billing_usagerecord where organization_id = any(%s)"
)


@dataclass
class Books:
    """Rows that were read at one moment. `wrong`: what is wrong with them already."""

    by_id: dict[UUID, Row] = field(default_factory=dict)
    by_marker: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    spoken: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    reaped: dict[UUID, Row] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, rows: Iterable[Row]) -> "Books":
        for row in rows:
            if row["request_id"] in self.by_id:
                self.wrong.append(f"request {row['request_id']} has two usage records")
            self.by_id[row["request_id"]] = row
            if row["upstream_request_id"] and row["cost_nanos"]:
                self.by_marker[row["upstream_request_id"]].append(row)
            if row["endpoint"] == REALTIME:
                self._add_spoken(row)
        return self

    def charged(self, request_id: UUID) -> int | None:
        """What the request cost, with what was charged later because its worker had been taken for dead."""
        rows = [self.by_id.get(request_id), self.by_id.get(rest_id(request_id))]
        costs = [row["cost_nanos"] for row in rows if row is not None]
        return sum(costs) if costs else None

    def charged_for(self, response_id: str) -> list[int]:
        """What a Realtime response cost, once for each time it was charged: one amount, if all is right. What a reaper
        charged before is part of it."""
        rows = self.spoken.get(response_id, [])
        earlier = [self.reaped.get(row["request_id"]) for row in rows]
        return [
            row["cost_nanos"] + (first["cost_nanos"] if first is not None else 0)
            for row, first in zip(rows, earlier, strict=True)
        ]

    def _add_spoken(self, row: Row) -> None:
        if row["upstream_request_id"]:
            self.spoken[row["upstream_request_id"]].append(row)
        elif row["outcome"] == "interrupted":
            self.reaped[rest_id(row["request_id"])] = row


def rows_of(ground: Ground, condition: str = "true", *parameters: object) -> Books:
    """The records of the storm's customers."""
    return Books().add(ground.site.query(f"{_ROWS} and ({condition})", ground.organization_ids, *parameters))
