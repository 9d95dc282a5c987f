"""Show the account page, where a seller also creates and revokes API tokens."""

from typing import cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from knox.models import AuthToken

from portal.accounts import notices, tokens
from portal.models import User
from portal.privacy import views as privacy

MOST_TOKENS = 20


@login_required
@require_safe
def account(request: HttpRequest) -> HttpResponse:
    return _page(request)


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def token_create(request: HttpRequest) -> HttpResponse:
    """Create a token and show it in this response only. A GET, as after a log-in, redirects to the account page."""
    if request.method != "POST":
        return redirect("account")
    user = cast(User, request.user)
    if AuthToken.objects.filter(user=user).count() >= MOST_TOKENS:
        messages.error(request, _("You have %(count)d tokens. Revoke one first.") % {"count": MOST_TOKENS})
        return redirect("account")
    form = tokens.TokenForm(request.POST)
    if not form.is_valid():
        return _page(request, form=form)
    secret = tokens.create_token(user=user, **form.cleaned_data)
    notices.notify(request, user, notices.TOKEN_CREATED)
    return _page(request, new_token=secret)


@login_required
@require_POST
def token_revoke(request: HttpRequest, pk: str) -> HttpResponse:
    get_object_or_404(AuthToken, user=cast(User, request.user), pk=pk).delete()
    messages.success(request, _("The token is revoked."))
    return redirect("account")


def _page(request: HttpRequest, new_token: str | None = None, form: tokens.TokenForm | None = None) -> HttpResponse:
    user = cast(User, request.user)
    context = {
        "tokens": AuthToken.objects.filter(user=user).select_related("details").order_by("-created"),
        "token_form": form or tokens.TokenForm(),
        "new_token": new_token,
        "now": timezone.now(),
        **privacy.context(user),
    }
    return render(request, "account/index.html", context, status=422 if form else 200)
