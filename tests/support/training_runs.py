"""Write small corpora of made-up words, which only a model that was trained on them can know; run trainings."""

import csv
import io
import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from django.core.management import call_command
from django.utils import timezone
from PIL import Image, ImageDraw

from classifier.models import Category, Modality, ReferenceProduct
from training.fit import recipes
from training.fit.recipes import Recipe
from training.models import TrainingRun
from training.runs import pipeline

# Made-up words of three categories that no pretrained model has seen.
WORDS = {
    "Toys & Games": ("zorblat", "quimpel", "vextrix", "mondalu"),
    "Electronics": ("harnuck", "tilvane", "brosset", "gandrip"),
    "Beauty": ("celwyth", "oporrin", "dalmeek", "fuzzane"),
}
COLOURS = {"Toys & Games": (200, 40, 40), "Electronics": (30, 60, 190), "Beauty": (40, 170, 70)}


def write_products(folder: Path, *, count: int = 150, photos: int = 0, seed: int = 18, shuffled: bool = False) -> Path:
    """Write a products.csv of `count` rows, the first `photos` with a picture; `shuffled`: labels mean nothing."""
    chance = random.Random(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "products.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "title", "description", "category", "image"])
        for number in range(count):
            category = list(WORDS)[number % len(WORDS)]
            title = " ".join([*chance.choices(WORDS[category], k=2), *_noise(chance, 4)])
            image = ""
            if number < photos:
                image = f"{number}.jpg"
                (folder / "images" / image).write_bytes(_photo(chance, COLOURS[category]))
            label = chance.choice(list(WORDS)) if shuffled else category
            table.writerow([f"{seed}-{number}", title, "", label, image])
    return folder


def import_folder(folder: Path, source: str = "made-up") -> None:
    call_command("import_products", str(folder), source=source, stdout=io.StringIO(), stderr=io.StringIO())


def quick_recipe(modality: Modality = Modality.TEXT, **changes: object) -> Recipe:
    """Return the `head` recipe, small enough for a test."""
    return replace(recipes.named_recipe(modality, "head"), **changes)  # type: ignore[arg-type]


def _noise(chance: random.Random, count: int) -> list[str]:
    return ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(count)]


def _photo(chance: random.Random, colour: tuple[int, int, int]) -> bytes:
    image = Image.new("RGB", (120, 120), tuple(chance.randrange(180, 255) for _ in range(3)))  # type: ignore[arg-type]
    left, top = chance.randrange(0, 40), chance.randrange(0, 40)
    ImageDraw.Draw(image).rectangle((left, top, left + 70, top + 70), fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def offer_only_made_up() -> None:
    """Offer the categories of the made-up words only, and measure by the own products alone."""
    Category.objects.exclude(name__in=WORDS).update(is_active=False)
    ReferenceProduct.objects.filter(origin=ReferenceProduct.Origin.STARTER).delete()


def carry_out(run: TrainingRun) -> TrainingRun:
    """Claim a training run and carry it out in this process."""
    TrainingRun.objects.filter(pk=run.pk).update(available_at=timezone.now() - timedelta(seconds=1))
    claimed = TrainingRun.objects.claim(run.pk)
    assert claimed is not None
    pipeline.execute_run(claimed)
    return TrainingRun.objects.select_related("version", "dataset").get(pk=run.pk)
