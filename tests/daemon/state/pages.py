"""Pages and a way to log in for the cases about state, besides the site's own."""

import os
import time

from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.core.cache import cache
from django.db import connection
from django.http import HttpResponse
from django.urls import path

from .urls import urlpatterns as site


class Visitors(ModelBackend):
    """Lets everybody in, each with an account that is made at the first visit."""

    def authenticate(self, request, username=None, password=None):
        user, _ = get_user_model().objects.get_or_create(username=username)
        return user


def text(*lines):
    return HttpResponse("\n".join(map(str, lines)), content_type="text/plain")


def note(request):
    """Keep a note in the session; say whose session it is, what is noted there, and who answers."""
    if request.method == "POST":
        request.session["note"] = request.POST["text"]
    return text(request.user.get_username(), request.session.get("note", ""), os.getpid())


def backend(request):
    """Hold a worker for a moment; say which it is, and which process of the database speaks with it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    time.sleep(0.1)
    return text(os.getpid(), pid)


def cached(request):
    """Say what the cache has for a key of this worker's own."""
    cache.set(f"worker-{os.getpid()}", os.getpid())
    time.sleep(0.1)
    return text(os.getpid(), cache.get(f"worker-{os.getpid()}"))


urlpatterns = [*site, path("note", note), path("backend", backend), path("cached", cached)]
