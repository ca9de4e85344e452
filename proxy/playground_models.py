"""Conversations that members keep in the playground. They are their author's alone, within one organization."""

import uuid

from django.db import models
from django.utils import timezone

from accounts.models import Organization, User


class Conversation(models.Model):
    """A conversation. `settings` are what its next request will ask with: system, temperature, top_p, max_tokens."""

    public_id = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="conversations", db_index=False)
    author = models.ForeignKey(User, models.CASCADE, related_name="conversations")
    title = models.CharField(max_length=120)
    model = models.CharField(max_length=200)
    settings = models.JSONField(default=dict)
    forked_from = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="forks")
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-updated_at", "-id")
        indexes = [
            models.Index(fields=["organization", "author", "-updated_at", "-id"], name="conversation_by_author"),
        ]

    def __str__(self) -> str:
        return str(self.public_id)


class ConversationMessage(models.Model):
    """What was said. `images` are data URLs; `request_id` names the request that made an answer.

    `ending` is how an answer ended: OpenAI's finish reason, `stopped` by its reader, or `cut`. `cost_nanos` is empty
    while the charge is not known.
    """

    class Role(models.TextChoices):
        USER = "user"
        ASSISTANT = "assistant"

    public_id = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="messages", db_index=False)
    position = models.PositiveIntegerField()
    role = models.CharField(max_length=10, choices=Role)
    text = models.TextField(blank=True)
    images = models.JSONField(default=list, blank=True)
    model = models.CharField(max_length=200, blank=True)
    request_id = models.UUIDField(null=True, blank=True)
    cost_nanos = models.BigIntegerField(null=True, blank=True)
    ending = models.CharField(max_length=20, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("position",)
        constraints = [
            models.UniqueConstraint(fields=["conversation", "position"], name="conversation_position_once"),
            models.CheckConstraint(
                condition=models.Q(role__in=["user", "assistant"]), name="conversation_message_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} {self.public_id}"
