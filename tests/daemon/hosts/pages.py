"""A page for the cases about hosts, besides those of the cases about state."""

from django.http import StreamingHttpResponse
from django.urls import path

from .pages import urlpatterns as others

BLOCK = b"." * 65536


def endless(request):
    """Send more than fits into all buffers on the way, so that the worker waits for whoever reads."""
    blocks = (BLOCK for _ in range(1000))
    return StreamingHttpResponse(blocks, headers={"X-Accel-Buffering": "no"})


urlpatterns = [*others, path("endless", endless)]
