"""Show monitoring reports in the admin."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from classifier.admin import ReadOnlyAdmin
from feedback.models import MonitoringReport


@admin.register(MonitoringReport)
class MonitoringReportAdmin(ReadOnlyAdmin):
    """A read-only list of reports."""

    list_display = ["created_at", "badge", "period", "start", "summary", "asks_retraining"]
    list_filter = ["kind", "period", "breached", "asks_retraining", "start"]
    fields = [
        "kind", "period", "start", "text_version", "image_version", "summary", "breached", "notifies", "mailed_at",
        "posted_at", "asks_retraining", "answer", "answered_at", "created_at", "figures",
    ]  # fmt: skip

    @display(description=_("kind"), label={True: "danger", False: "success"})
    def badge(self, report: MonitoringReport) -> tuple[bool, str]:
        return report.breached, report.get_kind_display()
