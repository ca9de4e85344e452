"""Proves the books; exit 1 on any drift."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing import reconciliation, stripe_api, stripe_proof


class Command(BaseCommand):
    help = "Prove the books: one line a check; exit 1 on any drift."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--repair", action="store_true", help="compute derived figures anew; never a transfer")

    def handle(self, *args: Any, repair: bool, **options: Any) -> None:
        if repair:
            for drift in reconciliation.repair():
                self.stdout.write(f"repaired  {drift}")
        found = reconciliation.check()
        names = [*reconciliation.NAMES]
        try:
            found += stripe_proof.check()
            names += ["stripe_paid", "stripe_amount", "stripe_refunded"] if stripe_api.is_on() else []
        except stripe_api.StripeUnavailable as error:
            self.stdout.write(f"?      stripe: {error}")
        for name in names:
            drifts = [drift for drift in found if drift.check == name]
            self.stdout.write(f"{'DRIFT' if drifts else 'ok':5}  {name}")
            for drift in drifts:
                self.stdout.write(f"       {drift}")
        if found:
            raise CommandError(f"The books drift: {len(found)} findings.")
        self.stdout.write("The books are right.")
