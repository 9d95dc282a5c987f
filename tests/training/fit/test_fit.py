import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from classifier.ml.artifact import read_config
from classifier.ml.image_model import ImageModel
from classifier.ml.text_model import TextModel
from tests.support import fitting
from training.datasets.corpus import Corpus, CorpusRow
from training.fit.job import Job
from training.fit.progress import FitError, Progress
from training.fit.run import fit_model


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitting.write_small_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def head(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text model with a frozen encoder, for others to continue from."""
    return fitting.run_fit(
        tmp_path_factory.mktemp("head"), corpus, fitting.short_recipe("text", "head", head_epochs=12)
    )


def serve(workdir: Path, corpus: Path, modality: str) -> np.ndarray:
    """Return the artifact's predictions for the test split, one product at a time."""
    data = Corpus(corpus).split("test")
    if modality == "text":
        text = TextModel.load(workdir / "artifact", device="cpu")
        pairs = zip(data["title"], data["description"], strict=True)
        return np.concatenate([text.predict_texts([title], [words]).probabilities for title, words in pairs])
    image = ImageModel.load(workdir / "artifact", device="cpu")
    pictures = [Image.open(fitting.io.BytesIO(photo)) for photo in data["photo"]]
    return np.concatenate([image.predict_images([picture]).probabilities for picture in pictures])


def check(workdir: Path, corpus: Path, modality: str) -> None:
    """The files of the contract are there, and say what the stored artifact says in serving."""
    config = read_config(workdir / "artifact")
    assert config["labels"] == list(fitting.LABELS)
    for split in ("validation", "test"):
        found = fitting.predictions_of(workdir, split)
        rows = fitting.SIZES[split] * len(fitting.LABELS)
        assert found["probabilities"].shape == found["logits_before"].shape == (rows, 3)
        assert found["probabilities"].dtype == found["logits_before"].dtype == np.float32
        assert found["keys"][0].startswith("shop/")
        tempered = np.exp(found["logits_before"].astype(np.float64) / config["temperature"])
        assert found["probabilities"] == pytest.approx(tempered / tempered.sum(axis=1, keepdims=True), abs=1e-5)
    test = fitting.predictions_of(workdir)
    data = Corpus(corpus).split("test")
    assert test["keys"].tolist() == [f"shop/{key}" for key in data["id"]]
    assert [fitting.LABELS[target] for target in test["targets"]] == list(data["label"])
    assert test["probabilities"] == pytest.approx(serve(workdir, corpus, modality), abs=1e-4)


def test_a_head_learns_and_its_files_say_what_serving_says(head: Path, corpus: Path) -> None:
    check(head, corpus, "text")
    test = fitting.predictions_of(head)
    assert (test["probabilities"].argmax(axis=1) == test["targets"]).mean() > 0.8
    assert not any(
        name.startswith(("lora", "delta", "encoder")) for name in load_file(head / "artifact/model.safetensors")
    )


@pytest.mark.parametrize("name", ["lora", "partial"])
def test_a_fine_tuned_text_model_serves_what_was_measured(name: str, corpus: Path, tmp_path: Path) -> None:
    fitting.run_fit(tmp_path, corpus, fitting.short_recipe("text", name, layers=1, lora_rank=4))
    check(tmp_path, corpus, "text")
    tensors = load_file(tmp_path / "artifact" / "model.safetensors")
    prefix = "lora_a." if name == "lora" else "delta."
    assert any(tensor.startswith(prefix) for tensor in tensors)
    assert (tmp_path / "artifact" / "model.safetensors").stat().st_size < 3_000_000


@pytest.mark.parametrize("storage", ["half", "delta"])
def test_a_fine_tuned_image_model_serves_what_was_measured(storage: str, corpus: Path, tmp_path: Path) -> None:
    changes = {"storage": storage, "layers": 1, "augmentation": "strong", "mixup": 0.2, "epochs": 1, "batch_size": 30}
    fitting.run_fit(tmp_path, corpus, fitting.short_recipe("image", "partial", **changes))
    check(tmp_path, corpus, "image")


def test_a_text_model_can_do_without_a_lexical_part(corpus: Path, tmp_path: Path) -> None:
    fitting.run_fit(tmp_path, corpus, fitting.short_recipe("text", "head", lexical=False, hidden=8))
    check(tmp_path, corpus, "text")
    assert "pool" not in read_config(tmp_path / "artifact")


def test_the_same_job_gives_the_same_model(head: Path, corpus: Path, tmp_path: Path) -> None:
    fitting.run_fit(tmp_path, corpus, fitting.short_recipe("text", "head", head_epochs=12))
    first, second = (load_file(folder / "artifact" / "model.safetensors") for folder in (head, tmp_path))
    assert first.keys() == second.keys()
    assert all(np.allclose(first[name].float(), second[name].float(), atol=1e-3) for name in first)


def test_progress_reports_every_stage_and_the_validation_loss_of_each_epoch(head: Path) -> None:
    told = fitting.progress_lines(head)
    assert fitting.fitted_stages(head)[:2] == ["count_ngrams", "lexical_part"]
    epochs = [line for line in told if "validation_loss" in line]
    assert {line["stage"] for line in epochs} == {"text_head"}
    assert all(line["step"] <= line["total"] for line in told if "stage" in line)
    assert epochs[-1]["validation_loss"] < epochs[0]["validation_loss"]
    assert all(set(line) >= {"rate", "eta", "loss"} for line in epochs)


def test_a_finished_stage_is_not_done_again(corpus: Path, tmp_path: Path) -> None:
    recipe = fitting.short_recipe("text", "head")
    fitting.run_fit(tmp_path, corpus, recipe)
    before = fitting.predictions_of(tmp_path)
    (tmp_path / "progress.jsonl").unlink()
    (tmp_path / "stages" / "all" / "done.json").unlink()
    fitting.run_fit(tmp_path, corpus, recipe)
    assert fitting.fitted_stages(tmp_path) == ["predict_validation", "predict_test"]
    assert fitting.predictions_of(tmp_path)["probabilities"] == pytest.approx(before["probabilities"])


def test_another_recipe_takes_over_the_embeddings_but_not_the_head(corpus: Path, tmp_path: Path) -> None:
    fitting.run_fit(tmp_path, corpus, fitting.short_recipe("text", "head"))
    (tmp_path / "progress.jsonl").unlink()
    fitting.run_fit(tmp_path, corpus, fitting.short_recipe("text", "head", head_epochs=2))
    assert "text_head" in fitting.fitted_stages(tmp_path)
    assert not any(stage.startswith("embeddings") for stage in fitting.fitted_stages(tmp_path))


def test_a_fit_continues_from_a_live_model_and_learns_a_new_category(head: Path, tmp_path: Path) -> None:
    new = [
        CorpusRow("feedback", f"{split}-{number}", f"dog lead {number}", "", "pets", None, "", split)
        for split, size in (("train", 8), ("validation", 2), ("test", 2))
        for number in range(size)
    ]
    data = fitting.write_small_corpus(tmp_path / "corpus", *new)
    labels = ["garden", "kitchen", "music", "pets"]
    recipe = fitting.short_recipe("text", "lora", lora_rank=2, epochs=1, replay_share=0.5)
    work = fitting.run_fit(tmp_path / "work", data, recipe, labels=labels, start=str(head / "artifact"))
    assert {"log": "New to the model that is continued: pets"} in fitting.progress_lines(work)
    found = fitting.predictions_of(work)
    assert (found["probabilities"].argmax(axis=1) == found["targets"]).mean() > 0.8


def test_only_the_lexical_part_may_be_learnt_anew(head: Path, corpus: Path, tmp_path: Path) -> None:
    recipe = fitting.short_recipe("text", "everyday", lexical_rows=500)
    work = fitting.run_fit(tmp_path, corpus, recipe, start=str(head / "artifact"))
    check(work, corpus, "text")
    before, after = (load_file(folder / "artifact" / "model.safetensors") for folder in (head, work))
    kept = [name for name in before if name.startswith("head.")]
    assert kept and all(np.array_equal(before[name], after[name]) for name in kept)
    assert not np.array_equal(before["lexical.bias"], after["lexical.bias"])


@pytest.mark.parametrize(("start", "reason"), [(None, "continues a live model"), ("head", "which lacks pets")])
def test_a_head_that_can_not_be_kept_is_named(start: str | None, reason: str, head: Path, tmp_path: Path) -> None:
    pets = [
        CorpusRow("shop", f"{split}-{number}", "dog lead", "", "pets", None, "", split)
        for split in ("train", "validation", "test")
        for number in range(3)
    ]
    data = fitting.write_small_corpus(tmp_path / "corpus", *pets)
    settings = {"labels": [*fitting.LABELS, "pets"], "start": str(head / "artifact") if start else None}
    with pytest.raises(FitError, match=reason):
        fitting.run_fit(tmp_path / "work", data, fitting.short_recipe("text", "everyday"), **settings)


def test_products_of_other_categories_are_left_out(corpus: Path, tmp_path: Path) -> None:
    fitting.run_fit(tmp_path, corpus, fitting.short_recipe("text", "head", lexical=False), labels=["garden", "music"])
    assert {"log": "18 products of other categories are left out."} in fitting.progress_lines(tmp_path)
    assert fitting.predictions_of(tmp_path)["probabilities"].shape == (8, 2)


def test_a_finished_job_does_nothing(head: Path) -> None:
    told = (head / "progress.jsonl").read_text()
    fit_model(Job.read(head), Progress(head))
    assert (head / "progress.jsonl").read_text() == told
    assert json.loads((head / "recipe.json").read_text())["name"] == "head"


def narrow_corpus(folder: Path) -> Path:
    """A corpus of two of the three categories."""
    return fitting.write_small_corpus(folder, labels=("garden", "kitchen"))


def test_labels_without_a_product_keep_the_live_models_rows(head: Path, tmp_path: Path) -> None:
    recipe = fitting.short_recipe("text", "head")
    start = head / "artifact"
    fitting.run_fit(tmp_path / "fit", narrow_corpus(tmp_path / "narrow"), recipe, start=str(start), kept=["music"])
    before, after = (load_file(folder / "model.safetensors") for folder in (start, tmp_path / "fit" / "artifact"))
    music = fitting.LABELS.index("music")
    assert np.array_equal(before["head.0.weight"][music], after["head.0.weight"][music])
    assert not np.array_equal(before["head.0.weight"], after["head.0.weight"])
    model = TextModel.load(tmp_path / "fit" / "artifact", device="cpu")
    words = fitting.WORDS["music"]
    probabilities = model.predict_texts(words, [""] * len(words)).probabilities
    assert (probabilities.argmax(axis=1) == music).mean() >= 0.8


def test_replayed_products_are_learnt_and_validated_but_never_tested(head: Path, tmp_path: Path) -> None:
    narrow = narrow_corpus(tmp_path / "narrow")
    replay = fitting.write_small_corpus(
        tmp_path / "replay", labels=("music",), sizes={"train": 6, "validation": 3, "test": 0}
    )
    fitting.run_fit(
        tmp_path / "fit", narrow, fitting.short_recipe("text", "head"),
        start=str(head / "artifact"), replay=str(replay), kept=["music"],
    )  # fmt: skip
    validation, test = (fitting.predictions_of(tmp_path / "fit", split) for split in ("validation", "test"))
    music = fitting.LABELS.index("music")
    assert (validation["targets"] == music).sum() == 3
    assert not (test["targets"] == music).any()
    assert test["probabilities"].shape[1] == len(fitting.LABELS)


def test_rows_are_kept_only_between_heads_without_a_hidden_layer(head: Path, tmp_path: Path) -> None:
    narrow = narrow_corpus(tmp_path / "narrow")
    hidden = fitting.short_recipe("text", "head", hidden=8)
    with pytest.raises(FitError, match="No product teaches music"):
        fitting.run_fit(tmp_path / "fit", narrow, hidden, start=str(head / "artifact"), kept=["music"])
    fitting.run_fit(tmp_path / "other", fitting.write_small_corpus(tmp_path / "whole"), hidden)
    with pytest.raises(FitError, match="hidden layer"):
        fitting.run_fit(
            tmp_path / "again", narrow, fitting.short_recipe("text", "head"),
            start=str(tmp_path / "other" / "artifact"), kept=["music"],
        )  # fmt: skip
