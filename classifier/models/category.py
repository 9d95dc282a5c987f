"""Categories, their aliases and the words that find them: data that staff change."""

from typing import TYPE_CHECKING, Self

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from common.text_search import lexemes_of

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
    has_starter_terms = models.BooleanField(
        default=False,
        editable=False,
        help_text="Whether the search terms that come with Aisle were added: they are added once.",
    )

    objects = CategoryQuerySet.as_manager()

    class Meta:
        verbose_name = _("category")
        verbose_name_plural = _("categories")
        ordering = ["name"]
        indexes = [GinIndex(lexemes_of("name"), name="category_words")]

    def __str__(self) -> str:
        return self.name


class CategoryAlias(models.Model):
    """Another name under which product data knows a category: no two categories share one."""

    category = models.ForeignKey(Category, models.CASCADE, related_name="aliases", verbose_name=_("category"))
    name = models.CharField(_("name"), max_length=120)

    class Meta:
        verbose_name = _("alias")
        verbose_name_plural = _("aliases")
        ordering = ["name"]
        constraints = [models.UniqueConstraint(Lower("name"), name="alias_name_is_unique")]
        indexes = [GinIndex(lexemes_of("name"), name="category_alias_words")]

    def __str__(self) -> str:
        return self.name


class CategorySearchTerm(models.Model):
    """A word that leads sellers to a category, such as a kind of product in it; several categories may share one."""

    category = models.ForeignKey(Category, models.CASCADE, related_name="search_terms", verbose_name=_("category"))
    term = models.CharField(_("search term"), max_length=120)

    class Meta:
        verbose_name = _("search term")
        verbose_name_plural = _("search terms")
        ordering = ["term"]
        constraints = [models.UniqueConstraint(fields=["category", "term"], name="search_term_is_unique")]
        indexes = [GinIndex(lexemes_of("term"), name="category_search_term_words")]

    def __str__(self) -> str:
        return self.term
