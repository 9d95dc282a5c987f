"""The page that asks before something changes what serves."""

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

from classifier import registry
from classifier.artifact import ArtifactError
from classifier.models import ModelVersion
from classifier.storage import StorageDown

DEPLOY = "classifier.deploy_modelversion"
REFUSALS = (ArtifactError, StorageDown, registry.NotDeployable, registry.NothingToRollBack)


def confirm(
    page: ModelAdmin, request: HttpRequest, question: dict[str, Any], act: Callable[[], tuple[str, str]], *, back: str
) -> HttpResponse:
    """Ask the question; posted, `act`, which returns what to say and the address to go to.

    A question has `title`, `facts` (name, value) and `verb`; also `with_note`, `with_share` and `seen`, which is
    posted with it. Raises PermissionDenied for who may not deploy.
    """
    if not request.user.has_perm(DEPLOY):
        raise PermissionDenied
    if request.method == "POST":
        try:
            said, address = act()
        except REFUSALS as error:
            messages.error(request, _("Nothing was changed. %(why)s") % {"why": error})
            return redirect(back)
        messages.success(request, said)
        return redirect(address)
    context = {**page.admin_site.each_context(request), "opts": page.opts, "back": back, **question}
    return TemplateResponse(request, "admin/classifier/confirm.html", context)


def described(version: ModelVersion | None, nothing: str = "") -> str:
    """Return a version with its accuracy."""
    if version is None:
        return nothing or _("nothing")
    return _("%(version)s, accuracy %(accuracy).1f %%") % {"version": version, "accuracy": 100 * version.accuracy}


def experiment_url(modality: str) -> str:
    """Return the page where variants are compared, which the room above has; the list of versions without it."""
    try:
        return reverse("experiment", args=[modality])
    except NoReverseMatch:
        return reverse("admin:classifier_modelversion_changelist")
