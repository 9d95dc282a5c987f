"""Let a seller write one note about a confirmed fraud case, without showing how the case was found."""

from typing import cast

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _later
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from common.text import clean_lines
from feedback.fraud_cases.services import APPEAL_LENGTH, CaseNotOpen, appeal_case
from feedback.models import Case
from portal.models import User

UNPROCESSABLE = 422


class AppealForm(forms.Form):
    """The note of a seller."""

    note = forms.CharField(
        label=_later("Your note"),
        widget=forms.Textarea(attrs={"rows": 6, "maxlength": APPEAL_LENGTH, "dir": "auto"}),
        error_messages={"required": _later("Write a sentence or two first.")},
    )

    def clean_note(self) -> str:
        return clean_lines(self.cleaned_data["note"])


def appealable_case(seller: User) -> Case | None:
    """Return the case that the seller may appeal, or None where FRAUD_APPEALS is off."""
    if not settings.FRAUD_APPEALS:
        return None
    return Case.objects.appealable(seller).only("appeal", "appealed_at", "seller").first()


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def appeal(request: HttpRequest) -> HttpResponse:
    """Show what is being checked, with a form for the note."""
    seller = cast(User, request.user)
    case = appealable_case(seller)
    if case is None:
        raise Http404
    if request.method != "POST":
        return render(request, "account/appeal.html", {"case": case, "form": AppealForm()})
    form = AppealForm(request.POST)
    if form.is_valid():
        try:
            appeal_case(seller=seller, note=form.cleaned_data["note"])
        except ValidationError as error:
            form.add_error("note", error)
        except CaseNotOpen:
            messages.info(request, _("You have already sent your note."))
            return redirect("account")
        else:
            messages.success(request, _("Thank you. A person will read your note."))
            return redirect("appeal")
    return render(request, "account/appeal.html", {"case": case, "form": form}, status=UNPROCESSABLE)
