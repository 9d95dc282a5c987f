"""manage.py classify: classify one product with the live models."""

import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from PIL import Image

from classifier.modalities import MODALITIES
from classifier.models import Category, Prediction
from classifier.serving.batch import predict_now
from classifier.serving.inference import OUTAGES, ModelOutput, round_probabilities, top_five
from common.photo_decoding import decode_trusted
from common.photos.headers import PictureError
from common.text import clean_description, clean_title

BAR = 30


class Command(BaseCommand):
    help = "Classify one product on the command line with the live models. Nothing is stored."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--title", default="")
        parser.add_argument("--description", default="")
        parser.add_argument("--image", type=Path, metavar="FILE", help="a JPEG, PNG or WebP picture")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, title: str, description: str, image: Path | None, **options: Any) -> None:
        # Cleaned as forms and the API clean it: the models are fitted to such texts alone.
        title, description = clean_title(title), clean_description(description)
        if not (title or description or image):
            raise CommandError("Give a --title, a --description or an --image.")
        photo = _open(image) if image else None
        try:
            predict_now(title=title, description=description, photo=photo)  # loads the models
            start = time.perf_counter()
            result, categories = predict_now(title=title, description=description, photo=photo)
        except OUTAGES as error:
            raise CommandError(f"No model can be loaded: {error}") from error
        milliseconds = round((time.perf_counter() - start) * 1000, 1)
        top5 = top_five(result.probabilities, categories)
        if options["json"]:
            content: dict[str, Any] = {"top5": top5, "unusual": result.unusual or None}
            for modality in MODALITIES:
                content[modality] = _describe_output(result.outputs.get(modality), categories)
            content |= {"ensemble": result.ensemble, "milliseconds": milliseconds}
            self.stdout.write(json.dumps(content, ensure_ascii=False))
            return
        for row in top5:
            bar = "█" * round(row["probability"] * BAR)
            self.stdout.write(f"{row['category']:28} {bar:{BAR}} {row['probability']:6.1%}")
        if result.unusual:
            self.stdout.write(f"Unusual for the models: {Prediction.Unusual(result.unusual).label.lower()}.")
        versions = " + ".join(str(output.version) for output in result.outputs.values())
        self.stdout.write(f"{versions}, {milliseconds} ms")


def _open(path: Path) -> Image.Image:
    """Return the small copy that the models would read after an upload."""
    try:
        return Image.open(io.BytesIO(decode_trusted(path.read_bytes()).small))
    except FileNotFoundError as error:
        raise CommandError(f"There is no file {path}.") from error
    except (OSError, PictureError) as error:
        raise CommandError(f"{path} is not a readable JPEG, PNG or WebP picture: {error}") from error


def _describe_output(output: ModelOutput | None, categories: Sequence[Category]) -> dict[str, Any] | None:
    if output is None:
        return None
    return {
        "version": output.version.name,
        "accuracy": output.version.accuracy,
        "engine": output.engine,
        "probabilities": round_probabilities(output.probabilities, categories),
    }
