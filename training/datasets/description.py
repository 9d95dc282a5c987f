"""Describe a dataset: class balance, texts and photos, and suspected label errors."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from feedback.statistics.label_errors import find_label_errors
from training.datasets.corpus import SPLITS, Corpus, row_key

if TYPE_CHECKING:
    from training.models import Dataset

PERCENTILES = (5, 25, 50, 75, 95, 100)
# Upper ends of the histogram's bars, in words; what is longer falls into one more.
WORDS = (0, 3, 6, 10, 15, 20, 30, 50, 100, 200)
MOST_CHECKED = 20_000  # rows whose labels are checked
FOLDS = 3
MOST_SUSPICIOUS = 60
PICTURES_EACH = 2
MOST_PICTURES = 48
CHECKED_CHARACTERS = 2_000
SEED = 0

Say = Callable[[str], None]


def describe_dataset(dataset: "Dataset", *, say: Say = lambda stage: None) -> dict[str, Any]:
    """Describe a dataset, store the description on its row, and return it. Raises CorpusError and StorageDown."""
    from training.datasets.snapshot_storage import fetch_corpus
    from training.models import Dataset

    say("fetching")
    description = describe_corpus(fetch_corpus(dataset), say=say)
    Dataset.objects.filter(pk=dataset.pk).update(description=description)
    dataset.description = description
    return description


def describe_corpus(corpus: Corpus, *, say: Say = lambda stage: None) -> dict[str, Any]:
    """Return a corpus's description as JSON. Memory holds only the rows whose labels are checked.

    `{"texts": {"title": lengths, "description": lengths}, "missing": {...}, "sources": {source: {...}},
    "suspicious": {"checked", "of", "found", "rows": [...], "note"}, "pictures": [...]}`; lengths are in words:
    `{"percentiles": {"5": 3, ...}, "histogram": [{"to": 2, "rows": 9}, ...]}`.
    """
    say("counting")
    lengths: dict[str, list[npt.NDArray[np.int32]]] = {"title": [], "description": []}
    missing: Counter[str] = Counter()
    sources: defaultdict[str, Counter[str]] = defaultdict(Counter)
    pictures: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for split in SPLITS:
        rows = corpus.split(split, columns=["source", "id", "title", "description", "label", "photo_digest"])
        for batch in rows.iter(batch_size=2_000):
            columns = {name: batch[name] for name in batch}
            for name, found in lengths.items():
                found.append(np.array([len(text.split()) for text in columns[name]], dtype=np.int32))
            for source, id, title, description, label, digest in zip(*columns.values(), strict=True):
                missing["title"] += not title
                missing["description"] += not description
                missing["text"] += not (title or description)
                missing["photo"] += not digest
                sources[source].update(rows=1, with_photo=bool(digest), with_text=bool(title or description))
                if digest and len(pictures[label]) < PICTURES_EACH:
                    pictures[label].append({"digest": digest, "label": label, "title": title, "key": f"{source}/{id}"})
    say("looking for label errors")
    return {
        "texts": {name: _lengths(np.concatenate(found)) for name, found in lengths.items()},
        "missing": {name: missing[name] for name in ("title", "description", "text", "photo")},
        "sources": {name: dict(counts) for name, counts in sorted(sources.items())},
        "suspicious": find_suspicious_labels(corpus),
        "pictures": [picture for label in sorted(pictures) for picture in pictures[label]][:MOST_PICTURES],
    }


def find_suspicious_labels(corpus: Corpus) -> dict[str, Any]:
    """Return rows whose text speaks for another label, found by confident learning.

    A quick lexical model judges each row after training on the other folds. Of more than MOST_CHECKED rows with a
    text, a random sample is checked; photos are not looked at.
    """
    rows = _sample(corpus)
    total = sum(corpus.count(split, with_text=True) for split in SPLITS)
    counts = Counter(row["label"] for row in rows)
    kept = [row for row in rows if counts[row["label"]] >= FOLDS]
    names = sorted({row["label"] for row in kept})
    if len(names) < 2:
        note = "Too few rows with a text to tell labels apart."
        return {"checked": 0, "of": total, "found": 0, "rows": [], "note": note}
    targets = np.array([names.index(row["label"]) for row in kept])
    probabilities = _judged(kept, targets, len(names))
    errors = find_label_errors({"lexical": probabilities}, targets)
    suspected = np.flatnonzero(errors.found)
    ranked = suspected[np.argsort(-errors.suspicion[suspected], kind="stable")]
    found = []
    for index in ranked[:MOST_SUSPICIOUS]:
        row, best = kept[index], int(probabilities[index].argmax())
        found.append(
            {
                "key": row_key(row["source"], row["id"]),
                "split": row["split"],
                "title": (row["title"] or row["description"])[:200],
                "digest": row["photo_digest"],
                "given": row["label"],
                "given_probability": round(float(probabilities[index][targets[index]]), 4),
                "suggested": names[best],
                "suggested_probability": round(float(probabilities[index][best]), 4),
            }
        )
    notes = []
    if len(rows) < total:
        notes.append(f"A random sample of {len(rows):,} of {total:,} rows with a text was checked.")
    if len(kept) < len(rows):
        notes.append(f"{len(rows) - len(kept)} rows in categories with fewer than {FOLDS} rows were not checked.")
    return {"checked": len(kept), "of": total, "found": len(ranked), "rows": found, "note": " ".join(notes)}


def _sample(corpus: Corpus) -> list[dict[str, Any]]:
    total = sum(corpus.count(split, with_text=True) for split in SPLITS)
    generator = np.random.default_rng(SEED)
    columns = ["source", "id", "title", "description", "label", "photo_digest"]
    found: list[dict[str, Any]] = []
    for split in SPLITS:
        rows = corpus.split(split, columns=columns, with_text=True)
        if total > MOST_CHECKED:
            count = round(MOST_CHECKED * len(rows) / total)
            rows = rows.select(np.sort(generator.choice(len(rows), min(count, len(rows)), replace=False)))
        found += [{**row, "split": split} for row in rows]
    return found


def _judged(rows: Sequence[dict[str, Any]], targets: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float64]:
    """Return probabilities (n, classes) for rows that the judging model hasn't seen."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.model_selection import StratifiedKFold

    texts = [f"{row['title']} {row['title']} {row['description'][:CHECKED_CHARACTERS]}" for row in rows]
    features = HashingVectorizer(ngram_range=(1, 2), n_features=2**18, alternate_sign=False).transform(texts)
    probabilities = np.zeros((len(rows), classes))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    for train, held_out in folds.split(np.zeros(len(rows)), targets):
        model = SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=15, tol=1e-3, random_state=SEED)
        model.fit(features[train], targets[train])
        probabilities[np.ix_(held_out, model.classes_)] = model.predict_proba(features[held_out])
    return probabilities


def _lengths(words: npt.NDArray[np.int32]) -> dict[str, Any]:
    if not len(words):
        return {"percentiles": {}, "histogram": []}
    values = np.percentile(words, PERCENTILES)
    bins = np.searchsorted(np.array(WORDS), words, side="left")
    counts = np.bincount(bins, minlength=len(WORDS) + 1)
    ends: Iterable[int | None] = (*WORDS, None)
    return {
        "percentiles": {str(p): float(value) for p, value in zip(PERCENTILES, values, strict=True)},
        "histogram": [{"to": end, "rows": int(count)} for end, count in zip(ends, counts, strict=True)],
    }
