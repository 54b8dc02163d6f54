"""The Django site of packaging/try/site, each page held back for a moment.

So a client for each worker, all at once, reach every worker exactly once.
"""

import time

from tour.wsgi import application as site


def application(environ, start_response):
    time.sleep(0.025)
    return site(environ, start_response)
