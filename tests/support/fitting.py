"""Make tiny corpora and jobs, and fit models to them."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from training.datasets.corpus import CorpusRow, write_corpus
from training.fit.job import Job
from training.fit.progress import Progress
from training.fit.recipes import Recipe, named_recipe
from training.fit.run import fit_model

WORDS = {
    "garden": ["rake", "planter", "hose", "hedge trimmer", "watering can"],
    "kitchen": ["bread knife", "saucepan", "whisk", "cutting board", "kettle"],
    "music": ["acoustic guitar", "violin bow", "drum sticks", "piano stool", "ukulele"],
}
MORE = ["new", "used once", "for small hands", "with box", "in blue", "from 2019", "bargain", "size 3"]
COLOURS = {"garden": "green", "kitchen": "silver", "music": "brown"}
LABELS = tuple(sorted(WORDS))
SIZES = {"train": 10, "validation": 4, "test": 4}


def product_rows(
    labels: tuple[str, ...] = LABELS,
    sizes: dict[str, int] = SIZES,
    source: str = "shop",
    words: dict[str, list[str]] = WORDS,
) -> Iterator[CorpusRow]:
    """Yield products whose words and colours say what they are."""
    random = np.random.default_rng(4)
    for split, size in sizes.items():
        for label in labels:
            for number in range(size):
                picture = coloured_photo(COLOURS.get(label, "grey"), random)
                title = f"{random.choice(words[label])} {random.choice(MORE)}"
                yield CorpusRow(
                    source=source,
                    id=f"{split}-{label}-{number}",
                    title=title,
                    description=" ".join(random.choice(MORE, int(random.integers(0, 12)))),
                    label=label,
                    photo=picture,
                    photo_digest=hashlib.sha256(picture).hexdigest(),
                    split=split,
                )


def coloured_photo(colour: str, random: np.random.Generator) -> bytes:
    image = Image.fromarray(random.integers(90, 165, (80, 100, 3), dtype=np.uint8))
    left, top = (int(place) for place in random.integers(0, 40, 2))
    ImageDraw.Draw(image).ellipse((left, top, left + 50, top + 40), fill=colour)
    content = io.BytesIO()
    image.save(content, "JPEG")
    return content.getvalue()


def write_small_corpus(folder: Path, *more: CorpusRow, **settings: Any) -> Path:
    """Write a corpus of three categories, and `more` rows, into `folder`."""
    write_corpus([*product_rows(**settings), *more], folder, exclusions={}, least_labels=1)
    return folder


def short_recipe(modality: str, name: str, **changes: Any) -> Recipe:
    """Return a named recipe cut to a few steps."""
    short: dict[str, Any] = {
        "head_epochs": 3,
        "head_batch_size": 16,
        "epochs": 2,
        "batch_size": 15,
        "precision": "fp32",
    }
    if modality == "text":
        short["max_tokens"] = 24
    return named_recipe(modality, name).with_changes(**short | changes)


def write_job(workdir: Path, corpus: Path, recipe: Recipe, **changes: Any) -> Path:
    workdir.mkdir(parents=True, exist_ok=True)
    job = {
        "modality": recipe.modality,
        "recipe": recipe.to_json(),
        "corpus": str(corpus),
        "labels": list(LABELS),
        "start": None,
        "trials": 0,
        "storage": None,
        "study": None,
    }
    (workdir / "job.json").write_text(json.dumps(job | changes))
    return workdir


def run_fit(workdir: Path, corpus: Path, recipe: Recipe, **changes: Any) -> Path:
    """Write a job and fit it in this process; return its folder."""
    write_job(workdir, corpus, recipe, **changes)
    fit_model(Job.read(workdir), Progress(workdir))
    return workdir


def progress_lines(workdir: Path) -> list[dict[str, Any]]:
    """Return the progress that the fit reported."""
    return [json.loads(line) for line in (workdir / "progress.jsonl").read_text().splitlines()]


def fitted_stages(workdir: Path) -> list[str]:
    return list(dict.fromkeys(line["stage"] for line in progress_lines(workdir) if "stage" in line))


def predictions_of(workdir: Path, split: str = "test") -> dict[str, np.ndarray]:
    with np.load(workdir / f"{split}.npz", allow_pickle=False) as content:
        return dict(content)
