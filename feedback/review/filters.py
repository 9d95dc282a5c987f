"""Filter the answers of the review queue and of its export."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from classifier.models import Category, Modality, ModelVersion
from common.date_fields import DayField
from feedback.models import Feedback, FeedbackQuerySet, Reason
from feedback.review.queue import DISAGREEMENT_FROM
from feedback.statistics.drift.language import SCRIPT_LANGUAGES, STOP_WORDS, UNKNOWN_LANGUAGE

ANY = ("", _("All"))
LANGUAGES = sorted({*STOP_WORDS, *SCRIPT_LANGUAGES.values()})


class QueueFilters(forms.Form):
    """The filters of the queue; an invalid choice filters nothing, and its error is shown."""

    version = forms.ModelChoiceField(ModelVersion.objects.none(), label=_("Model version"), required=False)
    category = forms.ModelChoiceField(Category.objects.all(), label=_("Chosen category"), required=False)
    language = forms.ChoiceField(
        choices=[ANY, *((code, code) for code in LANGUAGES), (UNKNOWN_LANGUAGE, _("unknown"))],
        label=_("Language"),
        required=False,
    )
    confidence = forms.ChoiceField(
        choices=[ANY, ("low", _("Not sure")), ("middle", _("Likely")), ("high", _("Very likely"))],
        label=_("Confidence"),
        required=False,
    )
    models = forms.ChoiceField(
        choices=[ANY, ("differ", _("Disagree")), ("agree", _("Agree"))], label=_("Both models"), required=False
    )
    reason = forms.ChoiceField(choices=[ANY, *Reason.choices], label=_("Why"), required=False)
    since = DayField(label=_("From"))
    until = DayField(label=_("To"))
    seller = forms.EmailField(label=_("Seller's e-mail"), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["version"].queryset = ModelVersion.objects.defer("metrics")  # type: ignore[attr-defined]
        for name in ("version", "category"):
            self.fields[name].empty_label = _("All")  # type: ignore[attr-defined]

    def clean_seller(self) -> Any:
        """Return the account with the address."""
        address = self.cleaned_data["seller"]
        seller = get_user_model()._default_manager.filter(email=address.lower()).first() if address else None
        if address and seller is None:
            raise forms.ValidationError(_("No account has this e-mail address."))
        return seller

    def clean(self) -> dict[str, Any]:
        chosen = super().clean() or {}
        if chosen.get("since") and chosen.get("until") and chosen["since"] > chosen["until"]:
            self.add_error("until", _("This is before the first day."))
        return chosen

    @property
    def chosen(self) -> dict[str, Any]:
        """The valid choices."""
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value}

    def apply(self, rows: FeedbackQuerySet) -> FeedbackQuerySet:
        """Filter the rows by the valid choices."""
        chosen = self.chosen
        if version := chosen.get("version"):
            rows = rows.filter(**{f"{Modality(version.modality).value}_version": version})
        for name in ("category", "language", "reason", "seller"):
            if name in chosen:
                rows = rows.filter(**{name: chosen[name]})
        if "confidence" in chosen:
            rows = rows.filter(_CONFIDENCE[chosen["confidence"]])
        if "models" in chosen:
            is_different = Q(disagreement__gte=DISAGREEMENT_FROM)
            rows = rows.filter(is_different if chosen["models"] == "differ" else Q(disagreement__lt=DISAGREEMENT_FROM))
        if "since" in chosen:
            rows = rows.filter(answered_at__gte=_start_of_day(chosen["since"]))
        if "until" in chosen:
            rows = rows.filter(answered_at__lt=_start_of_day(chosen["until"] + timedelta(days=1)))
        return rows


def _start_of_day(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


_CONFIDENCE = {
    "low": Q(confidence__lt=settings.LIKELY),
    "middle": Q(confidence__gte=settings.LIKELY, confidence__lt=settings.VERY_LIKELY),
    "high": Q(confidence__gte=settings.VERY_LIKELY),
}


class ExportFilters(QueueFilters):
    """The filters of the export, which can include reviewed answers."""

    review = forms.MultipleChoiceField(
        choices=Feedback.Review.choices, label=_("Review"), required=False, widget=forms.CheckboxSelectMultiple
    )
    field_order = ["review"]

    def apply(self, rows: FeedbackQuerySet) -> FeedbackQuerySet:
        """Filter by the review as well."""
        rows = super().apply(rows)
        return rows.filter(review__in=self.chosen["review"]) if "review" in self.chosen else rows
