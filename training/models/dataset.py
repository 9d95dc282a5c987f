"""Define datasets: the immutable snapshots that training runs read."""

from django.db import models
from django.utils.translation import gettext_lazy as _

SNAPSHOTS = "snapshots"  # the folder of snapshots in the storage "datasets"


class Dataset(models.Model):
    """An immutable snapshot of examples: Parquet shards and a manifest in the storage "datasets"."""

    checksum = models.CharField(_("checksum"), max_length=64, unique=True, help_text=_("Of its manifest."))
    manifest = models.JSONField(_("manifest"))
    description = models.JSONField(_("description"), null=True, help_text=_("The result of describe_dataset."))
    created_at = models.DateTimeField(_("made"), auto_now_add=True)

    class Meta:
        verbose_name = _("dataset")
        verbose_name_plural = _("datasets")
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"dataset {self.pk}"

    @property
    def path(self) -> str:
        """The snapshot's folder in the storage "datasets"."""
        return f"{SNAPSHOTS}/{self.checksum}"
