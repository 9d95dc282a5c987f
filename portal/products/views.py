"""Show and change a seller's products, and take the answers."""

import math
import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any, cast
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.core.files.storage import default_storage
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import push_url

from classifier.models import Category, Prediction
from classifier.serving import notifications, queue_metrics
from common.object_storage import StorageDown, storage_faults
from feedback.models import Feedback
from feedback.services import NotAnswerable
from portal.api.throttles import UploadThrottle
from portal.models import Product, ProductPhoto, User
from portal.products import paging, services, validators
from portal.products.category_picker import CategoryPicker
from portal.products.duplicates import find_duplicates
from portal.products.forms import AnswerForm, ProductFilter, ProductForm
from portal.products.list_place import current_list_query, given_list_query, with_list
from portal.products.suggestions import ArrangedSuggestions

UNPROCESSABLE = 422
LONG_WAIT = 20  # seconds; from here on a page says how long the result will take


def explains_deleted(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Respond 404 for a deleted product, also one deleted in another tab just now; offer to restore it from the trash.

    The view takes the product's id and raises Http404 or Product.DoesNotExist.
    """

    @wraps(view)
    def wrapped(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        try:
            return view(request, pk)
        except (Http404, Product.DoesNotExist) as error:
            deleted = Product.objects.trash_of(_seller(request)).filter(pk=pk).first()
            if deleted is None:
                raise Http404 from error
            return render(request, "products/in_trash.html", {"product": deleted}, status=404)

    return wrapped


def home(request: HttpRequest) -> HttpResponse:
    return redirect("products") if request.user.is_authenticated else render(request, "home.html")


@login_required
@require_safe
def products(request: HttpRequest) -> HttpResponse:
    mine = Product.objects.for_seller(_seller(request))
    filter_form = ProductFilter(request.GET)
    found = filter_form.find(mine, limit=paging.MOST_FOUND + 1)
    page = paging.ProductPages(found, is_search=filter_form.is_search).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "filter_form": filter_form,
        "total": mine.count(),
        "deleted_total": Product.objects.trash_of(_seller(request)).count(),
        "states": Product.State.choices,
        "categories": Category.objects.all(),
        "list_query": current_list_query(request),
        "state": Product.State.current_name(request.GET.get("state", "")),
        **{name: request.GET.get(name, "") for name in ("q", "category")},
    }
    return render(request, "products/list.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def product_new(request: HttpRequest) -> HttpResponse:
    seller = _seller(request)
    if request.method != "POST":
        return render(request, "products/new.html", {"form": ProductForm(seller=seller)})
    if (wait := _throttled(request)) is not None:
        return _too_many(request, wait)
    form = ProductForm(request.POST, request.FILES, seller=seller)
    product = form.save(services.submit_product, seller=seller)
    if product is None:
        return _form_again(request, "products/new.html", form)
    notifications.wait_until_finished(product.prediction_id, seconds=settings.RESULT_WAIT_SECONDS)
    if request.htmx:  # type: ignore[attr-defined]
        context = _result_context(request, _my_product(request, product.pk))
        return push_url(render(request, "products/_created.html", context), product.get_absolute_url())
    return redirect(product)


@login_required
@require_safe
@explains_deleted
def product(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    return render(request, "products/detail.html", _result_context(request, _my_product(request, pk)))


@login_required
@require_safe
@explains_deleted
def product_result(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    return _result(request, pk)


@login_required
@require_safe
def sku_check(request: HttpRequest) -> HttpResponse:
    """Show, beside the form's field, whether another product of the seller has this SKU."""
    try:
        sku = validators.validate_sku(request.GET.get("sku", ""))
    except ValidationError:
        sku = ""  # the form says what is wrong
    others = Product.objects.for_seller(_seller(request)).with_sku(sku).order_by("-created_at", "pk")
    if edited := parse_uuid(request.GET.get("product", "")):
        others = others.exclude(pk=edited)
    other = others.first() if sku else None
    return render(request, "products/_sku_note.html", {"other": other})


@login_required
@require_safe
def category_search(request: HttpRequest) -> HttpResponse:
    """Show the categories that a seller's words find for a product, as a part of its page."""
    pk = parse_uuid(request.GET.get("product", ""))
    if pk is None:
        raise Http404
    mine = _my_product(request, pk)
    if not request.htmx:  # type: ignore[attr-defined]
        return redirect(f"{mine.get_absolute_url()}?{urlencode({'q': request.GET.get('q', '')})}")
    context = {
        "picker": _category_picker(request, mine.prediction),
        "feedback": _answer_to_newest(mine),
    }
    return render(request, "products/_picker_results.html", context)


@login_required
@require_POST
@explains_deleted
def product_answer(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    mine = _my_product(request, pk)
    form = AnswerForm(request.POST, prediction=mine.prediction)
    answer_error = ""
    if not form.is_valid():
        answer_error = " ".join(str(error) for errors in form.errors.values() for error in errors)
    # An edit in another tab has replaced the prediction that this answer is about.
    elif request.POST.get("prediction") not in (None, str(mine.prediction_id)):
        answer_error = _("This product has changed since. Please look at its new suggestions.")
    else:
        try:
            services.record_answer(prediction=mine.prediction, **form.cleaned_data)
        except NotAnswerable as error:
            answer_error = str(error)
    if request.htmx:  # type: ignore[attr-defined]
        return _result(request, pk, answer_error=answer_error)
    if answer_error:
        messages.error(request, answer_error)
    return _to_product(request, mine)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
@explains_deleted
def product_edit(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    mine, seller = _my_product(request, pk), _seller(request)
    if request.method != "POST":
        context = {"form": ProductForm(seller=seller, product=mine), "product": mine}
        return render(request, "products/edit.html", {**context, "list_query": given_list_query(request)})
    if (wait := _throttled(request)) is not None:
        return _too_many(request, wait)
    form = ProductForm(request.POST, request.FILES, seller=seller, product=mine)
    changed = form.save(services.edit_product, product=mine)
    if changed is None:
        return _form_again(request, "products/edit.html", form, product=mine, list_query=given_list_query(request))
    notifications.wait_until_finished(changed.prediction_id, seconds=settings.RESULT_WAIT_SECONDS)
    messages.success(request, _("Saved."))
    return _to_product(request, changed)


@login_required
@require_POST
@explains_deleted
def product_retry(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    if (wait := _throttled(request)) is not None:
        return _too_many(request, wait)
    again = services.retry_prediction(product=_my_product(request, pk))
    notifications.wait_until_finished(again.prediction_id, seconds=settings.RESULT_WAIT_SECONDS)
    return _result(request, pk) if request.htmx else _to_product(request, again)  # type: ignore[attr-defined]


@login_required
@require_safe
def product_photo(request: HttpRequest, pk: uuid.UUID, size: str) -> FileResponse:
    mine = get_object_or_404(Product.objects.for_seller(_seller(request)), pk=pk)
    return stored_photo(mine.photo_large if size == "large" else mine.photo_small)


@login_required
@require_safe
def photo(request: HttpRequest, pk: uuid.UUID, size: str) -> FileResponse:
    # Of products in the trash only the trash shows a photo; a draft has no product.
    shown = ProductPhoto.objects.for_seller(_seller(request)).filter(product__deleted_at=None)
    mine = get_object_or_404(shown, pk=pk)
    return stored_photo(mine.large if size == "large" else mine.small)


def stored_photo(name: str) -> FileResponse:
    """Return a stored photo for its owner's browser. Raises Http404 when there is none or the storage is down."""
    if not name:
        raise Http404
    try:
        with storage_faults():
            file = default_storage.open(name)
    except (FileNotFoundError, StorageDown) as error:
        raise Http404 from error
    return FileResponse(
        file,
        content_type="image/jpeg",
        headers={"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"},
    )


def _seller(request: HttpRequest) -> User:
    return cast(User, request.user)


def parse_uuid(value: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(value)
    except ValueError:
        return None


def _my_product(request: HttpRequest, pk: uuid.UUID) -> Product:
    mine = Product.objects.for_seller(_seller(request)).select_related(
        "category",
        "answer__category",
        "prediction__text_version",
        "prediction__image_version",
    )
    return get_object_or_404(mine, pk=pk)


def _result(request: HttpRequest, pk: uuid.UUID, **extra: Any) -> HttpResponse:
    return render(request, "products/_result.html", {**_result_context(request, _my_product(request, pk)), **extra})


def _to_product(request: HttpRequest, product: Product) -> HttpResponse:
    return redirect(with_list(product.get_absolute_url(), given_list_query(request)))


def _result_context(request: HttpRequest, product: Product) -> dict[str, Any]:
    prediction = product.prediction
    feedback = _answer_to_newest(product)
    is_done = prediction.state == Prediction.State.DONE
    return {
        "product": product,
        "prediction": prediction,
        "feedback": feedback,
        **(_kept_context(product, product.answer) if product.answer and product.answer_is_older else {}),
        "suggestions": ArrangedSuggestions.of(prediction, is_answered=product.answer is not None),
        "next_product": feedback and Product.objects.for_seller(_seller(request)).next_to_answer(product),
        "list_query": given_list_query(request),
        "duplicates": find_duplicates(product, seller=_seller(request)),
        "picker": is_done and _category_picker(request, prediction),
        "views": _model_views(prediction),
        "is_moved": is_done and not prediction.probabilities,
        "wait": _wait_in_words(prediction) if product.state == Product.State.WAITING else "",
    }


def _answer_to_newest(product: Product) -> Feedback | None:
    """Return the seller's answer to the product's newest prediction."""
    return None if product.answer_is_older else product.answer


def _category_picker(request: HttpRequest, prediction: Prediction) -> CategoryPicker:
    return CategoryPicker.of(prediction, seller=_seller(request), query=request.GET.get("q", ""))


def _kept_context(product: Product, kept: Feedback) -> dict[str, Any]:
    """Return what the page shows of an answer that the product has kept through a change."""
    best, category = product.prediction.best, kept.category
    offered = Category.objects.offered_for(product.prediction)
    return {
        "kept": kept,
        "kept_is_offered": category is None or offered.filter(pk=category.pk).exists(),
        "kept_is_best": bool(category and best and best["slug"] == category.slug),
    }


def _wait_in_words(prediction: Prediction) -> str:
    """Return how long the result will take, in words, or an empty string for a short wait."""
    seconds = queue_metrics.current_load().seconds(prediction.priority)
    if seconds < LONG_WAIT:
        return ""
    minutes = math.ceil(seconds / 60)
    return ngettext("about %d minute", "about %d minutes", minutes) % minutes


def _model_views(prediction: Prediction) -> list[dict[str, Any]]:
    """Return the five likeliest categories of each model."""
    rankings = []
    for label, version, probabilities in (
        (_("From the text"), prediction.text_version, prediction.text_probabilities),
        (_("From the photo"), prediction.image_version, prediction.image_probabilities),
    ):
        if version and probabilities:
            rankings.append((label, version.name, sorted(probabilities.items(), key=lambda item: -item[1])[:5]))
    slugs = {slug for _label, _version, ranking in rankings for slug, _probability in ranking}
    names = dict(Category.objects.filter(slug__in=slugs).values_list("slug", "name")) if slugs else {}
    views = []
    for label, version_name, ranking in rankings:
        rows = [{"category": names.get(slug, slug), "slug": slug, "probability": p} for slug, p in ranking]
        views.append({"label": label, "version": version_name, "rows": rows})
    return views


def _throttled(request: HttpRequest) -> float | None:
    """Return the seconds to wait when the seller exceeds UPLOAD_RATE, else None."""
    throttle = UploadThrottle()
    if not throttle.allow_request(request, None):
        return throttle.wait() or 1.0
    throttle.count_photos(request, len(request.FILES.getlist("photo")))
    return None


def _too_many(request: HttpRequest, wait: float) -> HttpResponse:
    seconds = int(wait) + 1
    response = render(request, "429.html", {"seconds": seconds}, status=429)
    response["Retry-After"] = str(seconds)
    return response


def _form_again(request: HttpRequest, page: str, form: ProductForm, **extra: Any) -> HttpResponse:
    template = "products/_form.html" if request.htmx else page  # type: ignore[attr-defined]
    return render(request, template, {"form": form, **extra}, status=UNPROCESSABLE)
