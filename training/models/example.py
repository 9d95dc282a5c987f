"""Define examples: the labelled products that models learn from."""

from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from classifier.models import Category

FEEDBACK = "feedback"  # the source of examples that were made from sellers' accepted answers


class Split(models.TextChoices):
    """The split of an example; BRIDGE means that it is similar to examples of two splits, so it is in none."""

    TRAIN = "train", _("Training")
    VALIDATION = "validation", _("Validation")
    TEST = "test", _("Test")
    BRIDGE = "bridge", _("Left out: similar to products of two splits")


class ExampleQuerySet(models.QuerySet["Example"]):
    def in_a_split(self) -> Self:
        """Leave out examples that are similar to those of two splits."""
        return self.exclude(split=Split.BRIDGE)

    def usable(self) -> Self:
        """Keep what a snapshot may take: examples in a split, of a category that is active."""
        return self.in_a_split().filter(category__is_active=True)


class Example(models.Model):
    """A labelled product that models may learn from: imported, or a seller's answer that was accepted.

    Its split is chosen once, when it is stored, and never changes: see `training.datasets.splits`.
    """

    source = models.CharField(_("source"), max_length=60)
    external_id = models.CharField(_("id in the source"), max_length=120)
    title = models.TextField(_("title"), blank=True)
    description = models.TextField(_("description"), blank=True)
    category = models.ForeignKey(Category, models.PROTECT, related_name="+", verbose_name=_("category"))
    photo = models.CharField(_("photo"), max_length=120, blank=True, help_text=_("Its name in the storage “datasets”."))
    photo_digest = models.CharField(max_length=64, blank=True, editable=False)
    original_digest = models.CharField(
        max_length=64,
        blank=True,
        editable=False,
        help_text=_("Of the photo's file as it was imported, not of our copy."),
    )
    group = models.CharField(
        _("group"), max_length=120, blank=True, help_text=_("Products of one group stay in one split.")
    )
    split = models.CharField(_("split"), max_length=10, choices=Split)
    # Equal and nearly equal titles share these: see `training.datasets.splits`. Only the first one has the bands, so
    # that the index holds each title once.
    title_key = models.BigIntegerField(null=True, editable=False)
    bands = ArrayField(models.BigIntegerField(), default=list, editable=False)
    created_at = models.DateTimeField(_("imported"), default=timezone.now, editable=False)

    objects = ExampleQuerySet.as_manager()

    class Meta:
        verbose_name = _("example")
        verbose_name_plural = _("examples")
        ordering = ["pk"]
        indexes = [
            GinIndex(fields=["bands"], name="example_bands", fastupdate=False),
            models.Index(fields=["title_key", "split"], name="example_title", condition=Q(title_key__isnull=False)),
            models.Index(fields=["photo_digest", "split"], name="example_photo", condition=~Q(photo_digest="")),
            models.Index(fields=["source", "group", "split"], name="example_group", condition=~Q(group="")),
        ]
        constraints = [
            models.UniqueConstraint(fields=["source", "external_id"], name="example_is_imported_once"),
            models.CheckConstraint(condition=~Q(title="", description="", photo=""), name="example_has_an_input"),
        ]

    def __str__(self) -> str:
        return f"{self.source}/{self.external_id}"
