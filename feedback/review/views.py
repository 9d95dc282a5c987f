"""Show the review queue: one answer at a time, with the decisions that a reviewer can make."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.admin import photo_tag, top_suggestions
from classifier.models import Category
from common.formatting import format_percent
from feedback.models import PREDICTIONS_VECTORS, Feedback, Review
from feedback.review.decisions import StaleReview, record_review, undo_review
from feedback.review.filters import QueueFilters
from feedback.statistics.intervals import MINIMUM_ROWS, Kappa, cohen_kappa

CANDIDATES = 20
HELD_SECONDS = 180  # an answer that one reviewer looks at is not shown to another
MAX_REMEMBERED = 200  # skipped answers and actions of a session
HISTORY_LENGTH = 200  # of a seller's latest answers
MAX_COUNTED = 1_000
AGREEMENT = "review:kappa"  # the cache key
MAX_PAIRS = 2_000
VERDICT_OF_ACTION = {
    "accept": Review.Verdict.ACCEPT,
    "correct": Review.Verdict.CORRECT,
    "reject": Review.Verdict.REJECT,
    "none": Review.Verdict.NONE,
    "flag": Review.Verdict.FLAG,
}


class DecisionForm(forms.Form):
    """The reviewer's action, and the answer and its review as the page showed them."""

    act = forms.ChoiceField(choices=[(act, act) for act in (*VERDICT_OF_ACTION, "skip", "undo")])
    feedback = forms.UUIDField(required=False)
    answered_at = forms.CharField(required=False)
    review = forms.ChoiceField(choices=Feedback.Review.choices, required=False)
    blind = forms.BooleanField(required=False)
    category = forms.CharField(max_length=120, required=False)
    slug = forms.SlugField(max_length=80, required=False)

    def clean(self) -> dict[str, Any]:
        """Require the fields that the action needs."""
        data = super().clean() or {}
        if data.get("act") in (None, "undo"):
            return data
        try:
            data["answered_at"] = datetime.fromisoformat(data.get("answered_at", ""))
        except ValueError:
            self.add_error("answered_at", _("The page is incomplete. Reload it."))
        if not data.get("feedback") or not data.get("review"):
            self.add_error("feedback", _("The page is incomplete. Reload it."))
        if data["act"] == "correct":
            data["chosen"] = self._category(data)
        return data

    def _category(self, data: dict[str, Any]) -> Category | None:
        if slug := data.get("slug"):
            category = Category.objects.filter(slug=slug).first()
        else:
            words = (data.get("category") or "").strip()
            category = Category.objects.active().named(words) or _only_one(words)
        if category is None:
            self.add_error("category", _("There is no such category. Choose one from the list."))
        return category


def _only_one(words: str) -> Category | None:
    """Return the active category whose name contains these words, if there is exactly one."""
    found = list(Category.objects.active().filter(name__icontains=words)[:2]) if words else []
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class History:
    """The number of a seller's latest answers, and how they were reviewed."""

    answers: int
    first: int
    none: int
    accepted: int
    corrected: int
    rejected: int
    flagged: int


def review_queue(request: HttpRequest) -> HttpResponse:
    """Show the answer with the highest priority; filters, blind mode and a fixed answer come from the address."""
    require_reviewer(request)
    if request.method == "POST":
        return _handle_action(request)
    filters = QueueFilters(request.GET)
    session = _review_session(request)
    feedback, is_second = _next_answer(request, filters, session["skipped"])
    is_blind = is_second or "blind" in request.GET
    waiting = filters.apply(Feedback.objects.unreviewed()).exclude(pk__in=session["skipped"])
    agreement = _reviewer_agreement()
    context = {
        **admin.site.each_context(request),
        "title": _("Review queue"),
        "filters": filters,
        "is_filtered": bool(filters.chosen),
        "is_blind": is_blind,
        "is_second": is_second,
        "blind_url": _page_address(request, blind=None if "blind" in request.GET else "1"),
        "query": request.GET.urlencode(),
        "feedback": feedback,
        "waiting": waiting.order_by()[: MAX_COUNTED + 1].count(),
        "counted": MAX_COUNTED,
        "skipped": len(session["skipped"]),
        "done_today": _done_today(request.user),
        "last": _last_action(session),
        "agreement": agreement,
        "least": MINIMUM_ROWS,
        "categories": Category.objects.active().values_list("name", flat=True),
    }
    if feedback:
        context.update(_answer_context(feedback, is_blind))
    return TemplateResponse(request, "admin/feedback/review.html", context)


def require_reviewer(request: HttpRequest) -> None:
    """Raise PermissionDenied without the permission to review."""
    if not request.user.has_perm("feedback.review_feedback"):
        raise PermissionDenied


def _answer_context(feedback: Feedback, is_blind: bool) -> dict[str, Any]:
    prediction = feedback.prediction
    shown = {
        "prediction": prediction,
        "photo": photo_tag(prediction, "large"),
        "answered_at": feedback.answered_at.isoformat(),
    }
    if is_blind:
        return shown
    return shown | {
        "five": [
            {**row, "is_chosen": feedback.rank == number}
            for number, row in enumerate(_with_percent(prediction.top5), 1)
        ],
        "alone": [
            (_("Text model"), _with_percent(top_suggestions(prediction.text_probabilities))),
            (_("Image model"), _with_percent(top_suggestions(prediction.image_probabilities))),
        ],
        "history": _load_history(feedback.seller_id),
        "reviews": feedback.reviews.standing().select_related("reviewer", "category")[:5],
    }


def _with_percent(suggestions: Sequence[dict[str, Any]] | None) -> list[dict[str, Any]]:
    return [{**row, "percent": format_percent(row["probability"], 1)} for row in suggestions or []]


def _next_answer(request: HttpRequest, filters: QueueFilters, skipped: Sequence[str]) -> tuple[Feedback | None, bool]:
    """Return the answer to show, and whether it is shown for a second opinion."""
    rows = Feedback.objects.select_related("prediction", "category", "correction", "seller").defer(*PREDICTIONS_VECTORS)
    if (item := _parse_uuid(request.GET.get("item", ""))) and (found := rows.filter(pk=item).first()):
        return found, found.second_wanted and found.reviewed_by_id != request.user.pk
    if not filters.chosen:
        second = Feedback.objects.filter(second_wanted=True).exclude(reviewed_by=request.user.pk)
        others = second.exclude(pk__in=skipped).order_by("reviewed_at").values_list("pk", flat=True)[:CANDIDATES]
        if (pk := _reserve_answer(list(others), request.user)) and (found := rows.filter(pk=pk).first()):
            return found, True
    waiting = filters.apply(Feedback.objects.unreviewed()).exclude(pk__in=skipped).in_queue_order()
    ids = list(waiting.values_list("pk", flat=True)[:CANDIDATES])
    pk = _reserve_answer(ids, request.user) or next(iter(ids), None)
    return (rows.filter(pk=pk).first() if pk else None), False


def _reserve_answer(ids: Sequence[uuid.UUID], reviewer: Any) -> uuid.UUID | None:
    """Reserve the first answer that no other reviewer looks at; return its id, or None."""
    keys = {_reservation_key(pk): pk for pk in ids}
    holders = cache.get_many(keys)
    for key, pk in keys.items():
        # `add` is atomic: of two reviewers who ask at once, one gets the answer.
        if holders.get(key) == reviewer.pk or (key not in holders and cache.add(key, reviewer.pk, HELD_SECONDS)):
            cache.touch(key, HELD_SECONDS)
            return pk
    return None


def _release_answer(pk: str, reviewer: Any) -> None:
    if cache.get(_reservation_key(pk)) == reviewer.pk:
        cache.delete(_reservation_key(pk))


def _reservation_key(pk: object) -> str:
    return f"review:{pk}"


def _handle_action(request: HttpRequest) -> HttpResponse:
    form = DecisionForm(request.POST)
    session = _review_session(request)
    if not form.is_valid():
        for errors in form.errors.values():
            messages.error(request, str(errors[0]))
        return redirect(_page_address(request, item=_parse_uuid(request.POST.get("feedback", ""))))
    act, pk = form.cleaned_data["act"], str(form.cleaned_data["feedback"])
    item = None
    if act == "undo":
        item = _undo_last(request, session)
    elif act == "skip":
        session["skipped"] = [*session["skipped"], pk][-MAX_REMEMBERED:]
        session["acts"] = [*session["acts"], {"act": "skip", "feedback": pk}][-MAX_REMEMBERED:]
    else:
        _record_decision(request, form.cleaned_data, session)
    if act != "undo":
        _release_answer(pk, request.user)
    request.session["review"] = session
    return redirect(_page_address(request, item=item))


def _record_decision(request: HttpRequest, data: dict[str, Any], session: dict[str, Any]) -> None:
    if not request.user.is_authenticated:
        raise PermissionDenied
    feedback = Feedback.objects.filter(pk=data["feedback"]).first()
    try:
        if feedback is None:
            raise StaleReview
        feedback.answered_at, feedback.review = data["answered_at"], data["review"]
        review = record_review(
            feedback=feedback,
            verdict=VERDICT_OF_ACTION[data["act"]],
            reviewer=request.user,
            category=data.get("chosen"),
            is_blind=data["blind"],
        )
    except StaleReview:
        messages.warning(
            request, _("Nothing was decided: the answer changed, or another reviewer decided about it in the meantime.")
        )
        return
    session["acts"] = [*session["acts"], {"act": "review", "review": review.pk, "feedback": str(feedback.pk)}][
        -MAX_REMEMBERED:
    ]


def _undo_last(request: HttpRequest, session: dict[str, Any]) -> str | None:
    """Undo the last action of this session; return the answer to show again."""
    if not request.user.is_authenticated:
        raise PermissionDenied
    while session["acts"]:
        last = session["acts"].pop()
        if last["act"] == "skip":
            session["skipped"] = [pk for pk in session["skipped"] if pk != last["feedback"]]
            return str(last["feedback"])
        review = Review.objects.filter(pk=last["review"]).first()
        if review and undo_review(review=review, reviewer=request.user):
            return None if review.first_id else str(last["feedback"])
    messages.info(request, _("There is nothing left to undo."))
    return None


def _review_session(request: HttpRequest) -> dict[str, Any]:
    kept = request.session.get("review", {})
    return {"skipped": list(kept.get("skipped", [])), "acts": list(kept.get("acts", []))}


def _last_action(session: dict[str, Any]) -> dict[str, Any] | None:
    """Return the last action, which the page offers to undo."""
    if not session["acts"]:
        return None
    last = session["acts"][-1]
    found = Feedback.objects.select_related("prediction").only("prediction__title").filter(pk=last["feedback"])
    if (feedback := found.first()) is None:
        return None
    review = Review.objects.select_related("category").filter(pk=last.get("review")).first()
    return {
        "words": str(review) if review else _("Skipped"),
        "title": feedback.prediction.title or feedback.prediction_id,
    }


def _load_history(seller_id: Any) -> History:
    latest = Feedback.objects.filter(seller_id=seller_id).order_by("-answered_at").values("pk")[:HISTORY_LENGTH]
    counts = Feedback.objects.filter(pk__in=latest).aggregate(
        answers=Count("pk"),
        first=Count("pk", filter=Q(rank=1)),
        none=Count("pk", filter=Q(category=None)),
        corrected=Count("pk", filter=Q(review__in=["corrected", "homeless"])),
        **{name: Count("pk", filter=Q(review=name)) for name in ("accepted", "rejected", "flagged")},
    )
    return History(**counts)


def _done_today(reviewer: Any) -> int:
    today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    return Review.objects.standing().filter(reviewer=reviewer, created_at__gte=today).count()


def _reviewer_agreement() -> Kappa | None:
    """Return the agreement of two reviewers over the latest pairs; None without pairs."""
    try:
        (kept,) = cache.get(AGREEMENT, ())
        return Kappa(**kept) if kept is not None else None
    except (TypeError, ValueError):
        pass  # nothing is cached, or another version of Aisle cached it in another form
    pairs = list(Review.objects.second_opinions().select_related("category", "first__category")[:MAX_PAIRS])
    found = cohen_kappa(
        [pair.first.label for pair in pairs if pair.first], [pair.label for pair in pairs if pair.first]
    )
    cache.set(AGREEMENT, [found and asdict(found)], 60)
    return found


def _page_address(request: HttpRequest, **changed: Any) -> str:
    query: QueryDict = request.GET.copy()
    query.pop("item", None)
    for name, value in changed.items():
        query.pop(name, None)
        if value:
            query[name] = str(value)
    return f"{reverse('review')}?{query.urlencode()}" if query else reverse("review")


def _parse_uuid(value: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(value)
    except ValueError:
        return None
