import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from classifier.ml.artifact import ArtifactError
from classifier.ml.ngrams import LexicalModel, LogitPool, count_ngrams, lexical_text, weigh_counts
from classifier.ml.text_model import TextModel

STARTER = Path(__file__).resolve().parents[3] / "classifier" / "starter" / "text"
TITLES = ["Bosch drill 18V", "red running shoe", "drill bit set", "shoe laces, red"]


def lexical(classes: int = 3, seed: int = 0) -> LexicalModel:
    """Random weights for every n-gram of TITLES."""
    random = np.random.default_rng(seed)
    blocks = count_ngrams([lexical_text(title, "") for title in TITLES])
    keys = tuple(np.unique(block.indices).astype(np.int32) for block in blocks)
    rows = sum(map(len, keys))
    idf = random.uniform(1, 4, rows).astype(np.float16).astype(np.float32)
    weights = torch.from_numpy(random.normal(0, 1, (rows, classes)).astype(np.float32))
    return LexicalModel((keys[0], keys[1]), idf, weights, torch.zeros(classes))


def test_the_features_are_those_of_tf_idf() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [lexical_text(title, "for the home and garden") for title in TITLES]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    wanted = vectorizer.fit_transform(texts)
    counts = count_ngrams(texts)[0]
    keys, documents = np.unique(counts.indices, return_counts=True)
    idf = np.log((1 + len(texts)) / (1 + documents)) + 1
    found = weigh_counts(counts, keys.astype(np.int32), idf.astype(np.float32))
    assert (found @ found.T).toarray() == pytest.approx((wanted @ wanted.T).toarray(), abs=1e-5)


def test_a_stored_table_gives_nearly_the_fitted_logits() -> None:
    fitted = lexical()
    stored = LexicalModel.read(fitted.tensors(), 3, torch.device("cpu"))
    assert stored is not None
    words = [""] * len(TITLES)
    assert stored.logits(TITLES, words).numpy() == pytest.approx(fitted.logits(TITLES, words).numpy(), abs=0.03)


def test_a_text_without_known_n_grams_gets_the_bias() -> None:
    part = lexical()
    part.bias = torch.tensor([1.0, 2.0, 3.0])
    assert part.logits(["", "赤い靴"], ["", ""]).tolist() == [[1.0, 2.0, 3.0]] * 2
    with pytest.raises(ValueError):
        part.logits([], [])


def test_half_a_surrogate_pair_is_dropped_and_the_title_counts_twice() -> None:
    assert lexical_text("red \ud83d\nshoe", "new") == "red shoe red shoe new"
    assert lexical().logits(["\ud83d"], ["\ud83d" * 2_000]).shape == (1, 3)


def test_the_pool_is_a_weighted_sum_of_log_probabilities() -> None:
    first, second = torch.randn(5, 3), torch.randn(5, 3)
    assert LogitPool(1.0, 0.0)(first, second).exp().numpy() == pytest.approx(first.softmax(dim=1).numpy(), abs=1e-6)
    shifted = LogitPool(0.5, 0.5, (9.0, 0.0, 0.0))(first + 7, second)
    assert (shifted.argmax(dim=1) == 0).all()
    assert shifted.exp().sum(dim=1).numpy() == pytest.approx(np.ones(5))


def pooled(folder: Path, **config: object) -> Path:
    """Return a copy of the starter with a lexical part."""
    shutil.copytree(STARTER, folder)
    tensors = load_file(STARTER / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if not name.startswith("lexical.")}
    save_file(kept | lexical(18).tensors(), folder / "model.safetensors")
    content = json.loads((STARTER / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"pool": {"lexical": 0.5, "encoder": 0.5}} | config))
    return folder


def test_a_model_pools_its_lexical_part_with_its_encoder(tmp_path: Path) -> None:
    model = TextModel.load(pooled(tmp_path / "pooled"), device="cpu")
    output = model.predict_texts(TITLES, [""] * 4)
    alone = TextModel.load(pooled(tmp_path / "alone", pool={"lexical": 0, "encoder": 1}), device="cpu")
    assert output.probabilities.sum(axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert output.embeddings == pytest.approx(alone.predict_texts(TITLES, [""] * 4).embeddings)
    assert np.abs(output.probabilities - alone.predict_texts(TITLES, [""] * 4).probabilities).max() > 0.05
    for row, title in enumerate(TITLES):
        assert model.predict_texts([title], [""]).probabilities[0] == pytest.approx(output.probabilities[row], abs=1e-4)


@pytest.mark.parametrize(
    "pool", [None, {}, {"lexical": "much", "encoder": 1}, {"lexical": 1, "encoder": 1, "bias": [1]}]
)
def test_an_unusable_pool_is_an_artifact_error(pool: object, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="pool"):
        TextModel.load(pooled(tmp_path / "odd", pool=pool), device="cpu")


@pytest.mark.parametrize("missing", ["words", "idf", "scales", "bias"])
def test_a_table_with_a_part_missing_is_an_artifact_error(missing: str) -> None:
    tensors = lexical().tensors()
    del tensors[f"lexical.{missing}"]
    with pytest.raises(ArtifactError, match="lexical"):
        LexicalModel.read(tensors, 3, torch.device("cpu"))


def test_a_table_of_another_shape_or_order_is_an_artifact_error() -> None:
    tensors = lexical().tensors()
    for name, value in (("weights", tensors["lexical.weights"][1:]), ("words", tensors["lexical.words"].flip(0))):
        with pytest.raises(ArtifactError, match="lexical"):
            LexicalModel.read(tensors | {f"lexical.{name}": value}, 3, torch.device("cpu"))
    with pytest.raises(ArtifactError, match="lexical"):
        LexicalModel.read(tensors, 4, torch.device("cpu"))
