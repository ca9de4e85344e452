"""Reading price lists: the project's own catalogue, an operator's file, and `MODEL_PRICING_JSON`. No database."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from billing import rate_json

CATALOGUE = Path(__file__).parent / "catalogue"
SETTING = "MODEL_PRICING_JSON"
STATUSES = ("active", "deprecated", "retired", "unpriced", "disputed")
MODALITIES = (
    "text", "embedding", "image", "speech", "transcription", "translation", "realtime", "moderation", "video", "vision",
    "rerank", "classification", "image_classification", "extraction", "decision", "voice_activity",
)  # fmt: skip
_UNIT_OF_SETTING = {"1K tokens": 1000, "1M tokens": 1}


class InvalidPriceList(ValueError):
    """`source` (a file, or the setting) is no price list. The message is one line that names it."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = source


@dataclass(frozen=True, slots=True)
class Entry:
    """A model at a provider, as a list says it. `rates` None: listed, but without a price.

    `provider` is empty for a model that is ours alone; `upstream_names` tells what providers call it.
    `is_sold` False: the rates are only what this provider takes from us.
    """

    name: str
    provider: str
    rates: Mapping[str, Any] | None
    source: str = ""
    effective_at: datetime | None = None
    is_sold: bool = True
    upstream_names: Mapping[str, str] = field(default_factory=dict)
    owned_by: str = ""
    modality: str = "text"
    status: str = "active"
    context_window: int | None = None
    max_output_tokens: int | None = None
    capabilities: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    deprecated_on: date | None = None
    successor: str = ""
    notes: str = ""


def read_catalogue() -> list[Entry]:
    """The project's own catalogue, all files of it."""
    return [entry for path in sorted(CATALOGUE.glob("*.json")) for entry in read(path)]


def read(path: Path) -> list[Entry]:
    """The models of one file in the format of `billing/catalogue/README.md`. Raises `InvalidPriceList`."""
    try:
        return _entries(path.name, _load(path.name, path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InvalidPriceList(str(path), f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidPriceList(str(path), "is not UTF-8") from None


def read_setting(text: str) -> list[Entry]:
    """The models of `MODEL_PRICING_JSON`: `{"name": {"input": 0.005, "output": 0.015}}`, USD per 1,000 tokens.

    With `"unit": "1M tokens"` the model's prices are those of the catalogue's format, per million.
    Numbers are read as they are written, not as floats.
    """
    if not text.strip():
        return []
    data = _load(SETTING, text)
    if not isinstance(data, dict):
        raise InvalidPriceList(SETTING, "is not an object of models")
    entries = []
    for name, prices in data.items():
        if not isinstance(prices, dict):
            raise InvalidPriceList(SETTING, f"{name} is not an object of prices")
        rates = dict(prices)
        unit = rates.pop("unit", "1K tokens")
        if unit not in _UNIT_OF_SETTING:
            raise InvalidPriceList(SETTING, f"{name}: unit is {unit!r}, expected 1K tokens or 1M tokens")
        if unit == "1K tokens":
            rates = {kind: _times_thousand(name, kind, price) for kind, price in rates.items()}
        _check(SETTING, name, rates)
        entries.append(
            Entry(
                name=name,
                provider="",
                rates=rates,
                source=SETTING,
                upstream_names={"openai": name, "upstream": name},
                owned_by="organization-owner",
            )
        )
    return entries


def _entries(source: str, data: Any) -> list[Entry]:
    if not isinstance(data, dict) or not isinstance(data.get("models"), list):
        raise InvalidPriceList(source, 'expected {"provider": …, "models": […]}')
    provider, sources = data.get("provider", ""), data.get("sources", {})
    effective_at = _moment(source, data.get("effective_at"))
    entries, seen = [], set()
    for row in data["models"]:
        name = row.get("name") if isinstance(row, dict) else None
        if not isinstance(name, str) or not name or name in seen:
            raise InvalidPriceList(source, f"model {name!r} has no name of its own")
        seen.add(name)
        entries.append(_entry(source, row, provider, sources, effective_at, is_sold=data.get("is_sold", True)))
    return entries


def _entry(
    source: str,
    row: dict[str, Any],
    provider: str,
    sources: dict[str, str],
    effective_at: datetime | None,
    *,
    is_sold: bool,
) -> Entry:
    name, rates = row["name"], row.get("rates")
    status, modality = row.get("status", "active"), row.get("modality", "text")
    if status not in STATUSES or modality not in MODALITIES:
        raise InvalidPriceList(source, f"{name}: status {status!r} or modality {modality!r} is not known")
    if rates is not None:
        _check(source, name, rates)
    elif status != "unpriced":
        raise InvalidPriceList(source, f"{name} has no rates")
    try:
        return Entry(
            name=name,
            provider=provider,
            rates=rates,
            source=sources.get(row.get("source", ""), row.get("source", "")),
            effective_at=effective_at,
            is_sold=is_sold,
            upstream_names=row.get("upstream_names") or ({provider: name} if provider else {}),
            owned_by=row.get("owned_by", provider),
            modality=modality,
            status=status,
            context_window=row.get("context_window"),
            max_output_tokens=row.get("max_output_tokens"),
            capabilities=tuple(row.get("capabilities", ())),
            endpoints=tuple(row.get("endpoints", ())),
            snapshots=tuple(row.get("snapshots", ())),
            successor=row.get("successor", ""),
            deprecated_on=date.fromisoformat(row["deprecated_on"]) if row.get("deprecated_on") else None,
            notes=row.get("notes", ""),
        )
    except (TypeError, ValueError) as error:
        raise InvalidPriceList(source, f"{name}: {error}") from None


def _load(source: str, text: str) -> Any:
    try:
        return json.loads(text, parse_float=str, parse_constant=str)
    except ValueError as error:
        raise InvalidPriceList(source, f"is not JSON: {error}") from None


def _check(source: str, name: str, rates: Any) -> None:
    try:
        rate_json.parse(name, rates)
    except rate_json.InvalidRates as error:
        raise InvalidPriceList(source, str(error)) from None


def _times_thousand(name: str, kind: str, price: Any) -> str:
    if isinstance(price, bool) or not isinstance(price, (str, int)):
        raise InvalidPriceList(SETTING, f"{name}: {kind} is {price!r}, expected a number")
    try:
        return format((Decimal(price) * 1000).normalize(), "f")
    except InvalidOperation:
        raise InvalidPriceList(SETTING, f"{name}: {kind} is {price!r}, expected a number") from None


def _moment(source: str, text: Any) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise InvalidPriceList(
            source, f"effective_at is {text!r}, expected a time such as 2026-11-20T00:00:00Z"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
