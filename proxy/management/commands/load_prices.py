"""`manage.py load_prices [FILE]`"""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from billing import price_list, rates
from billing.price_models import Price
from proxy import catalog_loading, providers


class Command(BaseCommand):
    help = (
        "Load or update prices and models from the catalogue (or FILE in its format), and MODEL_PRICING_JSON; then "
        "make the providers that the environment configures. Idempotent: old prices keep their effective dates."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, help="a price list (format: billing/catalogue/README.md)")

    def handle(self, *, file: Path | None, **options: Any) -> None:
        try:
            entries = price_list.read(file) if file else price_list.read_catalogue()
            overrides = price_list.read_setting(settings.MODEL_PRICING_JSON)
        except price_list.InvalidPriceList as error:
            raise CommandError(str(error)) from None
        origin = Price.Origin.FILE if file else Price.Origin.CATALOGUE
        try:
            with transaction.atomic():
                prices = rates.load(entries, overrides=overrides, origin=origin)
                added, changed = catalog_loading.load(entries, overrides=overrides)
                configured = providers.sync_from_settings()
        except ValidationError as error:
            raise CommandError(f"provider from the environment: {'; '.join(error.messages)}") from None
        names = ", ".join(provider.slug for provider in configured) or "none"
        self.stdout.write(
            f"prices: {prices.added} new, {prices.unchanged} unchanged; models: {added} new, {changed} changed; "
            f"providers from the environment: {names}"
        )
