import json
import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import stats
from scipy.spatial import distance

from feedback.statistics.divergence import jensen_shannon_distance
from feedback.statistics.drift import two_sample_tests as drift
from feedback.statistics.drift.codes import OLDER_NAMES, Measure
from feedback.statistics.drift.columns import Projection, build_features
from feedback.statistics.drift.comparison import (
    DRIFTED,
    NOT_ENOUGH_DATA,
    STABLE,
    ColumnResult,
    DriftThresholds,
    compare_summaries,
)
from feedback.statistics.drift.input_features import PhotoFeatures, measure_photo
from feedback.statistics.drift.language import guess_language
from feedback.statistics.drift.summaries import BinLayout, DriftSummary, FeatureBatch, Histogram

COLOURS = ["red", "green", "blue"]


def rows(count: int, seed: int = 0, *, shift: float = 0.0, start: int = 0) -> FeatureBatch:
    rng = np.random.default_rng(seed)
    return FeatureBatch(
        [f"row {start + row}" for row in range(count)],
        {"length": rng.normal(shift, 1, count), "constant": np.full(count, 7.0)},
        {"colour": [str(c) for c in rng.choice(COLOURS, count)]},
        {"embedding": rng.normal(shift, 1, (count, 8))},
    )


def joined(*parts: FeatureBatch) -> FeatureBatch:
    return FeatureBatch(
        [id for part in parts for id in part.ids],
        {name: np.concatenate([part.numbers[name] for part in parts]) for name in parts[0].numbers},
        {name: [x for part in parts for x in part.categories[name]] for name in parts[0].categories},
        {name: np.concatenate([part.vectors[name] for part in parts]) for name in parts[0].vectors},
    )


def found(
    reference: FeatureBatch, window: FeatureBatch, limits: DriftThresholds | None = None, keep: int = 3_000
) -> dict[str, ColumnResult]:
    layout = BinLayout.of(reference, keep=keep)
    findings = compare_summaries(
        DriftSummary.of(reference, layout),
        DriftSummary.of(window, BinLayout(layout.edges)),
        limits or DriftThresholds(),
    )
    return {finding.column: finding for finding in findings}


# Summaries


def test_merged_hours_are_the_day_that_one_pass_gives() -> None:
    parts = [rows(count, seed, start=1_000 * seed) for seed, count in enumerate((400, 1, 700, 90))]
    layout = BinLayout.of(parts[0], bins=10, keep=100)
    merged = DriftSummary.of(parts[3], layout)
    for part in (parts[1], parts[0], parts[2]):
        merged = merged.merge(DriftSummary.of(part, layout))
    at_once = DriftSummary.of(joined(*parts), layout)
    assert merged.rows == at_once.rows == 1_191
    assert merged.categories == at_once.categories
    assert merged.sample.ids == at_once.sample.ids
    assert merged.sample.categories == at_once.sample.categories
    np.testing.assert_array_equal(merged.sample.vectors["embedding"], at_once.sample.vectors["embedding"])
    for name, histogram in at_once.numbers.items():
        np.testing.assert_array_equal(merged.numbers[name].counts, histogram.counts)
        np.testing.assert_allclose(merged.numbers[name].sums, histogram.sums)
        assert merged.numbers[name].squares == pytest.approx(histogram.squares)


def test_a_summary_survives_json() -> None:
    some = rows(300)
    some.numbers["length"][5] = np.nan
    before = DriftSummary.of(some, BinLayout.of(some))
    after = DriftSummary.from_json(json.loads(json.dumps(before.to_json())))
    assert json.dumps(after.to_json()) == json.dumps(before.to_json())
    assert after.merge(before).rows == 600
    np.testing.assert_array_equal(after.sample.numbers["length"], before.sample.numbers["length"])


def test_a_summary_does_not_grow_with_its_rows() -> None:
    layout = BinLayout.of(rows(500), keep=200)
    sizes = []
    for count in (1_000, 20_000):
        sizes.append(len(json.dumps(DriftSummary.of(rows(count), layout).to_json())))
    assert sizes[1] < sizes[0] * 1.1


def test_the_sample_is_uniform() -> None:
    some = FeatureBatch([f"{row}" for row in range(4_000)], {"place": np.arange(4_000.0)})
    kept = DriftSummary.of(some, BinLayout.of(some, keep=1_000)).sample.numbers["place"]
    assert len(kept) == 1_000
    assert stats.kstest(kept / 4_000, "uniform").pvalue > 0.001


def test_summaries_of_other_bins_or_columns_do_not_merge() -> None:
    some = rows(100)
    summary = DriftSummary.of(some, BinLayout.of(some))
    with pytest.raises(ValueError, match="merged"):
        summary.merge(DriftSummary.of(some, BinLayout.of(some, bins=4)))
    with pytest.raises(ValueError, match="merged"):
        summary.merge(DriftSummary.of(FeatureBatch(some.ids, some.numbers), BinLayout.of(some)))


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="length has 3 rows, not 2"):
        FeatureBatch(["a", "b"], {"length": np.zeros(3)})


# Against known values


def exact(values: np.ndarray, edges: np.ndarray) -> Histogram:
    some = FeatureBatch([str(row) for row in range(len(values))], {"x": values})
    return DriftSummary.of(some, BinLayout({"x": tuple(edges)})).numbers["x"]


def test_kolmogorov_smirnov_and_wasserstein_are_scipys_with_an_edge_at_each_value() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0, 1, 300), rng.normal(0.2, 1.3, 120)
    edges = np.unique(np.concatenate([first, second]))
    one, other = exact(first, edges), exact(second, edges)
    known = stats.ks_2samp(first, second, method="asymp")
    statistic, p = drift.kolmogorov_smirnov_test(one, other)
    assert (statistic, p) == (pytest.approx(known.statistic), pytest.approx(known.pvalue))
    normed = stats.wasserstein_distance(first, second) / first.std()
    assert drift.normed_wasserstein(one, other) == pytest.approx(normed)


def test_a_binned_test_never_claims_more_than_the_exact_one() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        first, second = rng.normal(0, 1, 500), rng.normal(0.1, 1, 200)
        edges = np.quantile(first, np.linspace(0, 1, 17))
        p = drift.kolmogorov_smirnov_test(exact(first, edges), exact(second, edges))[1]
        assert p >= stats.ks_2samp(first, second, method="asymp").pvalue - 1e-12


def test_distances_of_distributions_are_scipys() -> None:
    one, other = Counter(a=50, b=30, c=20), Counter(a=10, b=30, d=60)
    names, p, q = drift.category_shares(one, other)
    assert names == ["a", "b", "c", "d"]
    assert jensen_shannon_distance(p, q) == pytest.approx(distance.jensenshannon(p, q))
    assert drift.population_stability_index(p[:2], q[:2]) == pytest.approx((0.1 - 0.5) * math.log(0.1 / 0.5))
    assert drift.chi_square_test(one, other)[1] == pytest.approx(
        stats.chi2_contingency([[50, 30, 20, 0], [10, 30, 0, 60]], correction=False).pvalue
    )


def test_rare_categories_are_pooled_before_they_are_tested() -> None:
    common = {"a": 500, "b": 500}
    rare = {f"rare {number}": 1 for number in range(40)}
    statistic, p = drift.chi_square_test(Counter(common | rare), Counter({"a": 50, "b": 50, "new": 4}))
    table = [[500, 500, 40], [50, 50, 4]]
    known = stats.chi2_contingency(table, correction=False)
    # 44 rare rows expect 4 in the window: too few for a cell, so they join the smaller of both others.
    assert p > 0.5
    assert statistic < known.statistic + 1


def test_corrected_p_values_have_their_published_values() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    assert drift.correct_p_values(p, "holm") == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert drift.correct_p_values(p, "benjamini-hochberg") == pytest.approx(list(stats.false_discovery_control(p)))
    assert drift.correct_p_values(p, "none") == p
    assert drift.correct_p_values([], "holm") == []


def test_a_domain_classifier_keeps_its_level_and_sees_a_shift() -> None:
    rng = np.random.default_rng(3)
    quiet = [
        drift.domain_classifier_test(rng.normal(size=(200, 16)), rng.normal(size=(60, 16)), seed=turn)[1]
        for turn in range(300)
    ]
    assert stats.binomtest(sum(p <= 0.05 for p in quiet), 300, 0.05, alternative="greater").pvalue > 0.001
    area, p, scores = drift.domain_classifier_test(rng.normal(size=(200, 16)), rng.normal(0.7, 1, size=(60, 16)))
    assert area > 0.8
    assert p < 1e-6
    assert scores.mean() > 0.5


# Findings


def test_a_window_like_the_reference_is_stable_and_names_no_rows() -> None:
    for count in (300, 3_000):
        findings = found(rows(3_000, 1), rows(count, 2))
        assert {finding.state for finding in findings.values()} == {STABLE}
        assert not any(finding.rows for finding in findings.values())


def test_small_windows_are_tested_and_large_ones_measured() -> None:
    small, large = (found(rows(3_000, 1), rows(count, 2)) for count in (300, 3_000))
    assert small["length"].measure == Measure.KOLMOGOROV_SMIRNOV
    assert small["length"].p is not None
    assert small["colour"].measure == Measure.CHI_SQUARE
    assert large["length"].measure == Measure.WASSERSTEIN
    assert large["length"].p is None
    assert large["colour"].measure == Measure.JENSEN_SHANNON
    assert set(large["colour"].also) == {Measure.L_INFINITY, Measure.STABILITY_INDEX}


@pytest.mark.parametrize("count", [300, 3_000])
def test_a_shift_is_found_and_the_rows_that_moved_are_named(count: int) -> None:
    usual, moved = rows(count * 3 // 4, 2), rows(count // 4, 3, shift=3.0, start=10_000)
    window = joined(
        usual, FeatureBatch(moved.ids, moved.numbers, {"colour": ["violet"] * len(moved.ids)}, moved.vectors)
    )
    findings = found(rows(3_000, 1), window)
    for column in ("length", "colour", "embedding"):
        assert findings[column].state == DRIFTED
        assert len(findings[column].rows) == 20
        assert sum(row in set(moved.ids) for row in findings[column].rows) >= 18
    assert findings["constant"].state == STABLE


def test_a_tiny_difference_of_a_large_window_is_significant_but_no_drift() -> None:
    reference, window = rows(50_000, 1), rows(50_000, 2, shift=0.05)
    assert stats.ks_2samp(reference.numbers["length"], window.numbers["length"]).pvalue < 0.001
    assert found(reference, window)["length"].state == STABLE


def test_many_categories_are_compared_by_the_largest_difference() -> None:
    rng = np.random.default_rng(4)
    names = [f"category {number}" for number in range(2_000)]

    def drawn(ids: str, extra: int) -> FeatureBatch:
        chosen = [*rng.choice(names, 2_000 - extra), *["category 7"] * extra]
        return FeatureBatch(
            [f"{ids} {row}" for row in range(2_000)], categories={"prediction": [str(c) for c in chosen]}
        )

    quiet = found(drawn("reference", 0), drawn("window", 0))["prediction"]
    assert (quiet.measure, quiet.state) == (Measure.L_INFINITY, STABLE)
    assert quiet.also[Measure.JENSEN_SHANNON] > DriftThresholds.jensen_shannon
    assert found(drawn("reference", 0), drawn("window", 150))["prediction"].state == DRIFTED


def test_too_few_rows_give_no_value() -> None:
    reference = rows(500)
    for count in (0, 1, 29):
        for finding in found(reference, rows(count, 9, shift=50.0)).values():
            assert finding.state == NOT_ENOUGH_DATA
            assert (finding.value, finding.p, finding.rows) == (None, None, ())
    empty = found(rows(0), rows(300))
    assert {finding.state for finding in empty.values()} == {NOT_ENOUGH_DATA}


def test_missing_values_are_left_out() -> None:
    window = rows(300, 2)
    window.numbers["length"][:280] = np.nan
    window.vectors["embedding"][:200] = np.nan
    some = FeatureBatch(window.ids, window.numbers, {"colour": [None] * 300}, window.vectors)
    findings = found(rows(3_000, 1), some)
    assert (findings["length"].state, findings["length"].window) == (NOT_ENOUGH_DATA, 20)
    assert findings["colour"].state == NOT_ENOUGH_DATA
    assert (findings["embedding"].state, findings["embedding"].window) == (STABLE, 100)


def test_a_column_that_the_reference_lacks_has_not_enough_data() -> None:
    reference, window = rows(500, 1), rows(500, 2)
    bare = FeatureBatch(reference.ids, reference.numbers)
    findings = found(bare, window)
    assert findings["length"].state == STABLE
    assert {findings["colour"].state, findings["embedding"].state} == {NOT_ENOUGH_DATA}


@pytest.mark.parametrize("count", [200, 2_000])
def test_a_constant_that_changes_has_drifted(count: int) -> None:
    window = rows(count, 2)
    window.numbers["constant"][:] = 8.0
    finding = found(rows(3_000, 1), window)["constant"]
    assert finding.state == DRIFTED
    assert len(finding.rows) == 20


def test_thresholds_check_themselves() -> None:
    for wrong in ({"alpha": 0.0}, {"correction": "hopeful"}, {"auc": 1.0}, {"least": 1}):
        with pytest.raises(ValueError, match="must|correction"):
            DriftThresholds(**wrong)  # type: ignore[arg-type]


# What is looked at


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Stainless steel bread knife with a handle, set of two for the kitchen", "en"),
        ("Camiseta de algodón para mujer con cuello redondo y manga corta", "es"),
        ("Tas sekolah anak perempuan dengan roda, warna pink untuk anak", "id"),
        ("Die Jacke ist wasserdicht und mit Kapuze für Damen", "de"),
        ("เสื้อยืดผู้หญิง คอกลม Nike", "th"),
        ("ワイヤレスイヤホン 防水", "ja"),
        ("无线蓝牙耳机 黑色", "zh"),
        ("XR-500 HDMI 4K", "unknown"),
        ("", "unknown"),
        ("\ud800 12", "unknown"),
    ],
)  # fmt: skip
def test_a_language_is_guessed_by_script_and_function_words(text: str, expected: str) -> None:
    assert guess_language(text) == expected


def test_a_blurred_photo_is_less_sharp_and_as_bright() -> None:
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (300, 400, 3)).astype(np.uint8))
    sharp, soft = measure_photo(photo), measure_photo(photo.filter(ImageFilter.GaussianBlur(3)))
    assert soft.sharpness < sharp.sharpness - 1
    assert soft.brightness == pytest.approx(sharp.brightness, abs=0.01)
    assert (sharp.width, sharp.height) == (400, 300)
    assert measure_photo(photo, (4_000, 3_000)).width == 4_000
    assert measure_photo(Image.new("L", (1, 1), 255)) == PhotoFeatures(1, 1, 1.0, 0.0)


def test_predictions_become_columns() -> None:
    embeddings = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    embeddings[2] = np.nan
    axes = Projection.fit(embeddings, 2)
    gathered = build_features(
        ["a", "b", "c", "d"],
        texts=[("Knife", "for the bread of you"), ("", ""), ("Knife", ""), ("", "")],
        looks=[PhotoFeatures(200, 100, 0.5, 3.0), PhotoFeatures(100, 100, 0.4, 2.0), None, None],
        predicted=["tools"] * 4,
        confidence=np.full(4, 0.5, np.float32),
        embeddings={"text": embeddings},
        projections={"text": axes},
        chosen=["tools", None, None, None],
    )
    assert gathered.categories["inputs"] == ["text_and_photo", "photo", "text", "nothing"]
    assert gathered.categories["language"][1] is None
    assert gathered.categories["label"] == ["tools", None, None, None]
    assert np.isnan(gathered.numbers["text_length"][[1, 3]]).all()
    assert gathered.numbers["photo_size"][0] == pytest.approx(math.log(20_000))
    assert gathered.vectors["text_embedding"].shape == (4, 2)
    assert np.isnan(gathered.vectors["text_embedding"][2]).all()


def test_a_summary_of_an_older_version_is_read_with_the_codes_of_this_one() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(40, 6)).astype(np.float32)
    rows = build_features(
        [str(number) for number in range(40)],
        texts=[("Knife", "for the bread of you")] * 40,
        looks=[PhotoFeatures(200 + number, 100, 0.5, 3.0) for number in range(40)],
        predicted=["tools"] * 40,
        confidence=rng.random(40).astype(np.float32),
        embeddings={"text": embeddings},
        projections={"text": Projection.fit(embeddings, 2)},
    )
    summary = DriftSummary.of(rows, BinLayout.of(rows))
    stored = json.dumps(summary.to_json())
    older = stored
    for words, code in OLDER_NAMES.items():
        older = older.replace(f'"{code}"', f'"{words}"')
    assert "text length" in older and "text and photo" in older
    read = DriftSummary.from_json(json.loads(older))
    assert json.dumps(read.to_json()) == stored
    assert read.merge(summary).rows == summary.merge(summary).rows == 80
