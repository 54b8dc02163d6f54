"""What the site stores."""

from django.db import models


class Entry(models.Model):
    """A line in the guestbook."""

    name = models.CharField(max_length=60)
    text = models.TextField(max_length=500)
    attachment = models.FileField(upload_to="attachments", blank=True)
    written = models.DateTimeField(auto_now_add=True)
    worker = models.PositiveIntegerField(help_text="pid of the worker that stored it")

    class Meta:
        ordering = ["-written", "-id"]
        verbose_name_plural = "entries"

    def __str__(self):
        return f"{self.name}: {self.text[:40]}"
