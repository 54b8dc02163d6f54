"""What holds each page back for a moment: as many clients as workers, all at once, then reach every worker once."""

import time


def held_back(site):
    def application(environ, start_response):
        time.sleep(0.025)
        return site(environ, start_response)

    return application
