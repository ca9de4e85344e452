"""A public id for people: what tokens and the API call them by. PostgreSQL gives every row that is there its own."""

import uuid

from django.contrib.postgres.functions import RandomUUID
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0007_fallback_model")]

    operations = [
        migrations.AddField(
            "user",
            "public_id",
            models.UUIDField(db_default=RandomUUID(), default=uuid.uuid4, editable=False, unique=True),
        ),
    ]
