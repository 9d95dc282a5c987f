"""Let people export their data and erase their account."""

import uuid
from typing import Any, cast

from allauth.core import ratelimit
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.storage import storages
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from common.object_storage import StorageDown, storage_faults
from feedback.models import Erasure
from portal.accounts import notices
from portal.models import Product, User
from portal.privacy import services
from portal.privacy.forms import PasswordForm
from portal.privacy.models import Export, PrivacyEvent, log_event

UNPROCESSABLE = 422


def context(user: User) -> dict[str, Any]:
    """Return what the account page shows of a person's erasure and newest export."""
    export = Export.objects.filter(user=user).exclude(state=Export.State.DELETED).first()
    if export and export.state == Export.State.READY and not export.is_ready:
        export = None
    return {"erasure": Erasure.objects.find_open(user.pk, user.date_joined), "export": export}


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def erase(request: HttpRequest) -> HttpResponse:
    """Schedule the erasure of one's own account, after asking for the password again."""
    user = cast(User, request.user)
    if user.is_staff:
        messages.error(request, _("Staff accounts are erased by another administrator, in the admin."))
        return redirect("account")
    if not user.has_usable_password():
        messages.info(request, _("Set a password first: you need it to erase your account."))
        return redirect("account_set_password")
    status = 200
    form = PasswordForm(request.POST or None, user=user)
    if request.method == "POST":
        if not ratelimit.consume(request, action="reauthenticate", user=user):
            return render(request, "429.html", {"seconds": 60}, status=429)
        if form.is_valid():
            erasure = services.request_erasure(user=user, by=user, via=Erasure.Via.PAGE)
            if erasure.due_at > timezone.now():
                messages.success(request, _("Your account will be erased. Until then you can change your mind here."))
            else:
                messages.success(request, _("Your account is being erased."))
            return redirect("account")
        status = UNPROCESSABLE
    facts = {"form": form, "days": settings.ERASURE_DAYS, "products": Product.objects.filter(seller=user).count()}
    return render(request, "account/erase.html", facts, status=status)


@login_required
@require_POST
def erase_cancel(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    if services.cancel_erasure(user=user, by=user):
        messages.success(request, _("Your account stays. Nothing has been deleted."))
    else:
        messages.info(request, _("There was no erasure to cancel."))
    return redirect("account")


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def export_ask(request: HttpRequest) -> HttpResponse:
    """Request a data export. A GET, as after a log-in, redirects to the account page."""
    if request.method != "POST":
        return redirect("account")
    user = cast(User, request.user)
    try:
        services.request_export(user=user)
    except services.Refused as error:
        messages.info(request, str(error))
    else:
        notices.notify(request, user, notices.EXPORT_REQUESTED)
    return redirect("account")


@login_required
@never_cache
@require_safe
def export_state(request: HttpRequest) -> HttpResponse:
    """Show the export's progress, for the account page that polls while it is being built."""
    return render(request, "account/_export.html", context(cast(User, request.user)))


@login_required
@never_cache
@require_safe
def export_fetch(request: HttpRequest, pk: uuid.UUID) -> FileResponse:
    """Download one's own export until it expires."""
    user = cast(User, request.user)
    export = get_object_or_404(Export, user=user, pk=pk)
    if not export.is_ready:
        raise Http404
    try:
        with storage_faults():
            file = storages["private"].open(export.path)
    except (FileNotFoundError, StorageDown) as error:
        raise Http404 from error
    log_event(PrivacyEvent.Kind.EXPORT_FETCHED, account=user.pk, actor=user.pk)
    name = f"aisle-{export.created_at:%Y-%m-%d}.zip"
    return FileResponse(file, as_attachment=True, filename=name, content_type="application/zip")
