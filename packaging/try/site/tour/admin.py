"""The guestbook in Django's admin."""

from django.contrib import admin

from .models import Entry


@admin.register(Entry)
class EntryAdmin(admin.ModelAdmin):
    """Entries with the worker that stored each."""

    list_display = ["name", "text", "written", "worker"]
    search_fields = ["name", "text"]
    readonly_fields = ["written", "worker"]

    def has_add_permission(self, request):
        """Entries are written in the guestbook, where the worker is recorded."""
        return False
