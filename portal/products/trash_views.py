"""Delete products, show the trash, and restore from it."""

import uuid
from datetime import datetime
from typing import cast

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from portal.models import Product, User
from portal.products import services
from portal.products.list_place import given_list_query, list_url
from portal.products.paging import ProductPages
from portal.products.undo import undo_tag
from portal.products.views import explains_deleted, parse_uuid, stored_photo

MOST_AT_ONCE = 200


@login_required
@require_POST
@explains_deleted
def product_delete(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Move a product to the trash."""
    mine = Product.objects.for_seller(_seller(request))
    title, moment = str(get_object_or_404(mine, pk=pk)), timezone.now()
    if not services.trash_products(products=mine.filter(pk=pk), at=moment):
        raise Http404  # another tab was faster
    messages.success(request, _("Deleted “%(title)s”.") % {"title": title}, extra_tags=undo_tag(moment))
    return redirect(list_url(given_list_query(request)))


@login_required
@require_POST
def products_delete(request: HttpRequest) -> HttpResponse:
    """Move the chosen products to the trash."""
    chosen, moment = _chosen(request, Product.objects.for_seller(_seller(request))), timezone.now()
    if count := services.trash_products(products=chosen, at=moment):
        words = ngettext("Deleted %(count)d product.", "Deleted %(count)d products.", count)
        messages.success(request, words % {"count": count}, extra_tags=undo_tag(moment))
    else:
        messages.info(request, _("Choose at least one product first."))
    return redirect(list_url(given_list_query(request)))


@login_required
@require_safe
def trash(request: HttpRequest) -> HttpResponse:
    """List the products in the trash, the ones deleted last first."""
    found = Product.objects.trash_of(_seller(request)).order_by("-deleted_at", "pk")
    page = ProductPages(found, is_search=False).get_page(request.GET.get("page"))
    context = {"page": page, "total": page.paginator.count, "days": settings.TRASH_DAYS, "now": timezone.now()}
    return render(request, "products/trash.html", context)


@login_required
@require_POST
def products_restore(request: HttpRequest) -> HttpResponse:
    """Restore the chosen products, or all that were deleted at one moment, as the undo button of a message does."""
    deleted = Product.objects.trash_of(_seller(request))
    moment = _moment(request.POST.get("deleted_at", ""))
    chosen = deleted.filter(deleted_at=moment) if moment else _chosen(request, deleted)
    single = chosen.first() if chosen.count() == 1 else None
    count = services.restore_products(products=chosen)
    if single and count:
        messages.success(request, _("Restored “%(title)s”.") % {"title": single})
    elif count:
        words = ngettext("Restored %(count)d product.", "Restored %(count)d products.", count)
        messages.success(request, words % {"count": count})
    else:
        messages.info(request, _("There is nothing to restore: it was restored or deleted permanently already."))
    if single and "open" in request.POST:
        return redirect("product", pk=single.pk)
    return redirect(list_url(given_list_query(request)) if moment else "trash")


@login_required
@require_POST
def trash_delete(request: HttpRequest) -> HttpResponse:
    """Delete products in the trash permanently, after a question: the chosen ones, or all that a page has shown."""
    deleted = Product.objects.trash_of(_seller(request)).order_by("-deleted_at", "pk")
    until = _moment(request.POST.get("until", ""))
    chosen = deleted.filter(deleted_at__lte=until) if until else _chosen(request, deleted)
    count = chosen.count()
    if not count:
        messages.info(request, _("Choose at least one product first."))
        return redirect("trash")
    if request.POST.get("confirmed") != "1":
        context = {"products": chosen[:MOST_AT_ONCE], "count": count, "until": until}
        return render(request, "products/trash_delete.html", context)
    count = services.delete_trashed_products(products=chosen)
    words = ngettext("Deleted %(count)d product permanently.", "Deleted %(count)d products permanently.", count)
    messages.success(request, words % {"count": count})
    return redirect("trash")


@login_required
@require_safe
def trashed_photo(request: HttpRequest, pk: uuid.UUID) -> FileResponse:
    """Show the small photo of a product in the trash."""
    return stored_photo(get_object_or_404(Product.objects.trash_of(_seller(request)), pk=pk).photo_small)


def _chosen(request: HttpRequest, products: QuerySet[Product]) -> QuerySet[Product]:
    """Return the product of the button that was pressed, or else the products that were ticked."""
    values = request.POST.getlist("only") or request.POST.getlist("ids")
    return products.filter(pk__in=[key for value in values[:MOST_AT_ONCE] if (key := parse_uuid(value))])


def _moment(value: str) -> datetime | None:
    try:
        moment = parse_datetime(value)
    except ValueError:
        return None
    return moment if moment and moment.tzinfo else None


def _seller(request: HttpRequest) -> User:
    return cast(User, request.user)
