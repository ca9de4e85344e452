"""Devices that wait for a person's approval."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0021_api_session")]

    operations = [
        migrations.CreateModel(
            name="DeviceLogin",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("device_digest", models.CharField(editable=False, max_length=64, unique=True)),
                ("user_digest", models.CharField(editable=False, max_length=64, unique=True)),
                ("client_id", models.CharField(blank=True, max_length=80)),
                ("client_name", models.CharField(blank=True, max_length=80)),
                ("ip", models.GenericIPAddressField(blank=True, null=True)),
                ("user_agent", models.CharField(blank=True, max_length=300)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("approved", "Approved"),
                            ("denied", "Denied"),
                            ("complete", "Complete"),
                        ],
                        default="pending",
                        max_length=10,
                    ),
                ),
                ("interval_s", models.PositiveSmallIntegerField(default=5)),
                ("polled_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("expires_at", models.DateTimeField(db_index=True)),
                (
                    "organization",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("status__in", ["approved", "complete"]), _negated=True),
                            models.Q(("organization__isnull", False), ("user__isnull", False)),
                            _connector="OR",
                        ),
                        name="device_login_approved_by_somebody",
                    )
                ],
            },
        ),
    ]
