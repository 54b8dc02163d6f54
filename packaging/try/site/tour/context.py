"""What every page shows at its foot: the worker that made it."""

import itertools
import os

# Counted per process: each worker is forked with its own copy.
_served = itertools.count(1)


def served_by(request):
    """Give templates the worker's pid and how many pages it has made."""
    return {"worker_pid": os.getpid(), "worker_served": next(_served)}
