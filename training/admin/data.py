"""Show examples and datasets in the admin."""

import re
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.files.storage import storages
from django.db.models import Q
from django.http import FileResponse, Http404, HttpRequest
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from classifier.admin import ReadOnlyAdmin
from classifier.models import Category
from common.formatting import format_count, format_percent
from common.object_storage import StorageDown, storage_faults
from training.datasets.corpus import SPLITS
from training.datasets.manifest_codes import read_exclusions
from training.datasets.manifest_labels import exclusion_label, warning_text
from training.models import Dataset, Example, Split

SHOWN_AT_ONCE = 12
DIGEST = re.compile(r"[0-9a-f]{64}")
SPLIT_COLOURS = {"train": "info", "validation": "success", "test": "success", "bridge": "warning"}
INPUT_LABELS = {"title": _("Title"), "description": _("Description"), "text": _("Any text"), "photo": _("Photo")}


def photo_tag(digest: str, size: str) -> SafeString | str:
    """Return the photo with this checksum as an <img>, or a dash."""
    if not digest:
        return "–"
    return format_html(
        '<img src="{}" alt="" loading="lazy" class="aisle-photo aisle-photo-{}">',
        reverse("admin:training_example_photo", args=[digest]),
        size,
    )


@admin.register(Example)
class ExampleAdmin(ReadOnlyAdmin):
    list_display = ["picture", "title_or_id", "category", "split_badge", "source", "created_at"]
    list_display_links = ["picture", "title_or_id"]
    list_filter = ["split", "category", "source"]
    list_select_related = ["category"]
    search_fields = ["external_id"]
    search_help_text = _("A whole id in its source")
    fields = [
        "large_picture", "title", "description", "category", "split", "source", "external_id", "group", "created_at",
    ]  # fmt: skip
    readonly_fields = ["large_picture"]
    list_filter_submit = True

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        term = search_term.strip()
        return (queryset.filter(external_id=term) if term else queryset), False

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("bands")

    def get_urls(self) -> list[Any]:
        own = [path("photo/<str:digest>/", self.admin_site.admin_view(self.photo), name="training_example_photo")]
        return own + super().get_urls()  # type: ignore[no-any-return]

    def photo(self, request: HttpRequest, digest: str) -> FileResponse:
        """Send a photo by its checksum, also one of a dataset whose example is deleted."""
        if not self.has_view_permission(request) or not DIGEST.fullmatch(digest):
            raise Http404
        try:
            with storage_faults():
                file = storages["datasets"].open(f"photos/{digest}.jpg")
        except (FileNotFoundError, StorageDown) as error:
            raise Http404 from error
        headers = {"Cache-Control": "private, max-age=86400, immutable"}
        return FileResponse(file, content_type="image/jpeg", headers=headers)

    @admin.display(description=_("photo"))
    def picture(self, example: Example) -> SafeString | str:
        return photo_tag(example.photo_digest, "small")

    @admin.display(description=_("photo"))
    def large_picture(self, example: Example) -> SafeString | str:
        return photo_tag(example.photo_digest, "large")

    @admin.display(description=_("product"))
    def title_or_id(self, example: Example) -> str:
        return (example.title or example.description)[:80] or example.external_id

    @display(description=_("split"), label=SPLIT_COLOURS)
    def split_badge(self, example: Example) -> tuple[str, str]:
        names = {Split.TRAIN: _("Training"), Split.BRIDGE: _("Left out")}
        return example.split, str(names.get(Split(example.split), example.get_split_display()))


@admin.register(Dataset)
class DatasetAdmin(ReadOnlyAdmin):
    """Datasets: a list, and a page for each that shows its description."""

    list_display = ["name", "rows", "categories", "photos", "sources", "is_described", "created_at"]
    list_display_links = ["name"]
    search_fields = ["checksum"]
    search_help_text = _("The beginning of a checksum")
    change_form_outer_before_template = "admin/training/dataset.html"
    fields = ["checksum", "created_at"]

    def get_queryset(self, request: HttpRequest) -> Any:
        # A description holds hundreds of suspected label errors, which only the dataset's own page shows.
        rows = super().get_queryset(request).defer("description")
        return rows.annotate(has_description=Q(description__isnull=False))

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        return queryset.filter(checksum__startswith=search_term.strip().lower()), False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        dataset = self.get_object(request, object_id)
        extra = {**(extra_context or {}), **(page_context(dataset) if dataset else {})}
        return super().change_view(request, object_id, form_url, extra)

    @admin.display(description=_("dataset"), ordering="created_at")
    def name(self, dataset: Dataset) -> str:
        return str(dataset)

    @admin.display(description=_("rows"))
    def rows(self, dataset: Dataset) -> str:
        return format_count(_total(dataset, "rows"))

    @admin.display(description=_("categories"))
    def categories(self, dataset: Dataset) -> int:
        return len(dataset.manifest["classes"])

    @admin.display(description=_("with a photo"))
    def photos(self, dataset: Dataset) -> str:
        return format_percent(_total(dataset, "with_photo") / (_total(dataset, "rows") or 1))

    @admin.display(description=_("sources"))
    def sources(self, dataset: Dataset) -> str:
        names = list(dataset.manifest["sources"])
        return ", ".join(names[:3]) + (f" + {len(names) - 3}" if len(names) > 3 else "")

    @admin.display(description=_("described"), boolean=True)
    def is_described(self, dataset: Any) -> bool:
        return bool(dataset.has_description)


def page_context(dataset: Dataset) -> dict[str, Any]:
    """Return what a dataset's page shows, with the sizes of its bars."""
    manifest, description = dataset.manifest, dataset.description or {}
    names = dict(Category.objects.values_list("slug", "name"))
    total = _total(dataset, "rows")
    suspicious = description.get("suspicious")
    return {
        "dataset": dataset,
        "is_described": dataset.description is not None,
        "figures": [
            (_("Rows"), format_count(total)),
            *((split.label, format_count(manifest["splits"][split]["rows"])) for split in map(Split, SPLITS)),
            (_("Categories"), str(len(manifest["classes"]))),
            (_("With a photo"), format_percent(_total(dataset, "with_photo") / (total or 1))),
            (_("Size"), f"{sum(shard['bytes'] for shard in manifest['shards']) / 1e6:,.1f} MB"),
        ],
        "warnings": [warning_text(warning) for warning in manifest["warnings"]],
        "balance": _balance(manifest["classes"], names),
        "splits": [Split(split) for split in SPLITS],
        "lengths": [
            _length(INPUT_LABELS[name], found)
            for name in ("title", "description")
            if (found := description.get("texts", {}).get(name))
        ],
        "missing": [
            {"name": INPUT_LABELS[name], "rows": count, "share": count / (total or 1)}
            for name in INPUT_LABELS
            if (count := description.get("missing", {}).get(name)) is not None
        ],
        "sources": [_source(name, count, total, description) for name, count in manifest["sources"].items()],
        "exclusions": [{"name": exclusion_label(code), "rows": n} for code, n in read_exclusions(manifest).items()],
        "suspicious": suspicious,
        "suspects": _first_and_rest([_suspect(row, names) for row in suspicious["rows"]]) if suspicious else [],
        "pictures": [
            {**picture, "category": names.get(picture["label"], picture["label"])}
            for picture in description.get("pictures", [])
        ],
    }


def _first_and_rest(rows: list[Any]) -> list[list[Any]]:
    """Return the rows that are shown at once, and the others."""
    return [rows[:SHOWN_AT_ONCE], rows[SHOWN_AT_ONCE:]]


def _total(dataset: Dataset, name: str) -> int:
    return sum(int(dataset.manifest["splits"][split][name]) for split in SPLITS)


def _balance(classes: dict[str, dict[str, int]], names: dict[str, str]) -> list[dict[str, Any]]:
    """Return a row for each category, the largest first, with bars as percentages of the largest."""
    ranked = sorted(classes.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    most = max((sum(counts.values()) for counts in classes.values()), default=0) or 1
    rows = []
    for slug, counts in ranked:
        start, bars = 0.0, []
        for split in SPLITS:
            width = 100 * counts[split] / most
            bars.append({"split": split, "start": f"{start:.2f}", "width": f"{width:.2f}"})
            start += width
        cells = [counts[split] for split in SPLITS]
        rows.append({"name": names.get(slug, slug), "counts": cells, "total": sum(cells), "bars": bars})
    return rows


def _length(name: Any, found: dict[str, Any]) -> dict[str, Any]:
    most = max((each["rows"] for each in found["histogram"]), default=0) or 1
    bars = []
    for number, each in enumerate(found["histogram"]):
        height = 100 * each["rows"] / most
        label = f"> {found['histogram'][number - 1]['to']}" if each["to"] is None else str(each["to"])
        bar = {"x": 36 * number + 4, "y": f"{110 - height:.1f}", "height": f"{height:.1f}"}
        bars.append({**bar, "label": label, "rows": each["rows"]})
    percentiles = [
        (_("longest") if p == "100" else f"{p}%", f"{value:,.0f}") for p, value in found["percentiles"].items()
    ]
    return {"name": name, "bars": bars, "width": 36 * len(bars), "percentiles": percentiles, "most": most}


def _source(name: str, count: int, total: int, description: dict[str, Any]) -> dict[str, Any]:
    found = description.get("sources", {}).get(name, {})
    return {"name": name, "rows": count, "share": count / (total or 1), "with_photo": found.get("with_photo")}


def _suspect(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    source, _separator, id = row["key"].partition("/")
    return {
        **row,
        "photo": photo_tag(row["digest"], "small") if row["digest"] else "",
        "given": names.get(row["given"], row["given"]),
        "suggested": names.get(row["suggested"], row["suggested"]),
        "link": f"{reverse('admin:training_example_changelist')}?{urlencode({'q': id, 'source': source})}",
    }
