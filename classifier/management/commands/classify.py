import io
import json
import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from PIL import Image

from classifier.models import Prediction
from classifier.serving.batch import predict_now
from classifier.serving.inference import OUTAGES, ModelOutput, PredictionResult, round_probabilities, top_five
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
        # What a worker would read of the same product: a model must never meet a text that sellers can't enter.
        title, description = clean_title(title), clean_description(description)
        if not (title or description or image):
            raise CommandError("Give a --title, a --description or an --image.")
        photo = _open(image) if image else None
        try:
            predict_now(title=title, description=description, photo=photo)  # loads the models
            start = time.perf_counter()
            answer, categories = predict_now(title=title, description=description, photo=photo)
        except OUTAGES as error:
            raise CommandError(f"The models can't answer: {error}") from error
        milliseconds = round((time.perf_counter() - start) * 1000, 1)
        top5 = top_five(answer.combined, categories)
        if options["json"]:
            views = {
                "text": _view(answer.text, categories),
                "image": _view(answer.image, categories),
            }
            result: dict[str, Any] = {"top5": top5, "unusual": answer.unusual or None, **views}
            result |= {"ensemble": answer.ensemble, "milliseconds": milliseconds}
            self.stdout.write(json.dumps(result, ensure_ascii=False))
            return
        for row in top5:
            bar = "█" * round(row["probability"] * BAR)
            self.stdout.write(f"{row['category']:28} {bar:{BAR}} {row['probability']:6.1%}")
        if answer.unusual:
            self.stdout.write(f"Unlike anything known: {Prediction.Unusual(answer.unusual).label.lower()}.")
        self.stdout.write(f"{_versions(answer)}, {milliseconds} ms")


def _open(path: Path) -> Image.Image:
    """Return the small copy that the portal would show the models."""
    try:
        return Image.open(io.BytesIO(decode_trusted(path.read_bytes()).small))
    except FileNotFoundError as error:
        raise CommandError(f"There is no file {path}.") from error
    except (OSError, PictureError) as error:
        raise CommandError(f"{path} is not a readable JPEG, PNG or WebP picture: {error}") from error


def _view(said: ModelOutput | None, categories: Any) -> dict[str, Any] | None:
    if said is None:
        return None
    return {
        "version": said.version.name,
        "accuracy": said.version.accuracy,
        "engine": said.engine,
        "probabilities": round_probabilities(said.probabilities, categories),
    }


def _versions(answer: PredictionResult) -> str:
    return " + ".join(str(said.version) for said in (answer.text, answer.image) if said)
