"""Model versions, ensemble rules, deployments, and the variants in use."""

from enum import StrEnum
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from classifier.ml.ensemble import Rule
from classifier.modalities import Modality


class Decision(StrEnum):
    """The gate's decision about a candidate, as `ModelVersion.gate` holds it."""

    PASSED = "passed"
    HELD = "held"  # registered, but goes live only if a person deploys it
    REJECTED = "rejected"  # never goes live


class ModelVersionQuerySet(models.QuerySet["ModelVersion"]):
    def held(self) -> Self:
        """Return the versions that the gate held back and that have not been deployed or tested since."""
        return self.filter(gate__decision=Decision.HELD, deployments=None)


class ModelVersion(models.Model):
    """A trained model: a row and an immutable, checksummed folder in the storage "models"."""

    # Long columns that answering a product does not read.
    REPORT_COLUMNS = ("metrics", "labels", "gate", "lineage")

    class State(models.TextChoices):
        REGISTERED = "registered", _("Registered")
        REJECTED = "rejected", _("Rejected")

    modality = models.CharField(_("modality"), max_length=8, choices=Modality)
    name = models.CharField(_("name"), max_length=60)
    checksum = models.CharField(_("checksum"), max_length=64, unique=True)
    accuracy = models.FloatField(_("accuracy"), help_text=_("On the test split; the model's weight in the ensemble."))
    metrics = models.JSONField(_("metrics"), default=dict)
    labels = models.JSONField(_("categories"), default=list, help_text=_("The slugs that it can suggest."))
    gate = models.JSONField(_("gate"), default=dict, help_text=_("How it compared with the champion."))
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.REGISTERED)
    reason = models.TextField(_("reason"), blank=True, help_text=_("Why the gate decided so."))
    parent = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, related_name="children", verbose_name=_("trained on from")
    )
    lineage = models.JSONField(_("lineage"), default=dict, help_text=_("Dataset, recipe, run and code version."))
    engines = models.JSONField(_("engines"), default=dict, help_text=_("How engines compare with the reference."))
    created_at = models.DateTimeField(_("registered"), auto_now_add=True)

    objects = ModelVersionQuerySet.as_manager()

    class Meta:
        verbose_name = _("model version")
        verbose_name_plural = _("model versions")
        ordering = ["-created_at"]
        constraints = [models.UniqueConstraint("modality", "name", name="model_version_name_is_unique")]
        permissions = [("deploy_modelversion", "Can deploy and roll back model versions")]

    def __str__(self) -> str:
        return f"{self.modality} {self.name}"

    @property
    def is_held(self) -> bool:
        """Whether the gate held it back: it goes live only if a person deploys it."""
        return bool(self.gate.get("decision") == Decision.HELD)

    @property
    def path(self) -> str:
        """The artifact's folder in the storage "models"."""
        return f"{self.modality}/{self.checksum}"


class DistributionDetector(models.Model):
    """The out-of-distribution detector of a version: `arrays` are those of a `CentroidDetector`, as safetensors."""

    version = models.OneToOneField(ModelVersion, models.CASCADE, related_name="detector", verbose_name=_("version"))
    arrays = models.BinaryField()
    figures = models.JSONField(
        _("figures"), default=dict, help_text=_("Rows that it was fitted to, and the share of them that it flags.")
    )
    created_at = models.DateTimeField(_("fitted"), auto_now_add=True)

    class Meta:
        verbose_name = _("out-of-distribution detector")
        verbose_name_plural = _("out-of-distribution detectors")
        db_table = "classifier_familiar"
        # Groups of existing installations hold these codenames.
        default_permissions = ()
        permissions = [
            ("add_familiar", "Can add out-of-distribution detectors"),
            ("change_familiar", "Can change out-of-distribution detectors"),
            ("delete_familiar", "Can delete out-of-distribution detectors"),
            ("view_familiar", "Can view out-of-distribution detectors"),
        ]

    def __str__(self) -> str:
        return str(self.version)


class EnsembleRule(models.Model):
    """How the probabilities of a text and an image version are combined; `classifier.ml.ensemble` has the kinds."""

    class Kind(models.TextChoices):
        ACCURACY_WEIGHTED = "accuracy-weighted", _("Accuracy-weighted mean")
        LOG_POOL = "log-pool", _("Log pool")

    text_version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="+", verbose_name=_("text model"))
    image_version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="+", verbose_name=_("image model"))
    kind = models.CharField(_("rule"), max_length=20, choices=Kind, default=Kind.ACCURACY_WEIGHTED)
    parameters = models.JSONField(_("parameters"), default=dict)
    metrics = models.JSONField(_("metrics"), default=dict)
    carried_over_from = models.CharField(
        _("carried over from"),
        max_length=140,
        blank=True,
        help_text=_("The pair whose rule is used until one can be fitted for this pair."),
    )
    created_at = models.DateTimeField(_("registered"), auto_now_add=True)

    class Meta:
        verbose_name = _("ensemble rule")
        verbose_name_plural = _("ensemble rules")
        constraints = [models.UniqueConstraint(fields=["text_version", "image_version"], name="one_rule_per_pair")]

    def __str__(self) -> str:
        return f"{self.text_version} + {self.image_version}"

    def rule(self) -> Rule:
        """Return the rule that combines probabilities. Raises ValueError for unusable parameters."""
        accuracies = {"text": self.text_version.accuracy, "image": self.image_version.accuracy}
        return Rule.from_json(self.kind, self.parameters, **accuracies)


class Deployment(models.Model):
    """One change of a modality's live versions; never deleted, so that it can be rolled back."""

    class Kind(models.TextChoices):
        DEPLOYMENT = "deployment", _("Deployment")
        ROLLBACK = "rollback", _("Roll-back")
        TEST = "test", _("Experiment started")
        WEIGHTS = "weights", _("Shares changed")
        SHADOW = "shadow", _("Shadow started")
        STOP = "stop", _("Stopped")
        PROMOTION = "promotion", _("Promoted")

    modality = models.CharField(_("modality"), max_length=8, choices=Modality)
    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="deployments", verbose_name=_("version"))
    replaced = models.ForeignKey(
        ModelVersion, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("replaced")
    )
    kind = models.CharField(_("kind"), max_length=10, choices=Kind, default=Kind.DEPLOYMENT)
    shares = models.JSONField(_("shares"), default=dict, help_text=_("Each live version's share afterwards."))
    deployed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("by")
    )
    note = models.CharField(_("note"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("when"), auto_now_add=True)

    class Meta:
        verbose_name = _("deployment")
        verbose_name_plural = _("deployments")
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.version} {self.created_at:%Y-%m-%d %H:%M}"


class Variant(models.Model):
    """A model version in use: live, with a share of its modality's traffic, or a shadow, unseen by sellers.

    The live shares of a modality sum to 100: a deferred trigger checks it at the end of each transaction.
    """

    class Role(models.TextChoices):
        LIVE = "live", _("Live")
        SHADOW = "shadow", _("Shadow")

    version = models.OneToOneField(ModelVersion, models.PROTECT, verbose_name=_("version"))
    role = models.CharField(_("role"), max_length=6, choices=Role, default=Role.LIVE)
    weight = models.PositiveSmallIntegerField(
        _("share of traffic (%)"), default=100, help_text=_("1 to 100; a shadow has 0.")
    )
    deployed_at = models.DateTimeField(_("since"), auto_now_add=True)

    class Meta:
        verbose_name = _("variant")
        verbose_name_plural = _("experiments")  # the page; a row is a variant
        constraints = [
            models.CheckConstraint(
                condition=Q(role="live", weight__range=(1, 100)) | Q(role="shadow", weight=0),
                name="weight_is_a_percentage",
            )
        ]

    def __str__(self) -> str:
        return f"{self.version} ({self.weight} %)" if self.is_live else f"{self.version} ({self.get_role_display()})"

    @property
    def is_live(self) -> bool:
        return self.role == Variant.Role.LIVE
