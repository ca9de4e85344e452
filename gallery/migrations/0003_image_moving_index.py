"""Finding the images whose files have to move, without a lock that waits."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("gallery", "0002_image_version")]

    operations = [
        AddIndexConcurrently(
            "image",
            models.Index(fields=["-id"], condition=models.Q(is_moving=True), name="image_moving"),
        )
    ]
