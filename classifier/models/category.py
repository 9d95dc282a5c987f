"""Categories, their aliases and the words that find them: data that staff change."""

from typing import TYPE_CHECKING, Any, Self

from django.contrib.postgres.indexes import GinIndex
from django.core.validators import RegexValidator
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
        return self.select_related("redirect").filter(
            Q(is_active=True) | Q(slug__in=suggested) | Q(redirect__is_active=True)
        )

    def named(self, name: str) -> "Category | None":
        """Return the category with this name or alias, ignoring case."""
        return self.filter(Q(name__iexact=name) | Q(aliases__name__iexact=name)).distinct().first()


class Category(models.Model):
    """A category of the tree. Models are trained on its slug, so that never changes.

    `path` holds the primary keys from the root to the category, each followed by a point: "3.17.204.". A category that
    was merged into another one, or moved there under another key, has that one as its `redirect`: whoever reads a
    category follows it.
    """

    class State(models.TextChoices):
        ACTIVE = "active", _("Active")
        RETIRED = "retired", _("Retired")
        REDIRECTED = "redirected", _("Redirected")

    slug = models.CharField(
        _("slug"),
        max_length=80,
        unique=True,
        validators=[RegexValidator(r"^[\w:/~.-]+$", _("Use letters, digits and hyphens only."))],
        help_text=_("Never changes once it is used."),
    )
    name = models.CharField(_("name"), max_length=200)
    parent = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, related_name="children", verbose_name=_("parent")
    )
    position = models.PositiveIntegerField(_("position"), default=0, help_text=_("Its place below its parent."))
    path = models.CharField(max_length=200, default="", editable=False)
    depth = models.PositiveSmallIntegerField(_("level"), default=1, editable=False)
    is_active = models.BooleanField(
        _("offered to sellers"), default=True, help_text=_("Switch off instead of deleting.")
    )
    has_starter_terms = models.BooleanField(
        default=False,
        editable=False,
        help_text="Whether the search terms that come with Aisle were added: they are added once.",
    )
    redirect = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        blank=True,
        editable=False,
        related_name="redirected",
        verbose_name=_("redirect"),
    )
    names = models.JSONField(_("names by language"), default=dict, blank=True)
    codes = models.JSONField(_("codes in other schemes"), default=dict, blank=True)

    objects = CategoryQuerySet.as_manager()

    class Meta:
        verbose_name = _("category")
        verbose_name_plural = _("categories")
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                "parent",
                Lower("name"),
                condition=Q(is_active=True),
                nulls_distinct=False,
                name="category_name_of_parent",
            ),
            models.CheckConstraint(condition=Q(redirect=None) | Q(is_active=False), name="redirected_is_not_active"),
        ]
        indexes = [
            GinIndex(lexemes_of("name"), name="category_words"),
            models.Index(fields=["path"], opclasses=["text_pattern_ops"], name="category_path"),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the category; a new one gets the path below its parent, which needs its primary key."""
        is_new = self._state.adding
        super().save(*args, **kwargs)
        if is_new:
            above = self.parent.path if self.parent else ""
            self.path, self.depth = f"{above}{self.pk}.", (self.parent.depth if self.parent else 0) + 1
            type(self).objects.filter(pk=self.pk).update(path=self.path, depth=self.depth)

    @property
    def state(self) -> "Category.State":
        if self.is_active:
            return self.State.ACTIVE
        return self.State.REDIRECTED if self.redirect_id else self.State.RETIRED

    @property
    def current(self) -> "Category":
        """Return the category that has taken this one's place, or this one."""
        return self.redirect or self

    @property
    def ancestor_ids(self) -> list[int]:
        """Return the primary keys of its ancestors, from the root down."""
        return [int(part) for part in self.path.split(".")[:-2]]


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
