"""`manage.py prepare`: bring the database up to date and make the demonstration's user."""

import os

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """Safe to run again: what is there already stays, the password is set anew."""

    help = "Make or update the database, and the user `demo` with the password in TOUR_PASSWORD."

    def handle(self, *args, **options):
        password = os.environ.get("TOUR_PASSWORD")
        if not password:
            raise CommandError("TOUR_PASSWORD is not set: it is the password that `demo` gets")
        call_command("migrate", verbosity=0, interactive=False)
        user, _ = get_user_model().objects.get_or_create(
            username="demo", defaults={"is_staff": True, "is_superuser": True}
        )
        if not user.check_password(password):
            user.set_password(password)
            user.save()
