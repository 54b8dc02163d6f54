"""A Django site as `django-admin startproject` makes it, in one file, with one page, which is held back."""

import itertools
import os

from django.conf import settings

settings.configure(
    SECRET_KEY="not a secret: nothing is signed here",
    ALLOWED_HOSTS=["localhost"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.staticfiles",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ],
            },
        },
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    STATIC_URL="static/",
)

from django.core.wsgi import get_wsgi_application  # noqa: E402 (needs the settings)
from held_back import held_back  # noqa: E402

application = held_back(get_wsgi_application())

from django.contrib import admin  # noqa: E402 (needs the applications)
from django.http import HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

# Counted per process: each worker is forked with its own copy.
served = itertools.count(1)


def home(request):
    return HttpResponse(f"<p>Made by worker <b>{os.getpid()}</b>, its page number {next(served)}.</p>")


urlpatterns = [path("admin/", admin.site.urls), path("", home)]
