"""What members keep of the request log."""

import uuid

from django.db import models
from django.db.models.functions import Now

from accounts.models import Membership


class SavedView(models.Model):
    """Filters of the request log that one member gave a name. `query` is that of the page's address."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    membership = models.ForeignKey(Membership, models.CASCADE, related_name="saved_views", db_index=False)
    name = models.CharField(max_length=60)
    query = models.TextField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["membership", "name"], name="saved_view_once")]

    def __str__(self) -> str:
        return self.name
