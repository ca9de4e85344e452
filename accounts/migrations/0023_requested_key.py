"""Who asked for a key on the self-service page."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0022_device_login")]

    operations = [
        migrations.CreateModel(
            name="RequestedKey",
            fields=[
                (
                    "key",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="requested",
                        serialize=False,
                        to="accounts.apikey",
                    ),
                ),
                ("username", models.CharField(db_index=True, max_length=80)),
                ("note", models.CharField(blank=True, max_length=200)),
            ],
        ),
    ]
