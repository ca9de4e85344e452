"""Exports: a zip with each part of an organization as JSON and as CSV, without secrets. Apps register their parts.

A part is a function of an organization that yields rows: flat dictionaries with the same fields, in order.
"""

import csv
import json
import secrets
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import structlog
from django.core.files import File
from django.core.files.storage import default_storage
from django.core.serializers.json import DjangoJSONEncoder
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone
from kombu.exceptions import KombuError

from accounts import audit, spreadsheets
from accounts.models import Organization, OrganizationExport, User

log = structlog.get_logger(__name__)

Row = dict[str, Any]
Part = Callable[[Organization], Iterable[Row]]

KEPT_FOR = timedelta(days=7)
# An export that no worker has touched for so long lost its worker; one in use is touched every some seconds.
LOST_AFTER = timedelta(minutes=10)
RECENT = timedelta(hours=1)
TOUCH_EVERY = 2_000  # rows

_parts: dict[str, Part] = {}


def part(name: str) -> Callable[[Part], Part]:
    """Register a part: `name.json` and `name.csv` in the archive."""

    def register(function: Part) -> Part:
        _parts[name] = function
        return function

    return register


def request(*, organization: Organization, by: User, origin: audit.Origin | None = None) -> OrganizationExport:
    """A new export for a worker to make; the one that is under way, if there is one."""
    try:
        with transaction.atomic():
            made = OrganizationExport.objects.create(
                organization=organization, requested_by=by, parts_total=len(_parts)
            )
            audit.record(action="organization.export", target=made, organization=organization, by=by, origin=origin)
    except IntegrityError:
        return organization.exports.filter(state__in=["queued", "running"]).get()
    transaction.on_commit(_start)
    return made


def ensure_recent(*, organization: Organization, by: User, origin: audit.Origin | None = None) -> OrganizationExport:
    """The export of the last hour if there is one, kept until the organization is deleted; else a new one."""
    recent = organization.exports.filter(
        state=OrganizationExport.State.DONE, created_at__gte=timezone.now() - RECENT
    ).last()
    if recent is None:
        return request(organization=organization, by=by, origin=origin)
    recent.expires_at = _expiry(organization)
    recent.save(update_fields=["expires_at"])
    return recent


def make_due() -> int:
    """Make every export that waits, or whose worker was lost; returns how many. May run twice at a time."""
    made = 0
    while (export := _claim()) is not None:
        _make(export)
        made += 1
    return made


def tidy() -> int:
    """Delete the files of exports that have expired; returns how many."""
    old = OrganizationExport.objects.filter(state=OrganizationExport.State.DONE, expires_at__lte=timezone.now())
    for export in list(old):
        default_storage.delete(export.name)
        export.state, export.name = OrganizationExport.State.EXPIRED, ""
        export.save(update_fields=["state", "name"])
    return len(old)


def remove_all(organization: Organization) -> None:
    """Forget the exports of an organization; their files go once this is committed."""
    names = list(organization.exports.exclude(name="").values_list("name", flat=True))
    organization.exports.all().delete()
    transaction.on_commit(lambda: [default_storage.delete(name) for name in names])


def _start() -> None:
    """Wake a worker; where the broker is away, the next round finds the export."""
    from accounts import tasks  # noqa: PLC0415 - tasks call this module

    try:
        tasks.make_exports.delay()
    except (KombuError, OSError) as error:
        log.warning("export_not_started", error=type(error).__name__)


def _claim() -> OrganizationExport | None:
    now = timezone.now()
    with transaction.atomic():
        found = (
            OrganizationExport.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("organization")
            .filter(state__in=["queued", "running"])
            .exclude(state=OrganizationExport.State.RUNNING, touched_at__gt=now - LOST_AFTER)
            .order_by("pk")
            .first()
        )
        if found is not None:
            found.state, found.touched_at = OrganizationExport.State.RUNNING, now
            found.parts_done, found.parts_total, found.rows = 0, len(_parts), 0
            found.save(update_fields=["state", "touched_at", "parts_done", "parts_total", "rows"])
    return found


def _make(export: OrganizationExport) -> None:
    """Write the archive and put it into the storage. What goes wrong is said in `state`."""
    try:
        with tempfile.TemporaryDirectory(prefix="export-") as directory:
            path = Path(directory) / "export.zip"
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for number, (name, function) in enumerate(_parts.items()):
                    _touch(export, part=name, parts_done=number)
                    _write(archive, Path(directory), name, _counted(export, function(export.organization)))
            # Nobody guesses the name: some storages show their files to whoever knows it.
            folder = f"exports/{export.organization.public_id}/{secrets.token_urlsafe(24)}.zip"
            with path.open("rb") as file:
                export.name = default_storage.save(folder, File(file))
            export.byte_size = path.stat().st_size
    except Exception as error:  # noqa: BLE001, RUF100 - whatever it was, its owner must not wait for ever
        log.exception("export_failed", export=str(export.public_id), exc_info=error)
        export.state = OrganizationExport.State.FAILED
    else:
        export.state, export.parts_done = OrganizationExport.State.DONE, len(_parts)
        export.expires_at = _expiry(export.organization)
    export.finished_at, export.part = timezone.now(), ""
    export.save(update_fields=["name", "byte_size", "state", "parts_done", "expires_at", "finished_at", "part"])


def _write(archive: zipfile.ZipFile, directory: Path, name: str, rows: Iterator[Row]) -> None:
    """The rows twice, as JSON and as CSV, in one pass over them."""
    first = next(rows, None)
    with ExitStack() as stack:
        as_json = stack.enter_context((directory / f"{name}.json").open("w"))
        as_csv = stack.enter_context((directory / f"{name}.csv").open("w", newline=""))
        as_json.write("[")
        if first is not None:
            writer = csv.DictWriter(as_csv, list(first))
            writer.writeheader()
            for number, row in enumerate(chain([first], rows)):
                as_json.write((",\n" if number else "\n") + json.dumps(row, cls=DjangoJSONEncoder))
                writer.writerow(spreadsheets.plain_row({key: _cell(value) for key, value in row.items()}))
        as_json.write("\n]\n")
    for extension in ("json", "csv"):
        archive.write(directory / f"{name}.{extension}", f"{name}.{extension}")
        (directory / f"{name}.{extension}").unlink()


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, cls=DjangoJSONEncoder)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _counted(export: OrganizationExport, rows: Iterable[Row]) -> Iterator[Row]:
    pending = 0
    for row in rows:
        yield row
        pending += 1
        if pending == TOUCH_EVERY:
            _touch(export, rows=F("rows") + pending)
            pending = 0
    _touch(export, rows=F("rows") + pending)


def _touch(export: OrganizationExport, **fields: Any) -> None:
    OrganizationExport.objects.filter(pk=export.pk).update(touched_at=timezone.now(), **fields)


def _expiry(organization: Organization) -> Any:
    """When the file goes: after a week, or with the organization that is being deleted."""
    organization.refresh_from_db(fields=["deletes_at"])
    week = timezone.now() + KEPT_FOR
    return max(week, organization.deletes_at) if organization.deletes_at else week
