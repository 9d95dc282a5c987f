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

# The names are keys of rows in the database: a renamed entry would run twice, under both names.
BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "ring the predict workers": {
        "task": "classifier.tasks.ring",
        "schedule": 5.0,
        "options": {"expires": 5.0},
    },
    "archive what is left": {
        "task": "classifier.tasks.archive_pending",
        "schedule": 15.0,
        "options": {"expires": 15.0},
    },
    "archive feedback that is left": {
        "task": "feedback.tasks.archive_feedback",
        "schedule": 15.0,
        "options": {"expires": 15.0},
    },
    "propose new categories": {
        "task": "feedback.tasks.propose_categories",
        "schedule": 3600.0,
        "options": {"expires": 3600.0},
    },
    "stop new versions that fail": {
        "task": "classifier.tasks.guard_versions",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    "ring the training workers": {"task": "training.tasks.ring", "schedule": 30.0, "options": {"expires": 30.0}},
    "fit ensemble rules that are missing": {
        "task": "training.tasks.fit_rules",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    "answer reports that ask for retraining": {"task": "training.tasks.answer_reports", "schedule": 60.0},
    "delete old records of trials": {"task": "classifier.tasks.forget_old_records", "schedule": 86_400.0},
    "delete expired sessions": {"task": "portal.tasks.clear_sessions", "schedule": 86_400.0},
    "erase accounts": {"task": "portal.tasks.erase_due", "schedule": 60.0, "options": {"expires": 60.0}},
    "make data exports": {"task": "portal.tasks.build_exports", "schedule": 60.0, "options": {"expires": 60.0}},
    "delete what is kept long enough": {"task": "portal.tasks.retain", "schedule": 86_400.0},
    "delete exports that are old": {"task": "portal.tasks.delete_old_exports", "schedule": 3600.0},
    "forget what was erased": {
        "task": "training.tasks.forget_erased",
        "schedule": 300.0,
        "options": {"expires": 300.0},
    },
    "give new answers their place in the review queue": {
        "task": "feedback.tasks.place_feedback",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    "find sellers who mislabel on purpose": {
        "task": "feedback.tasks.find_fraud",
        "schedule": 3600.0,
        "options": {"expires": 3600.0},
    },
    "summarise what was predicted": {
        "task": "feedback.tasks.summarise_health",
        "schedule": 300.0,
        "options": {"expires": 300.0},
    },
    "write the references of drift": {
        "task": "training.tasks.write_references",
        "schedule": 3600.0,
        "options": {"expires": 3600.0},
    },
    "measure versions on the reference set": {
        "task": "training.tasks.measure_versions",
        "schedule": 3600.0,
        "options": {"expires": 3600.0},
    },
    "tell what monitors found": {
        "task": "feedback.tasks.tell_findings",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    "delete old summaries": {"task": "feedback.tasks.forget_old_summaries", "schedule": 86_400.0},
    "delete photos that no product took": {"task": "portal.tasks.delete_stale_drafts", "schedule": 3600.0},
}
