from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelectWidget,
    UnfoldBooleanSwitchWidget,
)

from classifier.models import Modality
from classifier.registry import traffic
from training.fit import recipes
from training.models import Dataset, TrainingRun
from training.runs import estimates, services

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

BOTH = "all"
EXPLAINED = {
    recipes.DEFAULT: _("The best for its cost: “full” for texts, “partial” for photos."),
    "head": _("Trains only the last layer. The quickest: for a first try, or a few hundred products."),
    "lora": _("Also adapts the text encoder by small differences: a small file, nearly as good as “full”."),
    "partial": _("Also trains the encoder's last blocks: good from a few thousand products on."),
    "full": _("Trains everything: the most accurate with many products, and the slowest."),
    "starter": _("As the models that come with Aisle were trained: smaller files, a little less accurate."),
}


class RetrainForm(forms.Form):
    """What to train: the same questions as `manage.py retrain` asks."""

    modality = forms.ChoiceField(
        label=_("Models"),
        choices=[(BOTH, _("Text and image")), *Modality.choices],
        widget=UnfoldAdminSelectWidget,
    )
    recipe = forms.ChoiceField(
        label=_("Recipe"),
        initial=recipes.DEFAULT,
        widget=UnfoldAdminRadioSelectWidget(radio_style=admin.VERTICAL),
    )
    dataset = forms.ModelChoiceField(
        Dataset.objects.all(),
        label=_("Dataset"),
        required=False,
        empty_label=_("A new one, of everything imported and accepted"),
        widget=UnfoldAdminSelectWidget,
    )
    from_champion = forms.BooleanField(
        label=_("Go on from the live model"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=_(
            "It keeps the categories that the live model suggests, also those that the dataset lacks. Without it the "
            "new model knows only the categories of the dataset."
        ),
    )
    trials = forms.IntegerField(
        label=_("Tuning trials"),
        min_value=0,
        max_value=500,
        initial=0,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text=_("0: the recipe as it is."),
    )
    deploys = forms.BooleanField(
        label=_("Deploy by itself when it passes the gate"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=_("Else it is registered, and you deploy it from its page after a look at the comparison."),
    )
    ends_test = forms.BooleanField(
        label=_("Even if a test is running then: end it"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=_("Else the new version is registered, and you test or deploy it from its page."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["recipe"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 - it is declared above
        counts = {modality: estimates.count_products(modality) for modality in Modality}
        field.choices, field.help_text = _recipe_choices(counts), _recipe_help(counts)

    def start(self, *, requested_by: "AbstractBaseUser") -> tuple[list[TrainingRun], list[str]]:
        """Queue the runs that were asked for; return them and a sentence for each that was refused."""
        data: dict[str, Any] = self.cleaned_data
        wanted = list(Modality) if data["modality"] == BOTH else [Modality(data["modality"])]
        started, refused = [], []
        for modality in wanted:
            try:
                run = services.request_training(
                    modality=modality,
                    recipe=recipes.named_recipe(modality, data["recipe"]),
                    dataset=data["dataset"],
                    parent=traffic.current_champion(modality) if data["from_champion"] else None,
                    trials=data["trials"],
                    deploys=data["deploys"],
                    ends_test=data["ends_test"],
                    trigger=TrainingRun.Trigger.ADMIN,
                    requested_by=requested_by,
                )
                started.append(run)
            except services.TrainingRefused as refusal:
                refused.append(str(refusal))
        return started, refused


def _recipe_choices(counts: dict[Modality, int]) -> list[tuple[str, SafeString]]:
    """Return the recipes with what each does and how long it takes here for so many products."""
    return [(name, _explained(name, counts)) for name in recipes.recipe_names()]


def _explained(name: str, counts: dict[Modality, int]) -> SafeString:
    times = []
    for modality, count in counts.items():
        own = recipes.DEFAULTS[modality] if name == recipes.DEFAULT else name
        found = estimates.estimate_duration(modality, own, count)
        words = {"modality": modality.label, "time": found}
        if found and count:
            sentence = (
                _now("%(modality)s: %(time)s, as before.") if found.is_measured else _now("%(modality)s: %(time)s.")
            )
            times.append(sentence % words)
    layout = '<strong>{}</strong> {} <span class="aisle-optional">{}</span>'
    return format_html(layout, name, EXPLAINED.get(name, ""), " ".join(times))


def _recipe_help(counts: dict[Modality, int]) -> str:
    return _now(
        "Times are for the %(texts)s texts and %(photos)s photos that were imported or accepted so far: as long as "
        "earlier runs here took, or else judged by this machine's speed."
    ) % {"texts": f"{counts[Modality.TEXT]:,}", "photos": f"{counts[Modality.IMAGE]:,}"}
