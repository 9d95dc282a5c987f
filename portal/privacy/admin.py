"""Show erasures and the privacy log in the admin, and erase accounts."""

from typing import Any, cast

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display

from classifier.admin.base import ReadOnlyAdmin
from feedback.models import Erasure
from portal.models import User
from portal.privacy import services
from portal.privacy.models import PrivacyEvent

ERASE = "portal.delete_user"
STATE_COLOURS = {"asked": "warning", "cancelled": "default", "running": "info", "done": "success"}


class ByNumberAdmin(ReadOnlyAdmin):
    """Rows about accounts that may no longer exist, searched by the account's number."""

    search_fields = ["account"]
    search_help_text = _("An account's number")

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        is_number = term.isascii() and term.isdigit() and len(term) < 19
        return (queryset.filter(account=int(term)) if is_number else queryset.none()), False


@admin.register(Erasure)
class ErasureAdmin(ByNumberAdmin):
    list_display = ["account", "state_badge", "asked_at", "due_at", "via", "asked_by", "finished_at", "error"]
    list_display_links = ["account"]
    list_filter = ["state", "via"]
    fields = [
        "id", "account", "joined_at", "state", "via", "asked_by", "asked_at", "due_at", "cancelled_by", "started_at",
        "finished_at", "replayed_at", "attempts", "error", "figures",
    ]  # fmt: skip
    readonly_fields = ["figures"]

    @display(description=_("state"), label=STATE_COLOURS)
    def state_badge(self, erasure: Erasure) -> tuple[str, str]:
        return erasure.state, erasure.get_state_display()

    @admin.display(description=_("what went"))
    def figures(self, erasure: Erasure) -> str:
        return in_words(erasure.counts)


@admin.register(PrivacyEvent)
class PrivacyEventAdmin(ByNumberAdmin):
    list_display = ["created_at", "kind", "account", "actor", "figures"]
    list_filter = ["kind"]
    fields = ["created_at", "kind", "account", "actor", "figures"]
    readonly_fields = ["figures"]

    @admin.display(description=_("figures"))
    def figures(self, event: PrivacyEvent) -> str:
        return in_words(event.counts)


def in_words(counts: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items()) or "–"


def erase_page(page: ModelAdmin, request: HttpRequest, pk: int) -> HttpResponse:
    """Ask an administrator to confirm the erasure of an account, and schedule it. Raises PermissionDenied."""
    if not request.user.has_perm(ERASE):
        raise PermissionDenied
    administrator = cast(User, request.user)  # the permission implies a user
    user = get_object_or_404(User, pk=pk)
    back = reverse("admin:portal_user_change", args=[pk])
    asked = Erasure.objects.find_open(user.pk, user.date_joined)
    if request.method == "POST":
        if "keep" in request.POST:
            if services.cancel_erasure(user=user, by=administrator):
                messages.success(request, _("The account stays."))
            else:
                messages.warning(request, _("There was nothing to cancel: the erasure has begun."))
            return redirect(back)
        try:
            services.request_erasure(user=user, by=administrator, via=Erasure.Via.ADMIN, now="now" in request.POST)
        except services.Refused as error:
            messages.error(request, str(error))
            return redirect(back)
        messages.success(request, _("The account will be erased."))
        return redirect("admin:feedback_erasure_changelist")
    facts = [
        (_("Account"), user.email),
        (_("Joined"), f"{user.date_joined:%Y-%m-%d}"),
        (_("Products"), user.products.count()),
    ]
    if asked:
        facts.append((_("Scheduled for"), f"{asked.due_at:%Y-%m-%d %H:%M} UTC"))
    context = {
        **page.admin_site.each_context(request),
        "opts": page.opts,
        "title": _("Erase this account?"),
        "facts": facts,
        "asked": asked,
        "back": back,
    }
    return TemplateResponse(request, "admin/portal/erase.html", context)
