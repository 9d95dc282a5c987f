"""manage.py models: list, show, compare, deploy and test model versions."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from classifier.evaluation import quality_reports
from classifier.evaluation.category_coverage import active_categories, coverage_of, name_list
from classifier.evaluation.version_comparison import SideBySide, side_by_side
from classifier.ml.artifact import ArtifactError
from classifier.models import Category, Modality, ModelVersion, Variant
from classifier.registry import deployments, traffic, variants, versions
from common.formatting import format_percent
from common.object_storage import StorageDown

REFUSALS = (
    ArtifactError,
    StorageDown,
    deployments.NotDeployable,
    deployments.NothingToRollBack,
    ModelVersion.DoesNotExist,
)


class Command(BaseCommand):
    help = "List, show, compare, deploy and test model versions, or roll back."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        listing = verbs.add_parser("list", help="all versions, newest first")
        listing.add_argument("modality", nargs="?", choices=Modality.values)
        show = verbs.add_parser("show", help="one version with its figures and lineage")
        show.add_argument("version", help="its id, its name, or the beginning of its checksum")
        deploy = verbs.add_parser("deploy", help="give a version all traffic of its modality")
        deploy.add_argument("version", help="its id, its name, or the beginning of its checksum")
        deploy.add_argument("--note", default="", help="the reason, for the list of deployments")
        rollback = verbs.add_parser("rollback", help="deploy the version before")
        rollback.add_argument("modality", choices=Modality.values)
        test = verbs.add_parser("test", help="give a version a share of its modality's traffic")
        test.add_argument("--share", type=int, default=10, help="in per cent (default: 10)")
        share = verbs.add_parser("share", help="set the shares of a modality's live versions")
        share.add_argument("shares", nargs="+", metavar="VERSION=SHARE", help="each live version with its per cent")
        shadow = verbs.add_parser("shadow", help="let a version answer the same products, unseen by sellers")
        stop = verbs.add_parser("stop", help="stop a live version of an experiment, or a shadow")
        promote = verbs.add_parser("promote", help="give a version under test all traffic")
        for verb in (deploy, test, promote):
            verb.add_argument(
                "--accept-loss",
                action="store_true",
                help="even if it can't suggest categories that the live model suggests",
            )
        for verb in (test, shadow, stop, promote):
            verb.add_argument("version", help="its id, its name, or the beginning of its checksum")
        for verb in (test, share, shadow, stop, promote):
            verb.add_argument("--note", default="", help="the reason, for the list of deployments")
        compare = verbs.add_parser("compare", help="the figures of two versions side by side")
        compare.add_argument("first")
        compare.add_argument("second")
        for verb in (listing, show, compare):
            verb.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *, verb: str, **options: Any) -> None:
        answers: dict[str, Callable[..., str]] = {
            "list": _list, "show": _show, "deploy": _deploy, "rollback": _rollback, "compare": _compare,
            "test": _test, "share": _set_shares, "shadow": _shadow, "stop": _stop, "promote": _promote,
        }  # fmt: skip
        try:
            self.stdout.write(answers[verb](options))
        except REFUSALS as error:
            raise CommandError(str(error)) from error


def _list(options: dict[str, Any]) -> str:
    versions, active = ModelVersion.objects.select_related("variant"), active_categories()
    if options["modality"]:
        versions = versions.filter(modality=options["modality"])
    if options["json"]:
        return _json([_brief(version) for version in versions])
    rows = [
        [
            str(version.pk),
            version.modality,
            version.name,
            str(coverage_of(version.labels, active=active)),
            format_percent(version.accuracy, 1),
            _log_loss(version),
            _state(version),
            f"{version.created_at:%Y-%m-%d %H:%M}",
        ]
        for version in versions
    ]
    head = ["id", "modality", "name", "suggests", "accuracy", "log-loss", "state", "registered"]
    return _table(head, rows, right=(0, 4, 5))


def _show(options: dict[str, Any]) -> str:
    version = versions.find_version(options["version"])
    champion = traffic.current_champion(version.modality)
    found = coverage_of(version.labels, before=champion.labels if champion else ())
    if options["json"]:
        details = {"lineage": version.lineage, "reason": version.reason, "path": version.path}
        parent = str(version.parent) if version.parent else None
        return _json({**_brief(version), "parent": parent, **details, "metrics": version.metrics})
    facts = [
        ("state", _state(version)),
        ("suggests", str(found)),
        *([("loses", name_list(found.lost.values()))] if found.lost else []),
        ("gate", version.reason.replace("\n", " ") or "not recorded"),
        ("registered", f"{version.created_at:%Y-%m-%d %H:%M} UTC"),
        ("trained on from", str(version.parent) if version.parent else "the pretrained encoder"),
        ("checksum", version.checksum),
        *((name, _short(value)) for name, value in version.lineage.items()),
    ]
    width = max(len(name) for name, _value in facts)
    rows = [
        [row["name"], *(_share(row.get(key)) for key in ("accuracy", "precision", "f1")), str(row.get("n", "–"))]
        for row in quality_reports.category_figures(version, _names())
    ]
    parts = [
        str(version),
        *(f"  {name:{width}}  {value}" for name, value in facts),
        "",
        _table(
            ["figure", "test split"],
            [[str(r["name"]), r["shown"]] for r in quality_reports.key_figures(version)],
            right=(1,),
        ),
        "",
        _table(["category, worst first", "recall", "precision", "F1", "n"], rows, right=(1, 2, 3, 4)),
    ]
    return "\n".join(parts)


def _deploy(options: dict[str, Any]) -> str:
    version = versions.find_version(options["version"])
    before = traffic.current_champion(version.modality)
    deployments.deploy_version(version, note=options["note"][:200], accepts_loss=options["accept_loss"])
    if before == version:
        return f"{version} is live already."
    return f"Deployed {version}{f' in place of {before}' if before else ''}. Workers use it from their next batch on."


def _rollback(options: dict[str, Any]) -> str:
    before = traffic.current_champion(options["modality"])
    variant = deployments.roll_back(options["modality"])
    return f"Rolled back from {before} to {variant.version}. Workers use it from their next batch on."


def _test(options: dict[str, Any]) -> str:
    version = versions.find_version(options["version"])
    variants.start_test(version, weight=options["share"], note=options["note"], accepts_loss=options["accept_loss"])
    return f"{version} is under test. {_live(version.modality)}"


def _set_shares(options: dict[str, Any]) -> str:
    weights = {}
    for part in options["shares"]:
        name, _separator, share = part.rpartition("=")
        if not share.isdecimal():
            raise CommandError(f"Write VERSION=SHARE, not {part}.")
        weights[versions.find_version(name)] = int(share)
    live = variants.set_weights(weights, note=options["note"])
    return _live(live[0].version.modality)


def _shadow(options: dict[str, Any]) -> str:
    version = versions.find_version(options["version"])
    variants.start_shadow(version, note=options["note"])
    return f"{version} runs as a shadow. {_live(version.modality)}"


def _stop(options: dict[str, Any]) -> str:
    version = versions.find_version(options["version"])
    variants.stop_variant(version, note=options["note"])
    return f"{version} was stopped. {_live(version.modality)}"


def _promote(options: dict[str, Any]) -> str:
    version = versions.find_version(options["version"])
    variants.promote_variant(version, note=options["note"], accepts_loss=options["accept_loss"])
    return f"{version} has all traffic. {_live(version.modality)}"


def _live(modality: str) -> str:
    shares = ", ".join(f"{variant.version.name} {variant.weight}%" for variant in traffic.live_variants(modality))
    return f"Live: {shares}. Workers use it from their next batch on."


def _compare(options: dict[str, Any]) -> str:
    first, second = (versions.find_version(options[name]) for name in ("first", "second"))
    try:
        comparison = quality_reports.compare_metrics(first, second, _names())
    except ValueError as error:
        raise CommandError(f"{error}.") from error
    side = side_by_side(first, second)
    if options["json"]:
        plain = [{name: row[name] for name in ("key", "first", "second")} for row in comparison.figures]
        return _json(
            {
                "first": _brief(first),
                "second": _brief(second),
                "same_test_products": comparison.is_fair,
                "on_the_same_products": [
                    {"basis": str(table["title"]), "n": table["n"], **table["figures"].to_json()}
                    for table in side.tables
                ],
                "figures": plain,
                "classes": comparison.classes,
            }
        )
    figures = [
        [str(r["name"]), r["first_shown"], r["second_shown"], r["change"] if comparison.is_fair else "–"]
        for r in comparison.figures
    ]
    classes = [
        [row["name"], *(_share(row[name]) for name in ("first", "second")), _share(row["difference"], sign="+")]
        for row in comparison.classes
    ]
    parts = [
        *_coverages(side),
        *(line for table in side.tables for line in _paired(table, first, second)),
        "Each on its own test products:",
        _table(["figure", first.name, second.name, "change"], figures, right=(1, 2, 3)),
        "",
        _table(["F1 of", first.name, second.name, "change"], classes, right=(1, 2, 3)),
    ]
    if not comparison.is_fair:
        parts += ["", "They were measured on different test products: the differences mean nothing."]
    if not side.tables and first != second:
        parts += [f"To compare them on the same products: manage.py measure_versions {first.pk} {second.pk}"]
    return "\n".join(parts)


def _coverages(side: SideBySide) -> list[str]:
    lines = [f"{version} suggests {found}." for version, found in side.coverages]
    if side.lost:
        lines.insert(0, f"LOST: {side.after} can't suggest {name_list(side.lost)}.")
    return [*lines, ""]


def _paired(table: dict[str, Any], first: ModelVersion, second: ModelVersion) -> list[str]:
    rows = [
        [str(row["name"]), row["first"], row["second"], row["change"], row["interval"], str(row["tone_words"])]
        for row in table["rows"]
    ]
    head = ["figure", first.name, second.name, "change", "95% interval", ""]
    return [f"{table['title']}, the same {table['n']} products:", _table(head, rows, right=(1, 2, 3, 4)), ""]


def _brief(version: ModelVersion) -> dict[str, Any]:
    return {
        "id": version.pk,
        "modality": version.modality,
        "name": version.name,
        "checksum": version.checksum,
        "coverage": {"suggested": (found := coverage_of(version.labels)).suggested, "offered": found.offered},
        "accuracy": version.accuracy,
        "log_loss": version.metrics.get("log_loss"),
        "state": version.state,
        "deployed": _weight(version),
        "registered": version.created_at.isoformat(),
    }


def _state(version: ModelVersion) -> str:
    variant = getattr(version, "variant", None)
    if variant is None:
        return "held back" if version.is_held else str(version.get_state_display()).lower()
    return f"deployed, {variant.weight}%" if variant.is_live else "shadow"


def _weight(version: ModelVersion) -> int:
    """Return the version's share of traffic in per cent."""
    try:
        return version.variant.weight
    except Variant.DoesNotExist:
        return 0


def _log_loss(version: ModelVersion) -> str:
    value = version.metrics.get("log_loss")
    return "–" if value is None else f"{value:.3f}"


def _share(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{100 * value:{sign}.1f}"


def _short(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _names() -> dict[str, str]:
    return dict(Category.objects.values_list("slug", "name"))


def _json(content: Any) -> str:
    return json.dumps(content, indent=1)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> str:
    if not rows:
        return "None."
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = []
    for row in [head, ["-" * width for width in widths], *rows]:
        cells = [
            f"{cell:>{width}}" if column in right else f"{cell:{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
