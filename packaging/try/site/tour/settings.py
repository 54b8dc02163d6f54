"""Settings of the tour site.

All that the site writes lies in the folder that TOUR_STATE names: the database and
the secret key. Nothing is kept in a worker's memory that another worker would need:
sessions live in the database, so that any worker can answer any request.
"""

import os
import secrets
from pathlib import Path

BASE = Path(__file__).resolve().parent.parent
STATE = Path(os.environ["TOUR_STATE"])


def kept_secret(path: Path) -> str:
    """Return the secret in `path`, made at the first call and kept for all later ones."""
    try:
        with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(secrets.token_urlsafe(48))
    except FileExistsError:
        pass
    return path.read_text()


SECRET_KEY = kept_secret(STATE / "secret_key")
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "tour",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "tour.context.served_by",
            ],
        },
    },
]
ROOT_URLCONF = "tour.urls"
WSGI_APPLICATION = "tour.wsgi.application"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": STATE / "db.sqlite3",
        "OPTIONS": {
            # Several workers write: a writer waits for the other, and takes its lock
            # at the start of the transaction, where waiting is still possible.
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SESSION_ENGINE = "django.contrib.sessions.backends.db"

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "account"
LOGOUT_REDIRECT_URL = "home"

# Uploads. A view hands them out, as attachments: what visitors send is not to run in other visitors' browsers.
MEDIA_ROOT = STATE / "media"

STATIC_URL = "static/"
STATIC_ROOT = os.environ.get("TOUR_STATIC")
USE_TZ = True
TIME_ZONE = "UTC"

# What goes wrong is written to stderr, which preforkd puts into its log.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {"django": {"handlers": ["stderr"], "level": "ERROR", "propagate": False}},
}
