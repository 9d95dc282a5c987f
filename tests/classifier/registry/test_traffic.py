"""Experiments and shadows: shares, their history, and the database's constraint on them."""

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction

from classifier.models import Deployment, EnsembleRule, ModelVersion, Variant
from classifier.registry import deployments, ensemble_rules, traffic, variants
from classifier.registry.deployments import NotDeployable
from classifier.tasks import classify_pending
from portal.models import Product, User
from portal.products import services
from tests.support.model_versions import live_version_name, register_variant

MakeProduct = Callable[..., Product]


def shares(modality: str = "text") -> dict[str, int]:
    return {variant.version.name: variant.weight for variant in traffic.live_variants(modality)}


@pytest.fixture
def versions(db: None, tmp_path: Path) -> dict[str, ModelVersion]:
    return {name: register_variant(tmp_path / name, name) for name in ("b", "c")}


def test_an_experiment_takes_its_share_from_the_others_and_returns_it(versions: dict[str, ModelVersion]) -> None:
    a = live_version_name()
    variants.start_test(versions["b"], weight=25)
    assert shares() == {a: 75, "b": 25}
    variants.start_test(versions["c"], weight=20)
    assert shares() == {a: 60, "b": 20, "c": 20}
    variants.stop_variant(versions["b"])
    assert shares() == {a: 75, "c": 25}
    variants.set_weights({ModelVersion.objects.get(name=a): 50, versions["c"]: 50})
    variants.promote_variant(versions["c"])
    assert shares() == {"c": 100}


def test_every_change_is_recorded_with_its_shares(versions: dict[str, ModelVersion], scientist: User) -> None:
    a = live_version_name()
    variants.start_test(versions["b"], weight=10, by=scientist, note="first try")
    variants.start_shadow(versions["c"])
    variants.promote_variant(versions["b"])
    variants.stop_variant(versions["c"])
    rows = Deployment.objects.filter(modality="text").order_by("pk")[1:]
    assert [(row.kind, row.version.name, row.shares) for row in rows] == [
        ("test", "b", {a: 90, "b": 10}),
        ("shadow", "c", {a: 90, "b": 10}),
        ("promotion", "b", {"b": 100}),
        ("stop", "c", {"b": 100}),
    ]
    assert (rows[0].deployed_by, rows[0].note) == (scientist, "first try")


def test_invalid_changes_are_refused_and_change_nothing(versions: dict[str, ModelVersion]) -> None:
    a, b, c = ModelVersion.objects.get(name=live_version_name()), versions["b"], versions["c"]
    before = Deployment.objects.count()
    ModelVersion.objects.filter(pk=c.pk).update(state="rejected", reason="Too slow.")
    c.refresh_from_db()
    refused: list[Callable[[], object]] = [
        lambda: variants.start_test(b, weight=0),
        lambda: variants.start_test(b, weight=100),
        lambda: variants.start_test(a, weight=10),
        lambda: variants.start_test(c, weight=10),
        lambda: variants.start_test(b, weight=10, expected_traffic="something else"),
        lambda: variants.set_weights({a: 99}),
        lambda: variants.set_weights({a: 50, b: 50}),
        lambda: variants.set_weights({}),
        lambda: variants.stop_variant(a),
        lambda: variants.stop_variant(b),
        lambda: variants.promote_variant(a),
        lambda: variants.promote_variant(b),
        lambda: variants.start_shadow(a),
    ]
    for refuse in refused:
        with pytest.raises(NotDeployable):
            refuse()
    assert shares() == {a.name: 100}
    assert Deployment.objects.count() == before


def test_a_rejected_version_may_run_as_a_shadow(versions: dict[str, ModelVersion]) -> None:
    ModelVersion.objects.update(state="rejected")
    variants.start_shadow(versions["b"])
    assert [variant.version.name for variant in traffic.shadows_by_modality()["text"]] == ["b"]
    assert len(traffic.live_variants_by_modality()["text"]) == 1


def test_a_shadow_can_be_tested_and_outlives_a_deployment(versions: dict[str, ModelVersion]) -> None:
    variants.start_shadow(versions["b"])
    deployments.deploy_version(versions["c"])
    assert Variant.objects.get(version=versions["b"]).role == "shadow"
    variants.start_test(versions["b"], weight=5)
    assert shares() == {"c": 95, "b": 5}


def test_a_roll_back_considers_promotions_and_ends_experiments(versions: dict[str, ModelVersion]) -> None:
    a = live_version_name()
    variants.start_test(versions["b"], weight=10)
    variants.promote_variant(versions["b"])
    variants.start_test(versions["c"], weight=10)
    deployments.roll_back("text")
    assert shares() == {a: 100}

    variants.start_test(versions["b"], weight=90)  # most of the traffic, without a promotion
    deployments.roll_back("text")
    assert shares() == {a: 100}

    variants.start_test(versions["b"], weight=10)
    variants.stop_variant(ModelVersion.objects.get(name=a))  # the version under test is left with all traffic
    assert shares() == {"b": 100}
    deployments.roll_back("text")
    assert shares() == {a: 100}


def test_after_an_experiment_the_version_before_it_remains_the_fallback(versions: dict[str, ModelVersion]) -> None:
    a = ModelVersion.objects.get(name=live_version_name())
    variants.start_test(versions["b"], weight=10)
    assert deployments.replaced_version(versions["b"]) == a
    variants.promote_variant(versions["b"])
    assert deployments.replaced_version(versions["b"]) == a


def test_each_live_pair_needs_a_rule(versions: dict[str, ModelVersion], tmp_path: Path) -> None:
    EnsembleRule.objects.all().delete()
    variants.start_test(versions["b"], weight=10)
    variants.start_test(register_variant(tmp_path / "eye", "eye", modality="image"), weight=10)
    variants.start_shadow(versions["c"])
    assert len(ensemble_rules.pairs_without_rule()) == 4


def test_the_database_refuses_shares_that_do_not_sum_to_100(committed_db: None, tmp_path: Path) -> None:
    version = register_variant(tmp_path / "b", "b")

    def broken(sql: str, *values: object) -> None:
        with (
            pytest.raises(IntegrityError, match="must sum to 100"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(sql, values)

    broken("UPDATE classifier_variant SET weight = 90")
    insert = "INSERT INTO classifier_variant (version_id, role, weight, deployed_at) VALUES (%s, 'live', 1, now())"
    broken(insert, version.pk)
    variants.start_test(version, weight=10)
    broken("DELETE FROM classifier_variant WHERE version_id = %s", version.pk)
    with transaction.atomic(), connection.cursor() as cursor:  # wrong on the way, right at the end
        cursor.execute("UPDATE classifier_variant SET weight = 40 WHERE weight = 10")
        cursor.execute("UPDATE classifier_variant SET weight = 60 WHERE weight = 90")
    assert sorted(shares().values()) == [40, 60]


def test_two_changes_at_once_leave_shares_that_sum_to_100(committed_db: None, tmp_path: Path) -> None:
    names = ("b", "c", "d")
    made = [register_variant(tmp_path / name, name) for name in names]
    threads = [threading.Thread(target=start, args=(version,)) for version in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(shares().values()) == 100
    assert set(names) < set(shares())


def start(version: ModelVersion) -> None:
    variants.start_test(version, weight=10)
    connection.close()


def test_new_shares_move_as_few_products_as_possible_and_modalities_are_independent() -> None:
    made = {name: ModelVersion(name=name, checksum=name) for name in "abcd"}
    keys = [uuid.UUID(int=number * 7919) for number in range(4000)]

    def chosen(weights: dict[str, int]) -> list[str]:
        live = [Variant(version=made[name], weight=weight) for name, weight in weights.items()]
        return [traffic.choose_variant(live, key).name for key in keys]

    before, after = chosen({"a": 90, "b": 10}), chosen({"b": 20, "a": 80})
    assert not any(old == "b" and new == "a" for old, new in zip(before, after, strict=True))
    both = Counter(zip(chosen({"a": 50, "b": 50}), chosen({"c": 50, "d": 50}), strict=True))
    assert all(0.22 < count / len(keys) < 0.28 for count in both.values())


def test_a_product_that_is_classified_again_goes_to_the_same_variant(
    seller: User, make_product: MakeProduct, versions: dict[str, ModelVersion]
) -> None:
    variants.start_test(versions["b"], weight=50)
    seen = set()
    for number in range(6):
        product = make_product(seller, title=f"Guitar {number}")
        first = product.prediction.text_version
        services.edit_product(product=product, title="Guitar with case", description="", sku="")
        classify_pending()
        again = Product.objects.get(pk=product.pk).prediction
        assert again != product.prediction and again.variant_key == product.pk
        assert again.text_version == first
        seen.add(first)
    assert seen <= {
        versions["b"],
        traffic.live_variants("text")[0].version,
        traffic.live_variants("text")[1].version,
    }


def test_the_command_line_starts_stops_and_promotes_variants(
    versions: dict[str, ModelVersion], capsys: pytest.CaptureFixture[str]
) -> None:
    def models(*words: Any) -> str:
        call_command("models", *words)
        return capsys.readouterr().out

    a = live_version_name()
    assert f"Live: {a} 85%, b 15%" in models("test", "b", "--share", "15", "--note", "why")
    assert "c runs as a shadow" in models("shadow", "c")
    assert "shadow" in models("list", "text")
    assert f"Live: {a} 60%, b 40%" in models("share", f"{a}=60", "b=40")
    assert "was stopped" in models("stop", "c")
    assert "Live: b 100%" in models("promote", "b")
    for words in (("test", "b"), ("stop", "b"), ("share", "b"), ("share", "b=50"), ("promote", "nowhere")):
        with pytest.raises(CommandError):
            call_command("models", *words)
