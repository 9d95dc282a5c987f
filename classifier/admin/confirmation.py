"""Ask for confirmation before the live versions change."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from unfold.admin import ModelAdmin

from classifier.ml.artifact import ArtifactError
from classifier.models import ModelVersion
from classifier.registry import deployments
from common.formatting import format_count, format_percent
from common.object_storage import StorageDown

DEPLOY = "classifier.deploy_modelversion"


class Refused(Exception):
    """A change that can't be made now; the message says why."""


REFUSALS = (ArtifactError, StorageDown, deployments.NotDeployable, deployments.NothingToRollBack, Refused)


def confirm_change(
    page: ModelAdmin, request: HttpRequest, question: dict[str, Any], act: Callable[[], tuple[str, str]], *, back: str
) -> HttpResponse:
    """Show the question; once it is posted, run `act`, which returns a message and the URL to redirect to.

    A question has `title`, `facts` (name, value) and `verb`; optional are `with_note`, `with_share`, `seen`, which is
    posted with it, `side`, a SideBySide to show, and `phrase`, which has to be typed. Raises PermissionDenied for a
    user who may not deploy.
    """
    if not request.user.has_perm(DEPLOY):
        raise PermissionDenied
    # The same phrase in other case or spacing shows the same intention.
    phrase = str(question.get("phrase", ""))
    is_typed = not phrase or " ".join(request.POST.get("typed", "").split()).casefold() == phrase.casefold()
    if request.method == "POST" and is_typed:
        try:
            message, address = act()
        except REFUSALS as error:
            messages.error(request, _("Nothing was changed. %(why)s") % {"why": error})
            return redirect(back)
        messages.success(request, message)
        return redirect(address)
    question["problem"] = request.method == "POST" and not is_typed
    question["note"], question["share"] = request.POST.get("note", ""), request.POST.get("share", "")
    context = {**page.admin_site.each_context(request), "opts": page.opts, "back": back, **question}
    return TemplateResponse(request, "admin/classifier/confirm.html", context)


def describe_version(version: ModelVersion | None, nothing: str = "") -> str:
    """Return a version with its accuracy on its own test products, which differ between versions."""
    if version is None:
        return nothing or _("nothing")
    words = {"version": version, "accuracy": format_percent(version.accuracy, 1)}
    if count := version.metrics.get("n"):
        return _("%(version)s, %(accuracy)s on its own %(count)s test products") % {
            **words,
            "count": format_count(count),
        }
    return _("%(version)s, %(accuracy)s on its own test products") % words


def experiment_url(modality: str) -> str:
    """Return the URL of the experiment's page; that of the list of versions where `feedback` is not installed."""
    try:
        return reverse("experiment", args=[modality])
    except NoReverseMatch:
        return reverse("admin:classifier_modelversion_changelist")
