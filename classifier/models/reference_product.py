"""The reference set: products on which every version of a modality is measured, and the versions' answers."""

from typing import Self

from django.db import models
from django.db.models import Count, Q
from django.utils.translation import gettext_lazy as _

from classifier.modalities import MODALITIES
from classifier.models.category import Category
from classifier.models.model_version import ModelVersion
from classifier.models.prediction import Prediction

# A category with this many labelled products of its own is not measured on the starter's.
ENOUGH_OWN = 20


class ReferenceProductQuerySet(models.QuerySet["ReferenceProduct"]):
    def measuring(self) -> Self:
        """Return the products that only the gate reads."""
        return self.filter(part=ReferenceProduct.Part.MEASURE)

    def replay(self) -> Self:
        """Return the products that training may use."""
        return self.filter(part=ReferenceProduct.Part.REPLAY)

    def readable_by(self, modality: str) -> Self:
        """Return the products that the modality can read."""
        return self.exclude(**MODALITIES[modality].empty_input)

    def counted(self, modality: str) -> Self:
        """Return the products that versions of the modality are measured on.

        The starter's are left out in categories that have enough products of the installation's own.
        """
        readable = self.measuring().readable_by(modality).filter(Q(category=None) | Q(category__is_active=True))
        own = readable.filter(origin=ReferenceProduct.Origin.EXAMPLE).order_by().values("category")
        rich = own.annotate(count=Count("pk")).filter(count__gte=ENOUGH_OWN).values("category")
        return readable.exclude(origin=ReferenceProduct.Origin.STARTER, category__in=rich)


class ReferenceProduct(models.Model):
    """A product that model versions are compared on; without a category it shows only whether two versions agree."""

    class Part(models.TextChoices):
        REPLAY = "replay", _("Replay: training may use it")
        MEASURE = "measure", _("Measuring: only the gate reads it")

    class Origin(models.TextChoices):
        STARTER = "starter", _("Comes with Aisle")
        EXAMPLE = "example", _("Imported, or an accepted answer")
        STORED = "stored", _("A stored product without a reviewed answer")

    part = models.CharField(_("part"), max_length=7, choices=Part)
    origin = models.CharField(_("origin"), max_length=7, choices=Origin)
    source = models.CharField(_("source"), max_length=60)
    external_id = models.CharField(_("id in the source"), max_length=120)
    title = models.TextField(_("title"), blank=True)
    description = models.TextField(_("description"), blank=True)
    category = models.ForeignKey(
        Category, models.CASCADE, null=True, blank=True, related_name="+", verbose_name=_("category")
    )
    photo = models.CharField(_("photo"), max_length=120, blank=True)
    photo_digest = models.CharField(max_length=64, blank=True, editable=False)
    prediction = models.ForeignKey(Prediction, models.CASCADE, null=True, blank=True, related_name="+", editable=False)
    created_at = models.DateTimeField(_("added"), auto_now_add=True)

    objects = ReferenceProductQuerySet.as_manager()

    class Meta:
        verbose_name = _("reference product")
        verbose_name_plural = _("reference products")
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["origin", "source", "external_id"], name="reference_product_is_added_once"),
            models.CheckConstraint(
                condition=~Q(title="", description="", photo=""), name="reference_product_has_an_input"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source}/{self.external_id}"

    @property
    def photo_storage(self) -> str:
        """The alias of the storage that holds the photo."""
        return "default" if self.origin == self.Origin.STORED else "datasets"


class ReferenceAnswer(models.Model):
    """A version's answer for a reference product: its first choice among the active categories."""

    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="reference_answers")
    product = models.ForeignKey(ReferenceProduct, models.CASCADE, related_name="answers")
    first_choice = models.CharField(max_length=80, help_text=_("The slug of the likeliest category."))
    confidence = models.FloatField(help_text=_("The probability of the first choice."))
    probability = models.FloatField(null=True, help_text=_("The probability of the product's own category."))
    rank = models.PositiveIntegerField(null=True, help_text=_("How many categories are likelier than its own."))
    offer = models.CharField(max_length=16, help_text=_("A hash of the categories that were active."))

    class Meta:
        verbose_name = _("answer for a reference product")
        verbose_name_plural = _("answers for reference products")
        constraints = [models.UniqueConstraint(fields=["version", "product"], name="one_reference_answer_per_version")]

    def __str__(self) -> str:
        return f"{self.version}: {self.product}"
