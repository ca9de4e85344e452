"""Encrypting every secret at rest anew, under the newest SECRET_KEY."""

from dataclasses import dataclass, field

from django.apps import apps
from django.db import models

from accounts import secrets

# The house's name for a column that holds a token of `accounts.secrets`.
SUFFIX = "_encrypted"


@dataclass
class Report:
    """How many were encrypted anew, and which (`table.column id`) no key can read."""

    rotated: int = 0
    unreadable: list[str] = field(default_factory=list)


def rotate_all() -> Report:
    """Re-encrypt each secret in every app. May run twice, and beside writers: a secret that changed is left alone."""
    report = Report()
    for model in apps.get_models():
        for column in model._meta.concrete_fields:
            if column.name.endswith(SUFFIX):
                _rotate(model, column.name, report)
    return report


def _rotate(model: type[models.Model], name: str, report: Report) -> None:
    rows = model._default_manager.exclude(**{name: ""}).values_list("pk", name)
    for pk, token in rows.iterator():
        try:
            fresh = secrets.rotated(token)
        except secrets.Undecryptable:
            report.unreadable.append(f"{model._meta.db_table}.{name} {pk}")
            continue
        report.rotated += model._default_manager.filter(pk=pk, **{name: token}).update(**{name: fresh})
