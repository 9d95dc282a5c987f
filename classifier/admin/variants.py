"""Start, stop and promote variants; show deployments and model failures."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import path
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from classifier.admin.base import ReadOnlyAdmin
from classifier.admin.confirmation import confirm_change, describe_version, experiment_url
from classifier.evaluation.version_comparison import compare_with_live
from classifier.models import Deployment, Fault, ModelVersion, Variant
from classifier.registry import traffic, variants

FIRST_SHARE = 10
KIND_COLOURS = {"deployment": "success", "promotion": "success", "rollback": "warning", "stop": "warning"}


@admin.register(Variant)
class VariantAdmin(ReadOnlyAdmin):
    list_display = ["version", "role", "weight", "deployed_at"]
    list_select_related = ["version"]

    def get_urls(self) -> list[Any]:
        views: dict[str, Callable[..., HttpResponse]] = {
            "test": self.test, "shadow": self.shadow, "stop": self.stop, "promote": self.promote,
        }  # fmt: skip
        own = [
            path(f"<int:pk>/{verb}/", self.admin_site.admin_view(view), name=f"classifier_variant_{verb}")
            for verb, view in views.items()
        ]
        return own + super().get_urls()  # type: ignore[no-any-return]

    def test(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Confirm and start an experiment with the version."""
        version = get_object_or_404(ModelVersion, pk=pk)
        side = compare_with_live(version)
        question = {
            "title": _now("Start an experiment with %(version)s?") % {"version": version},
            "facts": [*_live_facts(version), (_now("Under test"), describe_version(version))],
            "side": side,
            "phrase": side.phrase,
            "hint": _now(
                "A product always goes to the same version. One that fails or is slow beyond its budget is stopped "
                "automatically."
            ),
            "verb": _now("Start the experiment"),
            "with_note": True,
            "with_share": FIRST_SHARE,
        }

        def act(how: dict[str, Any]) -> str:
            variants.start_test(version, weight=_share(request), accepts_loss=bool(side.phrase), **how)
            return _now("%(version)s is under test.") % {"version": version}

        return self._confirm(request, version, question, act)

    def shadow(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Confirm and start a shadow."""
        version = get_object_or_404(ModelVersion, pk=pk)
        question = {
            "title": _now("Run %(version)s as a shadow?") % {"version": version},
            "facts": [*_live_facts(version), (_now("Will run as a shadow"), describe_version(version))],
            "hint": _now(
                "It answers the same products after the seller has the result. Its answers are stored, and sellers "
                "never see them. Workers have more to do."
            ),
            "verb": _now("Start the shadow"),
            "with_note": True,
        }

        def act(how: dict[str, Any]) -> str:
            variants.start_shadow(version, **how)
            return _now("%(version)s runs as a shadow now.") % {"version": version}

        return self._confirm(request, version, question, act)

    def stop(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Confirm and stop a live version of an experiment, or a shadow."""
        version = get_object_or_404(ModelVersion, pk=pk)
        question = {
            "title": _now("Stop %(version)s?") % {"version": version},
            "facts": _live_facts(version),
            "hint": _now("The other live versions get its share. Its answers are kept."),
            "verb": _now("Stop"),
            "with_note": True,
        }

        def act(how: dict[str, Any]) -> str:
            variants.stop_variant(version, **how)
            return _now("%(version)s was stopped.") % {"version": version}

        return self._confirm(request, version, question, act)

    def promote(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Confirm and give all traffic to a version of an experiment."""
        version = get_object_or_404(ModelVersion, pk=pk)
        side = compare_with_live(version)
        question = {
            "title": _now("Promote %(version)s?") % {"version": version},
            "facts": [*_live_facts(version), (_now("Will get all traffic"), describe_version(version))],
            "side": side,
            "phrase": side.phrase,
            "hint": _now("It gets all traffic, and the others stop. You can roll back to the version before."),
            "verb": _now("Promote"),
            "with_note": True,
        }

        def act(how: dict[str, Any]) -> str:
            variants.promote_variant(version, accepts_loss=bool(side.phrase), **how)
            return _now("%(version)s has all traffic now.") % {"version": version}

        return self._confirm(request, version, question, act)

    def _confirm(
        self,
        request: HttpRequest,
        version: ModelVersion,
        question: dict[str, Any],
        act: Callable[[dict[str, Any]], str],
    ) -> HttpResponse:
        question |= {"seen": traffic.traffic_state(version.modality)}
        back = experiment_url(version.modality)
        how = {"by": request.user, "note": request.POST.get("note", ""), "expected_traffic": request.POST.get("seen")}
        words = _now("Workers use it from their next batch on.")
        return confirm_change(self, request, question, lambda: (f"{act(how)} {words}", back), back=back)


@admin.register(Deployment)
class DeploymentAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "version", "kind_badge", "shares_after", "replaced", "deployed_by", "note"]
    list_filter = ["modality", "kind"]
    list_select_related = ["version", "replaced", "deployed_by"]

    @display(description=_("kind"), label=KIND_COLOURS)
    def kind_badge(self, deployment: Deployment) -> tuple[str, str]:
        return deployment.kind, deployment.get_kind_display()

    @admin.display(description=_("live afterwards"))
    def shares_after(self, deployment: Deployment) -> str:
        return ", ".join(f"{name} {weight}%" for name, weight in deployment.shares.items()) or "–"


@admin.register(Fault)
class FaultAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "version", "rows", "error"]
    list_filter = ["version"]
    list_select_related = ["version"]


def _live_facts(version: ModelVersion) -> list[tuple[str, str]]:
    live = traffic.live_variants(version.modality)
    if len(live) < 2:
        return [(_now("Live now"), describe_version(live[0].version if live else None))]
    return [(_now("Live, %(weight)d%%") % {"weight": each.weight}, describe_version(each.version)) for each in live]


def _share(request: HttpRequest) -> int:
    """Return the posted share; 0, which is refused with a message, for anything that is not a number."""
    posted = request.POST.get("share", "")
    return int(posted) if posted.isdecimal() and len(posted) < 4 else 0
