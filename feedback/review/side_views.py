"""Show the pages on category proposals and on the export of answers."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _later

from classifier.admin import photo_tag
from classifier.models import Category
from feedback.models import CategoryProposal, Feedback
from feedback.review.category_proposals import accept_proposal, reject_proposal
from feedback.review.decisions import StaleReview
from feedback.review.export import FORMATS, export_answers
from feedback.review.filters import ExportFilters
from feedback.review.views import require_reviewer

MAX_PROPOSALS = 20
EXAMPLES_PER_PROPOSAL = 6


class NewCategoryForm(forms.Form):
    """The category that a proposal becomes."""

    proposal = forms.ModelChoiceField(CategoryProposal.objects.all())
    name = forms.CharField(max_length=80, label=_later("Name"))
    slug = forms.SlugField(max_length=80, label=_later("Slug"), required=False)
    retrain = forms.BooleanField(required=False, label=_later("Request retraining"))

    def clean_name(self) -> str:
        """Refuse the name or alias of another category."""
        name: str = self.cleaned_data["name"]
        if Category.objects.named(name):
            raise ValidationError(_("There is a category with this name or alias already."))
        return name

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if "name" in data and not data.get("slug"):
            data["slug"] = slugify(data["name"])[:80]
            if not data["slug"]:
                self.add_error("slug", _("Enter a slug in Latin letters: none can be made from this name."))
        if Category.objects.filter(slug=data.get("slug")).exists():
            self.add_error("slug", _("There is a category with this slug already."))
        return data


def proposals_page(request: HttpRequest) -> HttpResponse:
    """Show the proposals with example products, and create or reject a category."""
    require_reviewer(request)
    form = NewCategoryForm(request.POST or None)
    if request.method == "POST" and _handle_decision(request, form):
        return redirect("review_proposals")
    found = CategoryProposal.objects.filter(state=CategoryProposal.State.OPEN)[:MAX_PROPOSALS]
    context = {
        **admin.site.each_context(request),
        "title": _("New categories"),
        "form": form,
        "tried": request.POST.get("proposal", ""),
        "proposals": [
            {
                "row": proposal,
                "id": str(proposal.pk),
                "examples": _load_examples(proposal),
                "name": " ".join(proposal.words[:2]).title(),
            }
            for proposal in found
        ],
    }
    return TemplateResponse(request, "admin/feedback/proposals.html", context)


def _load_examples(proposal: CategoryProposal) -> list[dict[str, Any]]:
    answers = proposal.answers.select_related("prediction").only(
        "wish", "prediction__title", "prediction__photo_small"
    )[:EXAMPLES_PER_PROPOSAL]  # fmt: skip
    return [{"answer": answer, "photo": photo_tag(answer.prediction, "small")} for answer in answers]


def _handle_decision(request: HttpRequest, form: NewCategoryForm) -> bool:
    if not request.user.is_authenticated:
        raise PermissionDenied
    try:
        if "reject" in request.POST:
            proposal = form.fields["proposal"].clean(request.POST.get("proposal"))
            reject_proposal(proposal=proposal, reviewer=request.user)
            messages.success(request, _("Rejected. It won't be proposed again."))
            return True
        if not form.is_valid():
            if "proposal" in form.errors:
                raise StaleReview
            return False
        data = form.cleaned_data
        category = accept_proposal(
            proposal=data["proposal"],
            name=data["name"],
            slug=data["slug"],
            reviewer=request.user,
            asks_retraining=data["retrain"],
        )
        messages.success(
            request,
            _("%(name)s is a category now. Models suggest it after the next training run.") % {"name": category},
        )
    except (StaleReview, ValidationError):
        messages.warning(request, _("Nothing was changed: the proposal was decided or regrouped in the meantime."))
    return True


def export_page(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Choose answers and download them as a zip with a table and the photos."""
    require_reviewer(request)
    filters = ExportFilters(request.GET)
    format = request.GET.get("format", "")
    if format in FORMATS and filters.is_valid():
        _log_export(request)
        return StreamingHttpResponse(
            export_answers(filters.apply(Feedback.objects.all()), format),
            content_type="application/zip",
            headers={"Content-Disposition": f'attachment; filename="answers-{format}.zip"', "X-Accel-Buffering": "no"},
        )
    context = {**admin.site.each_context(request), "title": _("Export answers"), "filters": filters, "formats": FORMATS}
    return TemplateResponse(request, "admin/feedback/export.html", context)


def _log_export(request: HttpRequest) -> None:
    """Record in the audit log who exported which answers."""
    if not request.user.is_authenticated:
        raise PermissionDenied
    LogEntry.objects.create(
        user=request.user,
        content_type=ContentType.objects.get_for_model(Feedback),
        object_repr=_("answers")[:200],
        action_flag=CHANGE,
        change_message=f"Exported: {request.GET.urlencode()}",
    )
