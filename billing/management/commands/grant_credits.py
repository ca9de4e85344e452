"""Gives an organization credits."""

from typing import Any
from uuid import uuid4

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Organization
from billing import ledger, money


class Command(BaseCommand):
    help = "Give an organization credits: a transfer from adjustments."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--org", required=True, metavar="SLUG")
        parser.add_argument("--credits", required=True, metavar="N", help="1 credit is $0.01; such as 250 or 12.5")
        parser.add_argument("--reason", required=True)
        parser.add_argument("--idempotency-key", default="", help="granted once, however often this runs")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = Organization.objects.filter(slug=options["org"]).first()
        if organization is None:
            raise CommandError(f"There is no organization {options['org']!r}.")
        key = options["idempotency_key"]
        try:
            ledger.grant(
                organization=organization,
                amount=money.nanos_from_credits(options["credits"]),
                reason=options["reason"],
                idempotency_key=f"grant:{key or uuid4()}",
            )
        except (money.InvalidAmount, ledger.InvalidTransfer):
            raise CommandError(f"{options['credits']!r} is not a positive amount of credits.") from None
        except ledger.IdempotencyMismatch as error:
            raise CommandError(f"The idempotency key was used for another grant: {error.existing}.") from None
        available = money.format_credits(ledger.balance_of(organization).available)
        self.stdout.write(f"{organization.slug} has {available} credits available.")
