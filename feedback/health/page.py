"""The staff's page that answers "is it healthy?". It reads summaries and reports only."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _later

from classifier import charts
from classifier.admin import photo_tag
from classifier.models import Category, ModelVersion, Prediction
from feedback.drift.compare import DRIFTED, NOT_ENOUGH
from feedback.health import reading
from feedback.health.figures import BETWEEN, MODELS, Answers, Volume, calibration, expected
from feedback.health.reading import Scope, Stretch
from feedback.health.references import Pair
from feedback.models import HealthSummary, MonitoringReport, Period
from feedback.quality.accuracy import LEAST, Estimate, share_of, weights
from feedback.quality.estimated import Expected

SEE = "feedback.view_monitoringreport"
PERIODS = {1: _later("1 day"), 7: _later("7 days"), 30: _later("30 days"), 90: _later("90 days")}
USUAL = 7
MOST = timedelta(days=92)
LEAST_AT_A_POINT = 20
BREACHES = 8
EXAMPLES = 5
ROWS = 12  # of a table by category or language
ALONE = ("text", "image")
STATES = {DRIFTED: "danger", NOT_ENOUGH: "info"}


class ScopeForm(forms.Form):
    """What the page is narrowed to; an empty field narrows nothing."""

    since = forms.DateField(label=_later("From"), required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label=_later("To"), required=False, widget=forms.DateInput(attrs={"type": "date"}))
    pair = forms.ChoiceField(label=_later("Versions"), required=False)
    category = forms.ChoiceField(label=_later("Predicted category"), required=False)
    language = forms.CharField(label=_later("Language"), required=False, max_length=8, widget=forms.HiddenInput)
    days = forms.TypedChoiceField(required=False, coerce=int, choices=PERIODS.items(), widget=forms.HiddenInput)

    def __init__(self, data: QueryDict, pairs: Mapping[str, str], names: Mapping[str, str]) -> None:
        super().__init__(data, auto_id="health_%s")
        self.fields["pair"].choices = [("", _("All")), *pairs.items()]  # type: ignore[attr-defined]
        self.fields["category"].choices = [("", _("All")), *names.items()]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        since, until = cleaned.get("since"), cleaned.get("until")
        if since and until and until < since:
            self.add_error("until", _("This day is before the first one."))
        elif since and (until or _today()) - since > MOST:
            self.add_error("since", _("At most %(days)d days can be shown at once.") % {"days": MOST.days})
        return cleaned

    def scope(self, pairs: Mapping[str, Pair]) -> Scope:
        """Return what to show; a field that is wrong counts as empty."""
        said = getattr(self, "cleaned_data", {})
        pair = pairs.get(said.get("pair", ""))
        tomorrow = _midnight(_today()) + timedelta(days=1)
        if since := said.get("since"):
            last = min(said.get("until") or _today(), _today())
            return Scope(_midnight(since), _midnight(last) + timedelta(days=1), pair)
        days = said.get("days") or USUAL
        if days == 1:
            hour = timezone.now().replace(minute=0, second=0, microsecond=0)
            return Scope(hour - timedelta(days=1), hour + timedelta(hours=1), pair)
        return Scope(tomorrow - timedelta(days=days), tomorrow, pair)


def health(request: HttpRequest) -> HttpResponse:
    """How the models do: ?days= or ?since=&until=, narrowed by ?pair=, ?category= and ?language=."""
    if not request.user.has_perm(SEE):
        raise PermissionDenied
    names = dict(Category.objects.order_by("name").values_list("slug", "name"))
    pairs = reading.pairs(timezone.now())
    versions = reading.versions(list(pairs.values()))
    form = ScopeForm(request.GET, {key: _pair_name(pair, versions) for key, pair in pairs.items()}, names)
    form.is_valid()
    said = getattr(form, "cleaned_data", {})
    category, language = said.get("category", ""), said.get("language", "")
    scope = form.scope(pairs)
    parts = reading.stretches(scope)
    whole = reading.total(parts, scope.since)
    known = reading.calibrator_before(scope)
    estimated = expected(whole.volume.confidence, known) if known else None
    reports = reading.latest_drift(scope)
    confused = _narrowed(whole.answers, category)
    true, given = (request.GET.get(name, "") for name in ("true", "given"))
    examples = _cell_examples(whole.answers, true, given)
    findings = [_finding_block(report) for report in reports]
    products = _products([*examples, *(id for block in findings for row in block["rows"] for id in row["ids"])])
    context = {
        **admin.site.each_context(request),
        "title": _("Health"),
        "form": form,
        "periods": [
            {"name": name, "url": _address(request, days=days, since=None, until=None), "is_chosen": _is(scope, days)}
            for days, name in PERIODS.items()
        ],
        "scope": scope,
        "is_hourly": scope.period == Period.HOUR,
        "is_narrowed": bool(category or language),
        "all_url": _address(request, category=None, language=None, true=None, given=None),
        "narrowed": names.get(category, category) or language,
        "has_summaries": bool(parts) or HealthSummary.objects.exists(),
        "last": parts[-1].start if parts else None,
        "key": _key_figures(whole, estimated, category, language, reports),
        "charts": _charts(parts, scope, category, language, known),
        "models": _models(whole.answers, scope.pair, versions),
        "reliability": _reliability(whole.answers),
        "error": _error(whole.answers),
        "heatmap": _heatmap(confused, names, request),
        "drawn": int(whole.answers.weighted[0]),
        "least": LEAST,
        "cell": {"true": names.get(true, true), "given": names.get(given, given)} if true and given else None,
        "examples": [products[id] for id in examples if id in products],
        "estimated": estimated,
        "blocks": [
            {**block, "rows": [row | {"examples": _known(row["ids"], products)} for row in block["rows"]]}
            for block in findings
        ],
        "origins": _origins(scope, versions),
        "breaches": reading.breaches(scope, BREACHES),
        "tables": _tables(whole, names, request),
        "titles": {
            "models": _("Each model"),
            "calibration": _("Calibration on reviewed products"),
            "confusion": _("Confusions on reviewed products"),
            "drift": _("Drift"),
            "breaches": _("Breaches"),
            "estimate": _("Accuracy, estimated and reviewed"),
        },
    }  # fmt: skip
    return TemplateResponse(request, "admin/feedback/health.html", context)


# Figures ----------------------------------------------------------------------------------------------------------


def _key_figures(
    whole: Stretch,
    estimated: Expected | None,
    category: str,
    language: str,
    reports: Sequence[MonitoringReport],
) -> list[dict[str, Any]]:
    volume, tally = whole.volume, reading.tally_of(whole, category, language)
    figures = [{"name": _("Predictions"), "value": f"{reading.count_of(whole, category, language):,}"}]
    if not (category or language):
        failed = share_of(volume.failed, volume.done + volume.failed)
        figures += [
            _share(_("Failed"), failed, digits=2),
            _time(_("Time to the answer"), volume),
        ]
    figures += [
        _share(_("Seller said yes: one of the five"), tally.share("five")),
        _share(_("Seller chose the first"), tally.share("first")),
        _share(_("None of the categories fits"), tally.share("none")),
    ]
    if category or language:
        figures.append(_share(_("Right, of the reviewed"), tally.share("right", "reviewed")))
        return figures
    figures.append(_share(_("Accuracy, reviewed"), whole.answers.accuracy()))
    if estimated:
        note = _interval(estimated.low, estimated.high, estimated.rows)
        figures.append({"name": _("Accuracy, estimated"), "value": _percent(estimated.accuracy), "note": note})
    else:
        figures.append({"name": _("Accuracy, estimated"), "missing": _("not enough data")})
    if any(report.breached for report in reports):
        figures.append({"name": _("Drift"), "value": _("found"), "note": _("see below")})
    elif reports:
        figures.append({"name": _("Drift"), "value": _("none found")})
    else:
        figures.append({"name": _("Drift"), "missing": _("nothing to compare with yet")})
    return figures


def _share(name: str, estimate: Estimate | None, digits: int = 1) -> dict[str, Any]:
    if estimate is None or not estimate.is_enough:
        rows = estimate.rows if estimate else 0
        return {"name": name, "missing": _("not enough data: %(rows)d of %(least)d") % {"rows": rows, "least": LEAST}}
    note = _interval(estimate.low, estimate.high, estimate.rows, digits)
    return {"name": name, "value": _percent(estimate.value, digits), "note": note}


def _time(name: str, volume: Volume) -> dict[str, Any]:
    median, slow = volume.wait.percentile(0.5), volume.wait.percentile(0.95)
    if median is None or slow is None:
        return {"name": name, "missing": _("not enough data")}
    note = _("95 in 100 within %(slow)s") % {"slow": _seconds(slow)}
    return {"name": name, "value": _seconds(median), "note": note}


def _models(answers: Answers, pair: Pair | None, versions: Mapping[int, ModelVersion]) -> dict[str, Any]:
    """Return each model's accuracy, and the weights that follow for the registry where one pair is looked at."""
    titles = {"text": _("Text model"), "image": _("Image model"), "ensemble": _("Both together")}
    both = answers.by_model()
    wanted = weights(both)
    now = _registered(pair, versions)
    rows = []
    for name in MODELS:
        alone = answers.alone.get(name)
        rows.append(
            {
                "name": titles[name],
                "both": _share("", both[name]),
"alone": _share("", share_of(int(alone[1]), int(alone[0])) if alone else None) if name in ALONE else None,
                "wanted": _percent(wanted[name]) if wanted and name in wanted else "",
                "now": _percent(now[name]) if name in now else "",
            }
        )  # fmt: skip
    return {"rows": rows, "wanted": wanted, "now": now}


def _registered(pair: Pair | None, versions: Mapping[int, ModelVersion]) -> dict[str, float]:
    """Return the shares that the registered accuracies of a pair give its two models."""
    found = [versions.get(pk) for pk in pair or () if pk]
    if len(found) != 2 or None in found:
        return {}
    accuracies = {version.modality: version.accuracy for version in found if version}
    total = sum(accuracies.values())
    return {name: value / total for name, value in accuracies.items()} if total else {}


# Charts -----------------------------------------------------------------------------------------------------------


def _charts(parts: Sequence[Stretch], scope: Scope, category: str, language: str, known: Any) -> dict[str, SafeString]:
    unit = timedelta(hours=1) if scope.period == Period.HOUR else timedelta(days=1)
    end = min(scope.until, timezone.now())
    x_label = _("hours; 0 is %(end)s UTC") if scope.period == Period.HOUR else _("days; 0 is %(end)s UTC")
    x_label %= {"end": f"{end:%d %b %H:%M}"}

    def at(part: Stretch) -> float:
        return (part.start + unit / 2 - end) / unit

    counts = [(at(part), reading.count_of(part, category, language)) for part in parts]
    found = {
        "volume": charts.line(
            title=_("Predictions"), x_label=x_label, y_label=_("an hour") if unit < timedelta(days=1) else _("a day"),
            series=[{"name": _("Predictions"), "points": counts}] if any(count for _x, count in counts) else [],
        ),
        "answers": charts.line(
            title=_("What sellers said"), x_label=x_label,
            y_label=_("%% of answers; points of at least %(least)d") % {"least": LEAST_AT_A_POINT},
            series=[
                _rates(name, [(at(part), reading.tally_of(part, category, language).share(of)) for part in parts])
                for name, of in ((_("one of the five"), "five"), (_("the first"), "first"))
            ],
        ),
    }  # fmt: skip
    if category or language:
        return found
    found["time"] = charts.line(
        title=_("Time to the answer"), x_label=x_label, y_label=_("seconds"),
        series=[
            {"name": name, "points": _times([(at(part), part.volume) for part in parts], share)}
            for name, share in ((_("median"), 0.5), (_("95th percentile"), 0.95))
        ],
    )  # fmt: skip
    estimates = [(at(part), expected(part.volume.confidence, known)) for part in parts] if known else []
    band = [(x, 100 * each.low, 100 * each.high) for x, each in estimates if each]
    found["estimate"] = charts.line(
        title=_("Accuracy, estimated and reviewed"), x_label=x_label,
        y_label=_("%% right, with 95 %% intervals; points of at least %(least)d") % {"least": LEAST_AT_A_POINT},
        series=[
            {
                "name": _("estimated"),
                "points": [(x, round(100 * each.accuracy, 1)) for x, each in estimates if each],
                "band": band,
            },
            _rates(_("reviewed"), [(at(part), part.answers.accuracy()) for part in parts], with_band=True),
        ],
    )  # fmt: skip
    return found


def _times(parts: Sequence[tuple[float, Volume]], share: float) -> list[tuple[float, float]]:
    found = [(x, volume.wait.percentile(share)) for x, volume in parts]
    return [(x, milliseconds / 1000) for x, milliseconds in found if milliseconds is not None]


def _rates(name: str, points: Sequence[tuple[float, Estimate | None]], *, with_band: bool = False) -> dict[str, Any]:
    known = [(x, each) for x, each in points if each and each.effective >= LEAST_AT_A_POINT]
    return {
        "name": name,
        "points": [(x, round(100 * each.value, 1)) for x, each in known],
        "band": [(x, 100 * each.low, 100 * each.high) for x, each in known] if with_band else [],
    }


def _reliability(answers: Answers) -> SafeString | None:
    found = calibration(answers.reliability)
    if found is None or answers.tally.reviewed < LEAST:
        return None
    bins = [{"count": b.rows, "confidence": b.confidence, "accuracy": b.accuracy} for b in found.bins]
    return charts.reliability(bins)


def _error(answers: Answers) -> str:
    found = calibration(answers.reliability)
    return _percent(found.error) if found else ""


def _narrowed(answers: Answers, category: str) -> dict[tuple[str, str], int]:
    cells = {}
    for name, (count, _examples) in answers.cells.items():
        true, given = name.split(BETWEEN)
        if not category or category in (true, given):
            cells[true, given] = count
    return cells


def _heatmap(cells: Mapping[tuple[str, str], int], names: dict[str, str], request: HttpRequest) -> SafeString | None:
    labels = sorted({slug for cell in cells for slug in cell})
    if not labels:
        return None
    matrix = [[cells.get((true, given), 0) for given in labels] for true in labels]

    def link(true: str, given: str) -> str:
        return _address(request, true=true, given=given) + "#examples"

    return charts.heatmap({"labels": labels, "matrix": matrix}, names, link)


def _tables(whole: Stretch, names: Mapping[str, str], request: HttpRequest) -> list[dict[str, Any]]:
    """Return the categories and the languages with the most predictions, each a way to look closer."""
    tables = []
    for title, field, counts, tallies in (
        (_("By predicted category"), "category", whole.volume.categories, whole.answers.categories),
        (_("By language"), "language", whole.volume.languages, whole.answers.languages),
    ):
        rows = []
        for key, count in counts.most_common(ROWS):
            tally = tallies.get(key)
            rows.append(
                {
                    "name": names.get(key, key) if field == "category" else key or _("no text"),
                    "url": _address(request, **{"category": None, "language": None, field: key}) if key else "",
                    "count": f"{count:,}",
                    "cells": [
                        _share("", tally.share(*of) if tally else None)
                        for of in (("five",), ("first",), ("right", "reviewed"))
                    ],
                }
            )
        tables.append({"title": title, "rows": rows, "more": max(len(counts) - ROWS, 0)})
    return tables


# Drift and examples -----------------------------------------------------------------------------------------------


def _finding_block(report: MonitoringReport) -> dict[str, Any]:
    """Return a report's columns, those that drifted first, with what they are told by and the rows that moved most."""
    order = {DRIFTED: 0, NOT_ENOUGH: 2}
    rows = [
        {
            "column": finding["column"],
            "state": finding["state"],
            "colour": STATES.get(finding["state"], "success"),
            "measure": finding["measure"],
            "value": "" if finding["value"] is None else f"{finding['value']:.3g}",
            "limit": _limit(finding),
            "rows": f"{finding['window']:,} / {finding['reference']:,}",
            "ids": finding["rows"][:EXAMPLES],
        }
        for finding in sorted(report.figures.get("findings", []), key=lambda each: order.get(each["state"], 1))
    ]
    return {"report": report, "rows": rows}


def _limit(finding: Mapping[str, Any]) -> str:
    if finding["threshold"] is not None:
        return _("drift from %(threshold)g on") % finding
    return "" if finding["p"] is None else _("p %(p).2g") % finding


def _cell_examples(answers: Answers, true: str, given: str) -> list[str]:
    _count, examples = answers.cells.get(BETWEEN.join((true, given)), (0, []))
    return [id for _confidence, id in examples]


def _products(ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what a link to a product shows, by its prediction's id; erased ones are not among them."""
    rows = Prediction.objects.filter(pk__in=ids).only("pk", "title", "photo_small", "top5")
    return {
        str(row.pk): {
            "id": row.pk,
            "title": row.title[:60] or _("without a title"),
            "photo": photo_tag(row, "small") if row.photo_small else "",
            "best": row.best,
        }
        for row in rows
    }  # fmt: skip


def _known(ids: Sequence[str], products: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [products[id] for id in ids if id in products]


def _origins(scope: Scope, versions: Mapping[int, ModelVersion]) -> list[dict[str, Any]]:
    found = reading.reference_origins()
    return [
        {"pair": _pair_name(pair, versions), "origin": row.get_origin_display(), "since": row.since}
        for pair, row in found.items()
        if scope.pair in (None, pair) and all(pk in versions for pk in pair if pk)
    ]


# Words ------------------------------------------------------------------------------------------------------------


def _pair_name(pair: Pair, versions: Mapping[int, ModelVersion]) -> str:
    return " + ".join(str(versions[pk]) for pk in pair if pk and pk in versions)


def _address(request: HttpRequest, **changes: object) -> str:
    given = {**{key: request.GET[key] for key in request.GET if key != "page"}, **changes}
    return "?" + urlencode({key: value for key, value in given.items() if value not in (None, "")})


def _is(scope: Scope, days: int) -> bool:
    return scope.until >= timezone.now() and (scope.until - scope.since).days == days


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _interval(low: float, high: float, rows: int, digits: int = 1) -> str:
    return f"{100 * low:.{digits}f} – {100 * high:.{digits}f} %, n {rows:,}"


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def _today() -> date:
    return datetime.now(UTC).date()


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
