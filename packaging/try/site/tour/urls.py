"""Which address shows which page."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from . import views

urlpatterns = [
    path("", views.home, name="home"),
    path("guestbook/", views.guestbook, name="guestbook"),
    path("guestbook/several/", views.guestbook_several, name="guestbook_several"),
    path("guestbook/<int:entry>/attachment", views.attachment, name="attachment"),
    path("counter/", views.counter, name="counter"),
    path("counter/reset/", views.counter_reset, name="counter_reset"),
    path("account/", views.account, name="account"),
    path("login/", LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("workers/", views.workers, name="workers"),
    path("worker", views.worker, name="worker"),
    path("slow", views.slow, name="slow"),
    path("admin/", admin.site.urls),
]
