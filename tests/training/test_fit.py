from pathlib import Path

import numpy as np
import pytest
import torch

from training.datasets import Product
from training.fit import Part, contested, embed_texts, fit, fit_temperature, weigh
from training.recipes import HeadRecipe, Recipe


def quiet(what: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def products(**sizes: int) -> list[Product]:
    """Return products of the data set and category in each name, "set_label"."""
    return [
        Product(name.split("_")[0], str(number), name, "", name.split("_")[1])
        for name, size in sizes.items()
        for number in range(size)
    ]


def recipe(**changes: float) -> Recipe:
    heads = (HeadRecipe(weight_decay=1e-3), HeadRecipe(hidden=16, dropout=0.1, weight_decay=0.01))
    settings = {"batch_size": 64, "epochs": 10, "learning_rate": 0.02, **changes}
    return Recipe(modality="text", backbone="none", heads=heads, **settings)  # type: ignore[arg-type]


def clouds(size: int, seed: int, noise: float) -> Part:
    """Return three overlapping clouds of unit vectors."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, 3, size)
    points = np.eye(8, dtype=np.float32)[targets] + random.normal(0, noise, (size, 8)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return Part(
        torch.from_numpy(points), torch.from_numpy(targets), torch.ones(size), torch.ones(size, dtype=torch.bool)
    )


def test_a_power_of_one_lets_every_data_set_count_the_same() -> None:
    items = products(big_a=90, small_a=10)
    weights = weigh(items, recipe(dataset_power=1.0, class_power=0.0))
    assert weights[:90].sum() == pytest.approx(weights[90:].sum())
    assert weights.mean() == pytest.approx(1.0)


def test_a_power_of_nought_leaves_the_data_as_found() -> None:
    assert weigh(products(big_a=9, small_b=1), recipe(dataset_power=0.0, class_power=0.0)) == pytest.approx(1.0)


def test_only_data_sets_of_several_categories_say_how_sure_to_be() -> None:
    assert contested(products(mixed_a=1, mixed_b=1, plain_a=2)).tolist() == [True, True, False, False]
    assert contested(products(plain_a=2)).all()


def test_both_kinds_of_head_learn_and_the_better_comes_first() -> None:
    fitted = fit(clouds(600, 1, 0.3), clouds(200, 2, 0.3), 3, recipe(), quiet)
    held_back = clouds(300, 3, 0.3)
    assert fitted[0].log_loss <= fitted[1].log_loss
    assert {candidate.recipe.hidden for candidate in fitted} == {0, 16}
    for candidate in fitted:
        with torch.inference_mode():
            predicted = candidate.head(held_back.embeddings).argmax(dim=1)
        assert (predicted == held_back.targets).float().mean() > 0.8


def test_the_same_seed_gives_the_same_head() -> None:
    first, second = (fit(clouds(300, 1, 0.4), clouds(100, 2, 0.4), 3, recipe(), quiet)[0] for _ in range(2))
    for one, other in zip(first.head.parameters(), second.head.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_dimension_that_never_changes_leaves_the_head_finite_in_half_precision() -> None:
    train, validation = clouds(300, 1, 0.3), clouds(100, 2, 0.3)
    for part in (train, validation):
        part.embeddings[:, 5] = 0.25
    for candidate in fit(train, validation, 3, recipe(), quiet):
        assert torch.isfinite(candidate.head.half()(validation.embeddings.half())).all()


def test_the_temperature_undoes_overconfidence() -> None:
    random = torch.Generator().manual_seed(4)
    logits = torch.randn(4_000, 5, generator=random)
    targets = torch.multinomial(logits.softmax(dim=1), 1, generator=random).squeeze(1)
    assert fit_temperature(3 * logits, targets, torch.ones(4_000)) == pytest.approx(3.0, rel=0.1)


def test_embeddings_are_computed_once_and_read_from_the_cache_after(tmp_path: Path) -> None:
    items = products(shop_rake=2, shop_tea=1)
    steps: list[int] = []

    def embed(chosen: list[Product]) -> np.ndarray:
        return embed_texts(
            chosen,
            backbone="all-MiniLM-L6-v2",
            max_tokens=16,
            cache=tmp_path,
            progress=lambda what, done, total: steps.append(done),
        )

    first = embed(items)
    assert first == pytest.approx(embed(items))
    assert steps == [3]
    assert embed(items[:2]) == pytest.approx(first[:2], abs=1e-5)
    assert steps == [3, 2]


@pytest.mark.parametrize(
    "changes",
    [{"dataset_power": 2}, {"epochs": 0}, {"max_tokens": 4}, {"learning_rate": -1}, {"batch_size": 0}],
)
def test_a_recipe_refuses_settings_that_make_no_sense(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        recipe(**changes)


@pytest.mark.parametrize("changes", [{"hidden": -1}, {"dropout": 1.0}, {"weight_decay": -0.1}])
def test_a_head_refuses_settings_that_make_no_sense(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        HeadRecipe(**changes)  # type: ignore[arg-type]
