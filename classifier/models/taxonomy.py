"""Versions of the category tree: what each changed, and what is needed to undo it."""

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from classifier.models.category import Category
from classifier.taxonomy.changes import ChangeKind


class TaxonomyVersion(models.Model):
    """A set of changes of the category tree that is applied as one, and can be undone."""

    class State(models.TextChoices):
        DRAFT = "draft", _("Draft")
        APPLIED = "applied", _("Applied")
        UNDONE = "undone", _("Undone")

    source = models.CharField(
        _("source"), max_length=200, help_text=_("The file that describes the tree, or what a person did.")
    )
    scheme = models.CharField(_("scheme"), max_length=40, blank=True)
    scheme_version = models.CharField(_("version of the scheme"), max_length=60, blank=True)
    state = models.CharField(_("state"), max_length=7, choices=State, default=State.DRAFT)
    nodes = models.JSONField(default=list, editable=False, help_text="The categories as they will be.")
    counts = models.JSONField(_("changes"), default=dict, editable=False)
    problems = models.JSONField(_("problems"), default=list, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("created by")
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    applied_at = models.DateTimeField(_("applied"), null=True, blank=True, editable=False)
    undone_at = models.DateTimeField(_("undone"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("version of the categories")
        verbose_name_plural = _("versions of the categories")
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.source} ({self.created_at:%Y-%m-%d})"


CHANGE_LABELS = {
    ChangeKind.ADD: _("added"),
    ChangeKind.RENAME: _("renamed"),
    ChangeKind.MOVE: _("moved"),
    ChangeKind.MERGE: _("merged"),
    ChangeKind.SPLIT: _("split"),
    ChangeKind.RETIRE: _("retired"),
    ChangeKind.RESTORE: _("restored"),
}


class TaxonomyChange(models.Model):
    """One change of one category, with the values that the category had before it was applied."""

    version = models.ForeignKey(TaxonomyVersion, models.CASCADE, related_name="changes")
    kind = models.CharField(
        _("change"), max_length=7, choices=[(kind.value, label) for kind, label in CHANGE_LABELS.items()]
    )
    key = models.CharField(_("category"), max_length=80)
    before = models.TextField(_("before"), blank=True)
    after = models.TextField(_("after"), blank=True)
    targets = models.JSONField(_("replaced by"), default=list)
    touched = models.JSONField(_("touched"), default=dict, help_text="Rows that name the category, by model.")

    class Meta:
        verbose_name = _("change of a category")
        verbose_name_plural = _("changes of categories")
        ordering = ["pk"]
        indexes = [models.Index(fields=["version", "kind"], name="taxonomy_change_kind")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.after or self.before}"


class CategoryBefore(models.Model):
    """The values of a category before a version was applied; none for one that the version added."""

    version = models.ForeignKey(TaxonomyVersion, models.CASCADE, related_name="categories_before")
    category = models.ForeignKey(Category, models.CASCADE, related_name="+")
    values = models.JSONField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["version", "category"], name="category_before_is_unique")]

    def __str__(self) -> str:
        return f"{self.category_id} before {self.version_id}"


class Reassignment(models.Model):
    """A row of another table that a version pointed from one category to another."""

    version = models.ForeignKey(TaxonomyVersion, models.CASCADE, related_name="reassignments")
    relation = models.CharField(max_length=80, help_text='As "portal.Product.category".')
    row = models.CharField(max_length=40, help_text="The row's primary key.")
    before = models.ForeignKey(Category, models.CASCADE, related_name="+")
    after = models.ForeignKey(Category, models.CASCADE, related_name="+")

    class Meta:
        indexes = [models.Index(fields=["version", "relation"], name="reassignment_of_version")]

    def __str__(self) -> str:
        return f"{self.relation} {self.row}"
