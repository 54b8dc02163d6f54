"""The guestbook in Django's admin."""

import os

from django.contrib import admin

from .models import Entry


@admin.register(Entry)
class EntryAdmin(admin.ModelAdmin):
    """Entries with the worker that stored each."""

    list_display = ["name", "text", "written", "worker"]
    search_fields = ["name", "text"]
    readonly_fields = ["written", "worker"]

    def save_model(self, request, obj, form, change):
        """Record the worker that stores a new entry, as the guestbook does."""
        if not change:
            obj.worker = os.getpid()
        super().save_model(request, obj, form, change)
