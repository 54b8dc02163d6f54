"""The Django site of packaging/try/site, each page held back."""

from held_back import held_back
from tour.wsgi import application as site

application = held_back(site)
