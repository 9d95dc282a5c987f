"""Define the schedule of periodic tasks and the queue of each task."""

from typing import Any

TASK_ROUTES: dict[str, dict[str, str]] = {
    "classifier.tasks.classify_pending": {"queue": "predict"},
    "training.tasks.run_training": {"queue": "training"},
    "training.tasks.fit_rules": {"queue": "training"},
    "training.tasks.measure_versions": {"queue": "training"},
    "training.tasks.write_references": {"queue": "training"},
    "training.tasks.forget_erased": {"queue": "training"},
}

# A name is the key of a row in the database: rename that row in a migration, or the task runs under both names.
BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "wake the predict workers": {
        "task": "classifier.tasks.ring",
        "schedule": 5.0,
        "options": {"expires": 5.0},
    },
    "archive pending predictions": {
        "task": "classifier.tasks.archive_pending",
        "schedule": 15.0,
        "options": {"expires": 15.0},
    },
    "archive pending feedback": {
        "task": "feedback.tasks.archive_feedback",
        "schedule": 15.0,
        "options": {"expires": 15.0},
    },
    "propose new categories": {
        "task": "feedback.tasks.propose_categories",
        "schedule": 3600.0,
        "options": {"expires": 3600.0},
    },
    "stop failing versions": {
        "task": "classifier.tasks.guard_versions",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    "wake the training workers": {"task": "training.tasks.ring", "schedule": 30.0, "options": {"expires": 30.0}},
    "fit missing ensemble rules": {
        "task": "training.tasks.fit_rules",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    "start retraining after drift reports": {"task": "training.tasks.answer_reports", "schedule": 60.0},
    "delete old shadow answers and failures": {"task": "classifier.tasks.forget_old_records", "schedule": 86_400.0},
    "delete expired sessions": {"task": "portal.tasks.clear_sessions", "schedule": 86_400.0},
    "erase accounts that are due": {"task": "portal.tasks.erase_due", "schedule": 60.0, "options": {"expires": 60.0}},
    "build data exports": {"task": "portal.tasks.build_exports", "schedule": 60.0, "options": {"expires": 60.0}},
    "apply retention periods": {"task": "portal.tasks.retain", "schedule": 86_400.0},
    "delete old data exports": {"task": "portal.tasks.delete_old_exports", "schedule": 3600.0},
    "delete erased products from training data": {
        "task": "training.tasks.forget_erased",
        "schedule": 300.0,
        "options": {"expires": 300.0},
    },
    "rank new answers for review": {
        "task": "feedback.tasks.place_feedback",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    "detect fraud": {
        "task": "feedback.tasks.find_fraud",
        "schedule": 3600.0,
        "options": {"expires": 3600.0},
    },
    "summarise predictions by hour": {
        "task": "feedback.tasks.summarise_health",
        "schedule": 300.0,
        "options": {"expires": 300.0},
    },
    "create drift baselines": {
        "task": "training.tasks.write_references",
        "schedule": 3600.0,
        "options": {"expires": 3600.0},
    },
    "measure versions on the reference set": {
        "task": "training.tasks.measure_versions",
        "schedule": 3600.0,
        "options": {"expires": 3600.0},
    },
    "send notifications": {
        "task": "feedback.tasks.tell_findings",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    "delete old summaries": {"task": "feedback.tasks.forget_old_summaries", "schedule": 86_400.0},
    "delete expired API tokens": {"task": "portal.tasks.delete_expired_tokens", "schedule": 86_400.0},
    "delete expired idempotency keys": {"task": "portal.tasks.delete_idempotency_keys", "schedule": 3600.0},
    "delete unused photo uploads": {"task": "portal.tasks.delete_stale_drafts", "schedule": 3600.0},
}
