"""Register the modalities: what each one reads, which class loads its models, and where its output is stored.

A further modality needs a class that implements `classifier.ml.classifier.Classifier`, an entry here, and its columns
in `Prediction`, `EnsembleRule` and the tables of monitoring.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from classifier.ml.classifier import Classifier, ProductInput


class Modality(models.TextChoices):
    """What a model reads."""

    TEXT = "text", _("Text")
    IMAGE = "image", _("Image")


@dataclass(frozen=True)
class ModalityEntry:
    """One modality: its input and where its output is stored."""

    modality: Modality
    model_class: str  # "module:class"; a name, for web processes must not import torch
    columns: tuple[str, ...]  # of examples, reference products and corpora
    accepts: Callable[[ProductInput], bool]  # known before a model is loaded, so that no part of Classifier

    @property
    def reads_text(self) -> bool:
        return "title" in self.columns

    @property
    def reads_photo(self) -> bool:
        return "photo" in self.columns

    @property
    def version_column(self) -> str:
        """The column of `Prediction` that names the version which answered."""
        return f"{self.modality}_version"

    @property
    def probabilities_column(self) -> str:
        return f"{self.modality}_probabilities"

    @property
    def embedding_column(self) -> str:
        return f"{self.modality}_embedding"

    @property
    def archive_file(self) -> str:
        """The file of a prediction's archive that holds this modality's output."""
        return f"{self.modality}.json"

    @property
    def corpus_filter(self) -> dict[str, bool]:
        """Arguments by which `Corpus.split` and `Corpus.count` keep the rows that this modality can read."""
        return {"with_text": self.reads_text, "with_photo": self.reads_photo}

    @property
    def corpus_count(self) -> str:
        """The key of a corpus manifest that counts the rows which this modality can read."""
        return "with_text" if self.reads_text else "with_photo"

    @property
    def empty_input(self) -> dict[str, str]:
        """Arguments by which a queryset excludes the rows that this modality can't read."""
        return dict.fromkeys(self.columns, "")

    def load(self, folder: Path, device: str | None = None) -> Classifier:
        """Load the model in an artifact's folder. Raises ArtifactError when it is unusable."""
        module, _colon, name = self.model_class.partition(":")
        model_class: Any = getattr(import_module(module), name)
        model: Classifier = model_class.load(folder, device=device)
        return model


MODALITIES: dict[str, ModalityEntry] = {
    Modality.TEXT: ModalityEntry(
        Modality.TEXT,
        model_class="classifier.ml.text_model:TextModel",
        columns=("title", "description"),
        accepts=lambda product: product.has_text,
    ),
    Modality.IMAGE: ModalityEntry(
        Modality.IMAGE,
        model_class="classifier.ml.image_model:ImageModel",
        columns=("photo",),
        accepts=lambda product: product.has_photo,
    ),
}
