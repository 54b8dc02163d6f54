"""The guestbook's form."""

from django import forms

from .models import Entry


class EntryForm(forms.ModelForm):
    """What a visitor may fill in."""

    class Meta:
        model = Entry
        fields = ["name", "text", "attachment"]
        widgets = {"text": forms.Textarea(attrs={"rows": 3})}
