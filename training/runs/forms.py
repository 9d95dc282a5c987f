"""Ask what to train: the form of the admin's Retrain page."""

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
EXPLANATIONS = {
    recipes.DEFAULT: _("The best for its cost: “full” for texts, “partial” for photos."),
    "head": _("Trains only the last layer. The quickest: for a first try, or a few hundred products."),
    "lora": _("Also adapts the text encoder by small differences: a small file, nearly as good as “full”."),
    "partial": _("Also trains the encoder's last blocks: good from a few thousand products on."),
    "full": _("Trains everything: the most accurate with many products, and the slowest."),
    "starter": _("As the models that come with Aisle were trained: smaller files, a little less accurate."),
    "everyday": _("Texts only. Also learns everyday titles of Aisle's own categories: for continuing the live model."),
}


class RetrainForm(forms.Form):
    """What to train, with the same options as `manage.py retrain`."""

    modality = forms.ChoiceField(
        label=_("Models"),
        choices=[(BOTH, _("Text and image")), *Modality.choices],
        widget=UnfoldAdminSelectWidget,
    )
    recipe = forms.ChoiceField()
    dataset = forms.ModelChoiceField(
        Dataset.objects.all(),
        label=_("Dataset"),
        required=False,
        empty_label=_("A new one, of everything imported and accepted"),
        widget=UnfoldAdminSelectWidget,
    )
    from_champion = forms.BooleanField(
        label=_("Continue from the live model"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=_(
            "The new model keeps the categories that the live model suggests, also those that the dataset lacks. "
            "Otherwise it knows only the categories of the dataset."
        ),
    )
    trials = forms.IntegerField(
        label=_("Tuning trials"),
        min_value=0,
        max_value=500,
        initial=0,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text=_("0: the recipe without changes."),
    )
    deploys = forms.BooleanField(
        label=_("Deploy automatically when it passes the gate"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=_("Otherwise it is registered, and you can deploy it from its page, beside the comparison."),
    )
    ends_test = forms.BooleanField(
        label=_("End an experiment that is running then"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=_("Otherwise the new version is registered, and you can test or deploy it from its page."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        counts = {modality: estimates.count_products(modality) for modality in Modality}
        # Built for each request: the times depend on how many products there are now.
        self.fields["recipe"] = forms.ChoiceField(
            label=_("Recipe"),
            initial=recipes.DEFAULT,
            choices=_recipe_choices(counts),
            help_text=_recipe_help(counts),
            widget=UnfoldAdminRadioSelectWidget(radio_style=admin.VERTICAL),
        )

    def start_runs(self, *, requested_by: "AbstractBaseUser") -> tuple[list[TrainingRun], list[str]]:
        """Queue the requested runs; return them, and a sentence for each that was refused."""
        data: dict[str, Any] = self.cleaned_data
        modalities = list(Modality) if data["modality"] == BOTH else [Modality(data["modality"])]
        started, refused = [], []
        for modality in modalities:
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
    """Return the recipes, each with what it does and how long it takes for so many products."""
    return [(name, _explain_recipe(name, counts)) for name in recipes.recipe_names()]


def _explain_recipe(name: str, counts: dict[Modality, int]) -> SafeString:
    times = []
    for modality, count in counts.items():
        own = recipes.DEFAULTS[modality] if name == recipes.DEFAULT else name
        duration = estimates.estimate_duration(modality, own, count)
        if duration and count:
            sentence = _now("%(modality)s: %(time)s.")
            if duration.is_measured:
                sentence = _now("%(modality)s: %(time)s, as earlier runs took.")
            times.append(sentence % {"modality": modality.label, "time": duration})
    layout = '<strong>{}</strong> {} <span class="aisle-optional">{}</span>'
    return format_html(layout, name, EXPLANATIONS.get(name, ""), " ".join(times))


def _recipe_help(counts: dict[Modality, int]) -> str:
    return _now(
        "Times are for the %(texts)s texts and %(photos)s photos that were imported or accepted so far. They come from "
        "earlier runs, or are estimated from this machine's speed."
    ) % {"texts": f"{counts[Modality.TEXT]:,}", "photos": f"{counts[Modality.IMAGE]:,}"}
