"""Show staff the list of fraud cases, and one case with its evidence and the form for a verdict."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from classifier.admin import SellersAdmin, photo_tag
from classifier.models import Category
from common import charts
from common.formatting import MISSING, format_percent
from feedback.fraud_cases import descriptions, shared_content
from feedback.fraud_cases.services import (
    JUDGE_PERMISSION,
    REASON_LENGTH,
    CaseNotOpen,
    clear_case,
    confirm_case,
    uphold_case,
)
from feedback.models import PREDICTIONS_VECTORS, Case, CaseProduct

STATE_COLOURS = {"open": "warning", "confirmed": "danger", "cleared": "success"}
VERDICTS = {"confirm": confirm_case, "uphold": uphold_case, "clear": clear_case}
EARLIER_CASES = 10
VISIBLE_MATCHES = 8  # of a case; the others unfold
VISIBLE_MATCHES_OF_PRODUCT = 3


class AppealFilter(admin.SimpleListFilter):
    title = _("appeal")
    parameter_name = "appeal"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("waiting", _("Waiting for an answer"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Case]) -> QuerySet[Case]:
        if self.value() != "waiting":
            return queryset
        return queryset & Case.objects.appealed()


class VerdictForm(forms.Form):
    """A verdict on a case, with its reason."""

    verdict = forms.ChoiceField(choices=[(name, name) for name in VERDICTS])
    reason = forms.CharField(
        label=_("Reason"),
        max_length=REASON_LENGTH,
        widget=forms.Textarea(attrs={"rows": 3}),
        error_messages={"required": _("Say why, in a sentence or two.")},
    )


@admin.register(Case)
class CaseAdmin(SellersAdmin):
    list_display = [
        "seller_name", "state_badge", "into", "evidence", "rate", "peers", "opened_at", "appeal_badge",
    ]  # fmt: skip
    list_display_links = ["seller_name"]
    list_filter = ["state", AppealFilter]
    list_select_related = ["seller"]
    search_help_text = _("A seller's whole e-mail address")
    ordering = ["-opened_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Case]:
        name = Category.objects.filter(slug=OuterRef("favourite")).values("name")[:1]
        rows: QuerySet[Case] = super().get_queryset(request)
        # The list shows no timeline, and timelines are long.
        return rows.defer("timeline").annotate(favourite_name=Subquery(name))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Case], search_term: str
    ) -> tuple[QuerySet[Case], bool]:
        # Only whole addresses are looked up; a part of one finds nothing.
        term = search_term.strip()
        if term and "@" not in term:
            return queryset.none(), False
        return super().get_search_results(request, queryset, term)

    def get_urls(self) -> list[Any]:
        judge = self.admin_site.admin_view(self.judge)
        return [path("<int:pk>/judge/", judge, name="feedback_case_judge"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        case = self.get_object(request, object_id)
        if case is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[no-any-return]
        return self._page(request, case, VerdictForm())

    def judge(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Confirm or clear a case, with a reason."""
        if not request.user.is_authenticated or not request.user.has_perm(JUDGE_PERMISSION):
            raise PermissionDenied
        case = get_object_or_404(Case.objects.select_related("seller"), pk=pk)
        if request.method != "POST":
            return redirect("admin:feedback_case_change", pk)
        form = VerdictForm(request.POST)
        if not form.is_valid():
            return self._page(request, case, form, status=422)
        verdict = form.cleaned_data["verdict"]
        try:
            VERDICTS[verdict](case=case, by=request.user, reason=form.cleaned_data["reason"])
        except CaseNotOpen as error:
            messages.error(request, _now("Nothing was changed. %(why)s") % {"why": error})
        except ValidationError as error:
            form.add_error("reason", error)
            return self._page(request, case, form, status=422)
        else:
            outcomes = {
                "confirm": _now("Confirmed. The seller's answers stay out of training; nothing is blocked."),
                "uphold": _now("Kept confirmed. The seller sees that the note was read."),
                "clear": _now("Cleared. The same answers are never held against the seller again."),
            }
            messages.success(request, outcomes[verdict])
        return redirect("admin:feedback_case_change", pk)

    def _page(self, request: HttpRequest, case: Case, form: VerdictForm, status: int = 200) -> HttpResponse:
        names = dict(Category.objects.values_list("slug", "name"))
        favourite = names.get(case.favourite, case.favourite)
        products = list(case.products.select_related("prediction__feedback").defer(*PREDICTIONS_VECTORS))
        matches = [_describe_match(match) for match in shared_content.find_matches(case, products)]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _now("Fraud case: %(seller)s") % {"seller": case.seller},
            "case": case,
            "badge": {"text": case.get_state_display(), "type": STATE_COLOURS[case.state]},
            "form": form,
            "may_judge": request.user.has_perm(JUDGE_PERMISSION),
            "may_see_people": request.user.has_perm("portal.view_user"),
            "favourite": favourite,
            "summary": descriptions.describe_case(case.figures, favourite),
            "reasons": descriptions.describe_reasons(case.reasons, favourite),
            "bars": descriptions.compare_rates(case.figures, favourite),
            "certainty": descriptions.describe_certainty(case.figures),
            "chart": _draw_timeline(case),
            "products": [_describe_product(product, names, case.favourite) for product in products],
            "matches": matches[:VISIBLE_MATCHES],
            "more_matches": matches[VISIBLE_MATCHES:],
            "earlier": Case.objects.filter(seller=case.seller_id).exclude(pk=case.pk)[:EARLIER_CASES],
            "events": case.events.select_related("by"),
            "titles": {
                "verdict": _now("Your verdict"),
                "comparison": _now("Compared with other sellers"),
                "products": _now("Products that are evidence against the seller"),
                "matches": _now("The same photos and texts at other sellers"),
                "history": _now("History"),
            },
        }
        return TemplateResponse(request, "admin/feedback/case.html", context, status=status)

    @display(description=_("seller"), ordering="seller")
    def seller_name(self, case: Case) -> str:
        return str(case.seller)

    @display(description=_("state"), label=STATE_COLOURS)
    def state_badge(self, case: Case) -> tuple[str, str]:
        return case.state, case.get_state_display()

    @display(description=_("favoured category"))
    def into(self, case: Case) -> str:
        return str(getattr(case, "favourite_name", None) or case.favourite)

    @display(description=_("evidence"))
    def evidence(self, case: Case) -> str:
        return str(_now("%(evidence)d of %(chances)d") % case.figures)

    @display(description=_("rate"))
    def rate(self, case: Case) -> str:
        return descriptions.format_rate(case.figures["rate"])

    @display(description=_("other sellers"))
    def peers(self, case: Case) -> str:
        return descriptions.format_rate(case.figures["peers_rate"])

    @display(description=_("appeal"), label={"waits": "warning"})
    def appeal_badge(self, case: Case) -> tuple[str, str] | str:
        if case.appealed_at is None:
            return ""
        if case.is_appealed:
            return "waits", _now("Waiting")
        return "answered", _now("Answered")


def _draw_timeline(case: Case) -> str:
    now = timezone.now().timestamp()
    day = timedelta(days=1).total_seconds()
    unit, label = day, _now("days; 0 is now")
    if case.timeline and now - case.timeline[0][0] < 2 * day:
        unit, label = day / 24, _now("hours; 0 is now")
    surprising, honest = [], []
    for at, count, allowed in case.timeline:
        surprising.append(((at - now) / unit, count))
        honest.append(((at - now) / unit, allowed))
    return charts.line(
        title=_now("Surprising products over time"),
        x_label=label,
        y_label=_now("products, added up"),
        series=[
            {"name": _now("surprising, in the favoured category"), "points": surprising},
            {"name": _now("most that would be honest"), "points": honest},
        ],
    )


def _describe_product(product: CaseProduct, names: dict[str, str], favourite: str) -> dict[str, Any]:
    prediction = product.prediction
    return {
        "prediction": prediction,
        "photo": photo_tag(prediction, "small"),
        "title": prediction.title or _now("No title"),
        "predicted": names.get(product.predicted, product.predicted),
        "confidence": format_percent(product.confidence),
        "chosen": names.get(product.chosen, product.chosen),
        "is_favourite": product.chosen == favourite,
        "text": _format_probability(product.text),
        "image": _format_probability(product.image),
        "ensemble": _format_probability(product.ensemble),
        "usual": _format_probability(product.usual),
        "answered_at": product.answered_at,
        "review": prediction.feedback.get_review_display(),
    }


def _format_probability(probability: float | None) -> str:
    return MISSING if probability is None else descriptions.format_rate(probability)


def _describe_match(match: shared_content.ProductMatches) -> dict[str, Any]:
    names = {shared_content.PHOTO: _now("photo"), shared_content.TEXT: _now("text")}
    matches = []
    for found in match.matches:
        matches.append(
            {
                "kinds": _now(" and ").join(names[kind] for kind in found.kinds),
                "photo": photo_tag(found.prediction, "small"),
                "prediction": found.prediction,
                "seller": found.prediction.seller,
                "case": found.case,
                "title": found.prediction.title or _now("No title"),
            }
        )
    return {
        "title": match.product.prediction.title or _now("No title"),
        "photo": photo_tag(match.product.prediction, "small"),
        "matches": matches[:VISIBLE_MATCHES_OF_PRODUCT],
        "more": matches[VISIBLE_MATCHES_OF_PRODUCT:],
    }
