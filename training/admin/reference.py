"""Show the reference set in the admin, and measure versions on it."""

from typing import Any

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from kombu.exceptions import OperationalError
from unfold.decorators import display

from classifier.admin import ReadOnlyAdmin
from classifier.admin.confirmation import Refused, confirm_change
from classifier.models import ModelVersion, ReferenceProduct
from training import tasks

PART_COLOURS = {"replay": "info", "measure": "success"}


@admin.register(ReferenceProduct)
class ReferenceProductAdmin(ReadOnlyAdmin):
    """The products that versions are compared on."""

    list_display = ["product", "category", "part_badge", "origin", "source", "created_at"]
    list_display_links = ["product"]
    list_filter = ["part", "origin", "category"]
    list_select_related = ["category"]
    list_filter_submit = True
    search_fields = ["=external_id"]
    search_help_text = _("A whole id in its source")
    fields = ["title", "description", "category", "part", "origin", "source", "external_id", "created_at"]

    def get_urls(self) -> list[Any]:
        own = [path("measure/<str:pks>/", self.admin_site.admin_view(self.measure), name="reference_measure")]
        return own + super().get_urls()  # type: ignore[no-any-return]

    def measure(self, request: HttpRequest, pks: str) -> HttpResponse:
        """Measure two versions of a modality, their ids joined by "-", on the reference set after a confirmation."""
        numbers = [int(pk) for pk in pks.split("-") if pk.isdecimal() and len(pk) < 10]
        versions = list(ModelVersion.objects.filter(pk__in=numbers).defer("metrics"))
        if len(versions) != 2 or len({version.modality for version in versions}) != 1:
            raise Http404
        back = reverse("admin:classifier_modelversion_compare") + f"?first={numbers[0]}&second={numbers[-1]}"
        count = ReferenceProduct.objects.counted(versions[0].modality).count()
        question = {
            "title": _now("Measure on the reference set?"),
            "facts": [
                (_now("Versions"), ", ".join(str(version) for version in versions)),
                (_now("Reference products"), f"{count:,}"),
            ],
            "hint": _now("A training worker does it, in seconds to minutes. What is live stays as it is."),
            "verb": _now("Measure"),
        }

        def act() -> tuple[str, str]:
            try:
                tasks.measure_versions.delay(numbers)
            except OperationalError as error:
                raise Refused(_now("The queue of the workers can't be reached. Try again in a minute.")) from error
            return _now("A training worker measures them now. Look again in a minute."), back

        return confirm_change(self, request, question, act, back=back)

    @admin.display(description=_("product"))
    def product(self, product: ReferenceProduct) -> str:
        return (product.title or product.description)[:80] or product.external_id

    @display(description=_("part"), label=PART_COLOURS)
    def part_badge(self, product: ReferenceProduct) -> tuple[str, str]:
        names = {"replay": _now("Replay"), "measure": _now("Measuring")}
        return product.part, names[product.part]
