from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldBooleanSwitchWidget

from classifier import registry
from classifier.models import Modality
from training import recipes, services
from training.models import Dataset, TrainingRun

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

BOTH = "all"


class RetrainForm(forms.Form):
    """What to train: the same questions as `manage.py retrain` asks."""

    modality = forms.ChoiceField(
        label=_("Models"),
        choices=[(BOTH, _("Text and image")), *Modality.choices],
        widget=UnfoldAdminSelectWidget,
    )
    recipe = forms.ChoiceField(
        label=_("Recipe"),
        choices=[(name, name) for name in recipes.names()],
        initial=recipes.DEFAULT,
        widget=UnfoldAdminSelectWidget,
        help_text=_("“head” takes minutes on two cores; the others tune the encoder too and want more time or a GPU."),
    )
    dataset = forms.ModelChoiceField(
        Dataset.objects.all(),
        label=_("Dataset"),
        required=False,
        empty_label=_("A new one, of everything imported and accepted"),
        widget=UnfoldAdminSelectWidget,
    )
    from_champion = forms.BooleanField(
        label=_("Go on from the live model"), required=False, widget=UnfoldBooleanSwitchWidget
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
        label=_("Deploy when it passes the gate"), required=False, initial=True, widget=UnfoldBooleanSwitchWidget
    )
    ends_test = forms.BooleanField(
        label=_("Even if a test is running then: end it"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=_("Else the new version is registered, and you test or deploy it from its page."),
    )

    def start(self, *, requested_by: "AbstractBaseUser") -> tuple[list[TrainingRun], list[str]]:
        """Queue the runs that were asked for; return them and a sentence for each that was refused."""
        data: dict[str, Any] = self.cleaned_data
        wanted = list(Modality) if data["modality"] == BOTH else [Modality(data["modality"])]
        started, refused = [], []
        for modality in wanted:
            try:
                run = services.request_training(
                    modality=modality,
                    recipe=recipes.named(modality, data["recipe"]),
                    dataset=data["dataset"],
                    parent=registry.champion(modality) if data["from_champion"] else None,
                    trials=data["trials"],
                    deploys=data["deploys"],
                    ends_test=data["ends_test"],
                    trigger=TrainingRun.Trigger.ADMIN,
                    requested_by=requested_by,
                )
                started.append(run)
            except services.Refused as refusal:
                refused.append(str(refusal))
        return started, refused
