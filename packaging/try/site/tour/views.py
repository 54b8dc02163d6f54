"""The pages."""

import os
import time

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import FileResponse, Http404, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from .forms import EntryForm
from .models import Entry
from .processes import siblings

SLOWEST_MS = 10_000


def home(request):
    """Say what there is to see."""
    return render(request, "tour/home.html", {"entries": Entry.objects.count()})


def guestbook(request):
    """List the newest entries; store a new one."""
    form = EntryForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        entry = form.save(commit=False)
        entry.worker = os.getpid()
        entry.save()
        messages.success(request, f"Stored by worker {entry.worker}.")
        return redirect("guestbook")
    context = {"form": form, "entries": Entry.objects.all()[:20], "total": Entry.objects.count()}
    return render(request, "tour/guestbook.html", context)


@require_POST
def guestbook_several(request):
    """Store an entry for each line, which is `name: text`; all of them, or none."""
    lines = request.POST.get("lines", "").splitlines()
    try:
        with transaction.atomic():
            for number, line in enumerate(lines, 1):
                name, _, text = line.partition(":")
                form = EntryForm({"name": name.strip(), "text": text.strip()})
                if not form.is_valid():
                    raise ValueError(f"Nothing was stored: line {number} is not a name, a colon and a text.")
                form.instance.worker = os.getpid()
                form.save()
    except ValueError as mistake:
        messages.error(request, str(mistake))
    else:
        messages.success(request, f"Stored {len(lines)}.")
    return redirect("guestbook")


def attachment(request, entry):
    """Hand out the file that came with an entry."""
    file = get_object_or_404(Entry, pk=entry).attachment
    if not file:
        raise Http404
    return FileResponse(file.open("rb"), as_attachment=True)


@never_cache
def counter(request):
    """Count this visitor's views, in the session."""
    request.session["views"] = request.session.get("views", 0) + 1
    workers = request.session.setdefault("workers", [])
    if os.getpid() not in workers:
        request.session["workers"] = [*workers, os.getpid()][-8:]
    return render(
        request,
        "tour/counter.html",
        {"views": request.session["views"], "workers": request.session["workers"]},
    )


@require_POST
def counter_reset(request):
    """Start this visitor's count again."""
    request.session.pop("views", None)
    request.session.pop("workers", None)
    return redirect("counter")


@login_required
def account(request):
    """A page for those who have logged in."""
    return render(request, "tour/account.html")


@never_cache
def workers(request):
    """Show the pool's processes as they are now."""
    return render(request, "tour/workers.html", {"processes": siblings(os.getpid()), "own": os.getpid()})


@never_cache
def worker(request):
    """Say in plain text which worker answers."""
    return HttpResponse(f"{os.getpid()}\n", content_type="text/plain")


@never_cache
def slow(request):
    """Hold a worker for `ms` milliseconds (200 unless told)."""
    try:
        ms = int(request.GET.get("ms", "200"))
    except ValueError:
        ms = -1
    if not 0 <= ms <= SLOWEST_MS:
        return HttpResponseBadRequest(f"ms is a whole number from 0 to {SLOWEST_MS}\n", content_type="text/plain")
    time.sleep(ms / 1000)
    return HttpResponse(f"worker {os.getpid()} slept {ms} ms\n", content_type="text/plain")
