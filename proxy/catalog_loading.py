"""Bringing the table of models up to a price list, without touching what staff changed."""

from collections.abc import Iterable
from typing import Any

from django.db import transaction

from billing.price_list import Entry
from proxy.models import Model
from proxy.providers import OFFERED, write_loaded

# Kinds of model that some path of `/v1` serves, or will once its provider's adapter is there.
SERVED_MODALITIES = frozenset(
    {"text", "vision", "embedding", "image", "speech", "transcription", "realtime", "moderation"}
)


def load(entries: Iterable[Entry], *, overrides: Iterable[Entry] = ()) -> tuple[int, int]:
    """Make or update the models that are sold; how many are new, how many changed. May run any number of times.

    A model that only `overrides` (`MODEL_PRICING_JSON`) names is made too; of a known one they change the price alone.
    """
    with transaction.atomic():
        known = {model.name: model for model in Model.objects.select_for_update()}
        added, changed, listed = [], 0, set()
        for entry in entries:
            if entry.is_sold:
                listed.add(entry.name)
                changed += _put(known, added, entry)
        for entry in overrides:
            if entry.name not in listed and not (entry.name in known and known[entry.name].pk):
                _put(known, added, entry)
        Model.objects.bulk_create(added)
    return len(added), changed


def _put(known: dict[str, Model], added: list[Model], entry: Entry) -> int:
    model = known.get(entry.name)
    if model is not None:
        return int(write_loaded(model, _values(entry)))
    model = Model(name=entry.name)
    write_loaded(model, _values(entry))
    known[entry.name] = model
    added.append(model)
    return 0


def _values(entry: Entry) -> dict[str, Any]:
    return {
        "owned_by": entry.owned_by,
        "modality": entry.modality,
        "context_window": entry.context_window,
        "max_output_tokens": entry.max_output_tokens,
        "capabilities": list(entry.capabilities),
        "endpoints": list(entry.endpoints),
        "snapshots": list(entry.snapshots),
        "upstream_names": dict(entry.upstream_names),
        "is_listed": entry.status in OFFERED and entry.modality in SERVED_MODALITIES,
        "status": entry.status,
        "deprecated_on": entry.deprecated_on,
        "successor": entry.successor,
        "notes": entry.notes,
    }
