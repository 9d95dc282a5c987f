"""Show sellers' answers in the admin, and decide about them in bulk."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.decorators import action, display
from unfold.forms import ActionForm

from classifier.admin import SellersAdmin, photo_tag, suggestion_bars
from common.formatting import format_probability
from feedback.fraud_cases.admin import CaseAdmin as CaseAdmin
from feedback.models import PREDICTIONS_VECTORS, Feedback
from feedback.monitoring.admin import MonitoringReportAdmin as MonitoringReportAdmin
from feedback.review.decisions import changed_after
from feedback.services import review_feedback

REVIEW_COLOURS = {
    "open": "info", "accepted": "success", "corrected": "success", "rejected": "danger", "homeless": "success",
    "flagged": "warning",
}  # fmt: skip

MAX_DECISIONS = 20  # of an answer, the newest


class RankFilter(admin.SimpleListFilter):
    """Filter by rank, with fixed choices: finding the ranks in use would read all rows."""

    title = _("rank among the five")
    parameter_name = "rank"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(rank, rank) for rank in "12345"]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Feedback]) -> QuerySet[Feedback]:
        return queryset.filter(rank=rank) if (rank := self.value()) in {*"12345"} else queryset


class ReviewForm(ActionForm):
    """The bulk actions, and the time when the list was made: a decision applies to the answers as they were then."""

    seen = forms.CharField(label="", required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["seen"].initial = timezone.now().isoformat()


@admin.register(Feedback)
class FeedbackAdmin(SellersAdmin):
    """The list of sellers' answers, with bulk decisions."""

    list_display = ["picture", "title", "guess", "verdict", "category", "review_badge", "seller", "answered_at"]
    list_display_links = ["picture", "title"]
    list_filter = ["review", "verdict", "category", RankFilter, "answered_at"]
    actions = ["accept", "reject", "flag"]
    action_form = ReviewForm
    # One click must not decide about a million answers.
    list_disable_select_all = True
    search_help_text = _("The whole id of a prediction or the whole e-mail address of a seller")
    search_id = "prediction"
    list_select_related = ["prediction", "category", "correction", "seller"]
    readonly_fields = ["large_picture", "five_bars", "decisions"]
    fields = [
        "prediction", "large_picture", "title", "five_bars", "verdict", "category", "rank", "wish", "seller",
        "answered_at", "review", "correction", "reviewed_by", "reviewed_at", "decisions", "reason", "worth",
        "inclusion_probability", "earlier", "archived_at",
    ]  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Feedback]:
        rows: QuerySet[Feedback] = super().get_queryset(request)
        return rows.defer(*PREDICTIONS_VECTORS)

    def has_review_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("feedback.review_feedback")

    @action(description=_("Accept: models may learn from it"), permissions=["review"])
    def accept(self, request: HttpRequest, queryset: QuerySet[Feedback]) -> None:
        self._review(request, queryset, Feedback.Review.ACCEPTED)

    @action(description=_("Reject: the answer is wrong"), permissions=["review"])
    def reject(self, request: HttpRequest, queryset: QuerySet[Feedback]) -> None:
        self._review(request, queryset, Feedback.Review.REJECTED)

    @action(description=_("Set aside as suspicious"), permissions=["review"])
    def flag(self, request: HttpRequest, queryset: QuerySet[Feedback]) -> None:
        self._review(request, queryset, Feedback.Review.FLAGGED)

    def _review(self, request: HttpRequest, queryset: QuerySet[Feedback], review: Feedback.Review) -> None:
        assert request.user.is_authenticated  # noqa: S101 - the admin's own check
        ids = list(queryset.values_list("pk", flat=True))
        seen = _time_of_list(request)
        later = Feedback.objects.filter(changed_after(seen), pk__in=ids).count()
        changed = review_feedback(ids=ids, review=review, reviewer=request.user, seen=seen)
        messages.success(
            request,
            ngettext("%(count)d answer is now: %(review)s", "%(count)d answers are now: %(review)s", changed)
            % {"count": changed, "review": review.label},
        )
        if later:
            messages.warning(
                request,
                ngettext(
                    "%(count)d answer was not changed, because it changed after this list was shown. Check again.",
                    "%(count)d answers were not changed, because they changed after this list was shown. Check again.",
                    later,
                )
                % {"count": later},
            )

    @admin.display(description=_("decisions"))
    def decisions(self, feedback: Feedback) -> SafeString:
        reviews = feedback.reviews.select_related("reviewer", "category")[:MAX_DECISIONS]
        return SafeString(render_to_string("admin/feedback/decisions.html", {"feedback": feedback, "reviews": reviews}))

    @display(description=_("review"), label=REVIEW_COLOURS)
    def review_badge(self, feedback: Feedback) -> tuple[str, str]:
        return feedback.review, feedback.get_review_display()

    @admin.display(description=_("photo"))
    def picture(self, feedback: Feedback) -> Any:
        return photo_tag(feedback.prediction, "small")

    @admin.display(description=_("photo"))
    def large_picture(self, feedback: Feedback) -> Any:
        return photo_tag(feedback.prediction, "large")

    @admin.display(description=_("product"))
    def title(self, feedback: Feedback) -> str:
        return feedback.prediction.title[:80] or str(feedback.prediction_id)

    @admin.display(description=_("first suggestion"))
    def guess(self, feedback: Feedback) -> str:
        best = feedback.prediction.best
        return f"{best['category']} ({format_probability(best['probability'])})" if best else "–"

    @admin.display(description=_("suggestions"))
    def five_bars(self, feedback: Feedback) -> SafeString:
        return suggestion_bars(feedback.prediction.top5)


def _time_of_list(request: HttpRequest) -> datetime:
    """Return when the list with the chosen action was made; now if the form doesn't say."""
    try:
        seen = datetime.fromisoformat(request.POST.get("seen", ""))
    except ValueError:
        return timezone.now()
    return seen if timezone.is_aware(seen) else timezone.make_aware(seen)
