"""The components of a fit: recipes, weights, order, calibration, storage and the lexical part."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from classifier.ml.encoders import load_fine_tuned
from classifier.ml.ngrams import LexicalModel
from tests.support import fitting
from training.fit import export, lexical_part
from training.fit.batches import EpochOrder
from training.fit.calibration import LENGTHS, fit_length_scales, fit_pool, fit_temperature
from training.fit.job import Job, SplitTable, read_tables, row_weights, rows_of_mixed_sources
from training.fit.networks import IdentityBody, Network, Scale, copy_matching_rows, new_head, parameter_groups
from training.fit.progress import Progress
from training.fit.recipes import NAMED, ImageRecipe, Recipe, TextRecipe, default_recipe, named_recipe, recipe_names
from training.fit.stages import Stage


@pytest.mark.parametrize("key", NAMED)
def test_a_recipe_comes_back_from_json(key: tuple[str, str]) -> None:
    recipe = NAMED[key]
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert (recipe.modality, recipe.name) == key


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"batch_size": 2.5},
        {"encoder_rate": -1},
        {"encoder_rate": float("nan")},
        {"class_power": 2},
        {"method": "magic"},
        {"max_tokens": 4},
        {"lexical_strengths": []},
        {"warmup": "long"},
        {"replay_share": 7},
        {"modality": "image", "method": "lora"},
        {"seed": True},
        {"backbone": ""},
    ],
)
def test_a_recipe_refuses_settings_that_make_no_sense_and_names_them(changes: dict[str, Any]) -> None:
    values = {"modality": "text", "name": "mine", "method": "lora"} | changes
    with pytest.raises(ValueError, match=list(changes)[-1]):
        Recipe.from_json(values)


def test_an_unknown_or_missing_setting_is_named() -> None:
    with pytest.raises(ValueError, match="mixup: no such setting of a text recipe"):
        Recipe.from_json(default_recipe("text").to_json() | {"mixup": 1})
    with pytest.raises(ValueError, match="method: missing"):
        Recipe.from_json({"modality": "image", "name": "mine"})


def test_recipes_are_found_by_name_and_default_is_one() -> None:
    assert {"default", "head", "partial"} <= set(recipe_names())
    assert isinstance(default_recipe("text"), TextRecipe)
    assert isinstance(default_recipe("image"), ImageRecipe)
    with pytest.raises(ValueError, match="no image recipe 'lora'; there are: default, head"):
        named_recipe("image", "lora")


@pytest.mark.parametrize("key", NAMED)
def test_every_recipe_lies_within_the_ranges_it_states(key: tuple[str, str]) -> None:
    recipe = NAMED[key]
    for name, span in recipe.tuning_ranges().items():
        value = getattr(recipe, name)
        assert value in span.values if hasattr(span, "values") else span.low <= value <= span.high, name


def table(**sizes: int) -> SplitTable:
    """Rows of the source and class in each name, "source_class"."""
    pairs = [name.split("_") for name, size in sizes.items() for _ in range(size)]
    sources, labels = (np.array(column) for column in zip(*pairs, strict=True))
    targets = np.unique(labels, return_inverse=True)[1]
    ones = np.ones(len(pairs), np.float32)
    return SplitTable("train", [], np.arange(len(pairs)), sources, sources, targets, ones)


def test_a_power_of_one_lets_every_source_count_the_same() -> None:
    rows = table(big_a=90, small_a=10)
    weights = row_weights(rows.sources, rows.targets, source_power=1.0, class_power=0.0)
    assert weights[:90].sum() == pytest.approx(weights[90:].sum())
    assert weights.mean() == pytest.approx(1.0)


def test_a_power_of_nought_leaves_the_data_as_found_and_class_power_lifts_small_classes() -> None:
    rows = table(shop_a=9, shop_b=1)
    assert row_weights(rows.sources, rows.targets, source_power=0, class_power=0) == pytest.approx(1.0)
    weights = row_weights(rows.sources, rows.targets, source_power=0, class_power=0.5)
    assert weights[-1] == pytest.approx(3 * weights[0])


def test_only_sources_of_several_categories_say_how_sure_to_be() -> None:
    assert rows_of_mixed_sources(table(mixed_a=1, mixed_b=1, plain_a=2)).tolist() == [True, True, False, False]
    assert rows_of_mixed_sources(table(plain_a=2)).all()


def test_an_order_is_the_same_each_time_and_another_in_each_epoch() -> None:
    order, again = (EpochOrder(100, batch_size=8, seed=3) for _ in range(2))
    first = list(order)
    assert sorted(first) == list(range(100))
    assert first == list(again)
    order.set_epoch(1)
    assert list(order) != first


def test_rows_of_like_length_meet_in_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 640)
    rows = np.array(list(EpochOrder(640, batch_size=16, seed=0, lengths=lengths)))
    assert sorted(rows) == list(range(640))
    spread = np.ptp(lengths[rows].reshape(-1, 16), axis=1)
    assert np.median(spread) < 15


def test_known_rows_make_up_the_requested_share() -> None:
    known = np.arange(100) < 90
    rows = list(EpochOrder(100, batch_size=8, seed=0, known=known, known_share=0.5))
    assert len(rows) == 100
    assert sum(known[row] for row in rows) == 50
    assert set(range(90, 100)) <= set(rows)


def test_the_temperature_undoes_overconfidence() -> None:
    random = torch.Generator().manual_seed(4)
    logits = torch.randn(4_000, 5, generator=random)
    targets = torch.multinomial(logits.softmax(dim=1), 1, generator=random).squeeze(1)
    assert fit_temperature(3 * logits, targets, torch.ones(4_000)) == pytest.approx(3.0, rel=0.1)


def test_the_pool_trusts_the_part_that_knows_more() -> None:
    random = torch.Generator().manual_seed(4)
    truth = torch.randn(4_000, 5, generator=random)
    targets = torch.multinomial(truth.softmax(dim=1), 1, generator=random).squeeze(1)
    noise = torch.randn(4_000, 5, generator=random)
    pool = fit_pool(noise, truth, targets, torch.ones(4_000))
    assert pool.encoder > 0.9
    assert pool.encoder + pool.lexical == pytest.approx(1)


def test_short_texts_that_are_overconfident_are_scaled_apart() -> None:
    random = torch.Generator().manual_seed(4)
    logits = torch.randn(4_000, 5, generator=random) * 2
    targets = torch.multinomial(logits.softmax(dim=1), 1, generator=random).squeeze(1)
    words = torch.arange(4_000) % 20 + 1
    boastful = torch.where((words <= LENGTHS[0]).unsqueeze(1), logits * 3, logits)
    scales = fit_length_scales(boastful, words, targets, torch.ones(4_000))
    assert scales is not None
    assert scales.divisors == pytest.approx((3, 1, 1, 1), rel=0.15)
    assert scales(boastful, words)[:3] == pytest.approx(logits[:3].double(), rel=0.15)


def test_too_few_short_texts_give_no_scales() -> None:
    logits, words = torch.randn(400, 3), torch.full((400,), 30)
    assert fit_length_scales(logits, words, torch.zeros(400, dtype=torch.int64), torch.ones(400)) is None


@pytest.mark.parametrize(
    ("method", "storage", "prefix"),
    [
        ("lora", "delta", "lora_a."),
        ("full", "delta", "delta."),
        ("full", "half", "encoder."),
    ],
)
def test_a_tuned_encoder_comes_back_from_what_is_stored(method: Any, storage: Any, prefix: str) -> None:
    torch.manual_seed(0)
    backbone, tuned = nn.Linear(64, 48), nn.Linear(64, 48)
    difference = torch.randn(48, 3) @ torch.randn(3, 64) if method == "lora" else torch.randn(48, 64)
    tuned.weight.data = backbone.weight.data + 0.01 * difference
    tuned.bias.data = backbone.bias.data.clone()
    recipe = default_recipe("text").with_changes(method=method, storage=storage, lora_rank=4)
    tensors = export.encoder_tensors(backbone.state_dict(), tuned.state_dict(), recipe)
    assert f"{prefix}weight" in tensors
    assert not any("bias" in name for name in tensors)  # what did not change is not stored
    load_fine_tuned(backbone, tensors)
    assert torch.allclose(backbone.weight, tuned.weight, atol=1e-3)


def test_a_head_takes_over_the_rows_of_the_labels_it_knows() -> None:
    scale = Scale(torch.randn(8), torch.rand(8) + 0.5)
    recipe = default_recipe("text").with_changes(method="head")
    old = Network(IdentityBody(), new_head(8, 2, recipe), scale, 0.0)
    nn.init.normal_(old.head[0].weight)
    network = Network(IdentityBody(), new_head(8, 3, recipe), scale, 0.0)
    fresh = copy_matching_rows(network, old.folded_head().state_dict(), ["b", "a"], ("a", "b", "c"))
    assert fresh == ["c"]
    embeddings = torch.randn(4, 8)
    assert torch.allclose(
        network.eval()(embeddings=embeddings)[:, [1, 0]], old.eval()(embeddings=embeddings), atol=1e-5
    )


def test_a_head_of_another_shape_is_not_copied() -> None:
    recipe = default_recipe("text").with_changes(method="head", hidden=4)
    network = Network(IdentityBody(), new_head(8, 2, recipe), Scale(torch.zeros(8), torch.ones(8)), 0.0)
    assert copy_matching_rows(
        network, {"0.weight": torch.ones(2, 8), "0.bias": torch.ones(2)}, ["a", "b"], ("a", "b")
    ) == [
        "a",
        "b",
    ]


def test_a_folded_head_reads_plain_embeddings_and_a_constant_dimension_keeps_it_finite() -> None:
    embeddings = np.random.default_rng(0).normal(0, 0.05, (500, 8)).astype(np.float32)
    embeddings[:, 5] = 0.25
    network = Network(
        IdentityBody(), new_head(8, 3, default_recipe("text").with_changes(hidden=4)), Scale.of(embeddings), 0.0
    ).eval()
    rows = torch.from_numpy(embeddings)
    assert torch.allclose(network(embeddings=rows), network.folded_head()(rows), atol=1e-4)
    assert torch.isfinite(network.folded_head().half()(rows.half())).all()


def test_later_blocks_learn_faster_and_biases_do_not_decay() -> None:
    from classifier.ml.artifact import BUNDLED_TEXT
    from classifier.ml.encoders import load_text_backbone
    from training.fit.networks import TextBody, unfreeze_layers

    recipe = default_recipe("text").with_changes(method="partial", layers=2, layer_decay=0.5, encoder_rate=1e-4)
    _, encoder = load_text_backbone(BUNDLED_TEXT)
    unfreeze_layers(encoder, recipe)
    network = Network(TextBody(encoder), new_head(384, 3, recipe), Scale(torch.zeros(384), torch.ones(384)), 0.0)
    found = parameter_groups(network, recipe, joint=True)
    assert {group["lr"] for group in found} == {recipe.joint_head_rate, 1e-4, 5e-5}
    assert all((group["weight_decay"] == 0) == all(p.dim() == 1 for p in group["params"]) for group in found)
    learnt = sum(value.numel() for value in network.state_dict().values())
    assert 3_500_000 < learnt < 3_600_000


def test_the_lexical_part_is_the_logistic_regression_that_sklearn_fits(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    from classifier.ml.ngrams import count_ngrams, lexical_text

    recipe = fitting.short_recipe("text", "head", lexical_strengths=(10.0,), class_power=0.0, source_power=0.0)
    corpus = fitting.write_small_corpus(tmp_path / "corpus")
    work = fitting.write_job(tmp_path / "work", corpus, recipe)
    tables = read_tables(Job.read(work))
    stage = Stage(work / "lexical", "test")
    assert isinstance(recipe, TextRecipe)
    lexical_part.fit_lexical_part(tables, 3, recipe, stage, Progress(work))
    part = LexicalModel.read(lexical_part.read_lexical_tensors(stage, 3), 3, torch.device("cpu"))
    assert part is not None
    data = {split: tables[split].data for split in ("train", "test")}
    counts = {
        split: count_ngrams([lexical_text(*pair) for pair in zip(rows["title"], rows["description"], strict=True)])
        for split, rows in data.items()
    }
    features = {split: part.features(blocks) for split, blocks in counts.items()}
    model = LogisticRegression(C=10.0, max_iter=300, tol=1e-6).fit(features["train"], tables["train"].targets)
    found = part.score(counts["test"]).softmax(dim=1).numpy()
    assert found == pytest.approx(model.predict_proba(features["test"]), abs=0.02)


def test_the_lexical_part_is_cut_to_the_rows_it_may_have(tmp_path: Path) -> None:
    recipe = fitting.short_recipe("text", "head", lexical_rows=100)
    work = fitting.write_job(tmp_path / "work", fitting.write_small_corpus(tmp_path / "corpus"), recipe)
    tables, stage = read_tables(Job.read(work)), Stage(work / "lexical", "test")
    assert isinstance(recipe, TextRecipe)
    facts = lexical_part.fit_lexical_part(tables, 3, recipe, stage, Progress(work))
    assert facts["rows"] == 100
    assert lexical_part.read_lexical_tensors(stage, 3)["lexical.weights"].shape == (100, 3)
    assert facts["validation_loss"] < np.log(3)


def test_a_stage_of_another_job_is_computed_again(tmp_path: Path) -> None:
    Stage(tmp_path / "stage", "one").finish({"loss": 1})
    assert Stage(tmp_path / "stage", "one").done == {"loss": 1}
    assert Stage(tmp_path / "stage", "two").done is None
    assert [path.name for path in (tmp_path / "stage").iterdir()] == ["job"]
