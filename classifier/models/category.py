"""Categories and their aliases: data that staff change."""

from typing import TYPE_CHECKING, Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from classifier.models.prediction import Prediction


class CategoryQuerySet(models.QuerySet["Category"]):
    def active(self) -> Self:
        return self.filter(is_active=True)

    def offered_for(self, prediction: "Prediction") -> Self:
        """Return what a seller may choose for a prediction: active categories, and any that was suggested."""
        # A category that was switched off after it was suggested can still be confirmed.
        suggested = [row["slug"] for row in prediction.top5 or []]
        return self.filter(Q(is_active=True) | Q(slug__in=suggested))

    def named(self, name: str) -> "Category | None":
        """Return the category with this name or alias, ignoring case."""
        return self.filter(Q(name__iexact=name) | Q(aliases__name__iexact=name)).distinct().first()


class Category(models.Model):
    """A category. Models are trained on its slug, so that never changes."""

    slug = models.SlugField(_("slug"), max_length=80, unique=True, help_text=_("Never changes once it is used."))
    name = models.CharField(_("name"), max_length=80, unique=True)
    is_active = models.BooleanField(
        _("offered to sellers"), default=True, help_text=_("Switch off instead of deleting.")
    )

    objects = CategoryQuerySet.as_manager()

    class Meta:
        verbose_name = _("category")
        verbose_name_plural = _("categories")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class CategoryAlias(models.Model):
    """Another name under which product data knows a category."""

    category = models.ForeignKey(Category, models.CASCADE, related_name="aliases", verbose_name=_("category"))
    name = models.CharField(_("name"), max_length=120)

    class Meta:
        verbose_name = _("alias")
        verbose_name_plural = _("aliases")
        ordering = ["name"]
        constraints = [models.UniqueConstraint(Lower("name"), name="alias_name_is_unique")]

    def __str__(self) -> str:
        return self.name
