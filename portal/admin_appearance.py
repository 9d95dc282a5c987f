"""Configure the look of the admin and its side bar, whose lines show for those who may open them."""

from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _


def _link(title: object, icon: str, model: str) -> dict[str, object]:
    app, _separator, name = model.rpartition("_")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{model}_changelist"),
        "permission": lambda request: request.user.has_perm(f"{app}.view_{name}"),
    }


NAVIGATION = [
    {
        "title": _("Products"),
        "items": [
            _link(_("Predictions"), "query_stats", "classifier_prediction"),
            {
                "title": _("Review queue"),
                "icon": "fact_check",
                "link": reverse_lazy("review"),
                "permission": lambda request: request.user.has_perm("feedback.review_feedback"),
            },
            _link(_("Feedback"), "rate_review", "feedback_feedback"),
            _link(_("Fraud cases"), "gavel", "feedback_case"),
            _link(_("Products"), "inventory_2", "portal_product"),
            _link(_("Categories"), "shelves", "classifier_category"),
        ],
    },
    {
        "title": _("Models"),
        "items": [
            {
                **_link(_("Health"), "monitor_heart", "feedback_monitoringreport"),
                "link": reverse_lazy("model_health"),
            },
            _link(_("Model versions"), "model_training", "classifier_modelversion"),
            _link(_("Ensemble rules"), "merge", "classifier_ensemblerule"),
            {
                **_link(_("Experiments"), "alt_route", "classifier_variant"),
                "link": reverse_lazy("experiments"),
            },
            _link(_("Deployments"), "history", "classifier_deployment"),
            _link(_("Model failures"), "error", "classifier_fault"),
            _link(_("Training runs"), "exercise", "training_trainingrun"),
            _link(_("Reference set"), "balance", "classifier_referenceproduct"),
            _link(_("Datasets"), "dataset", "training_dataset"),
            _link(_("Examples"), "label", "training_example"),
        ],
    },
    {
        "title": _("People"),
        "items": [
            _link(_("Users"), "person", "portal_user"),
            _link(_("Groups"), "groups", "auth_group"),
            _link(_("Erasures"), "person_remove", "feedback_erasure"),
            _link(_("Privacy log"), "policy", "portal_privacyevent"),
        ],
    },
    {
        "title": _("Operations"),
        "items": [
            _link(_("Periodic tasks"), "schedule", "django_celery_beat_periodictask"),
            _link(_("Audit log"), "history_edu", "admin_logentry"),
        ],
    },
]

UNFOLD = {
    "SITE_TITLE": "Aisle",
    "SITE_HEADER": "Aisle",
    "SITE_SYMBOL": "shelves",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "COLORS": {
        "primary": {
            "50": "#eef1ff",
            "100": "#e0e5ff",
            "200": "#c5cdff",
            "300": "#a0adfd",
            "400": "#7c8bf8",
            "500": "#5b6bee",
            "600": "#3b4fd6",
            "700": "#3040b4",
            "800": "#2a3891",
            "900": "#273474",
            "950": "#171e45",
        }
    },
    "STYLES": [lambda request: static("aisle/admin.css")],
    "DASHBOARD_CALLBACK": "feedback.monitoring.dashboard.overview.add_overview",
    "SIDEBAR": {
        "show_search": False,
        "navigation": NAVIGATION,
    },
}
