"""Declare the environment variables that Aisle reads, checked once at start.

docs/settings.md is generated from these classes.
"""

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from pydantic import Field, PositiveInt, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from portal.environment_types import (
    SMTP,
    CronSchedule,
    DatabaseURL,
    EmailURL,
    Rate,
    RedisURL,
    WebAddress,
    Words,
    is_open_to_others,
)


class ServerEnvironment(BaseSettings):
    """Servers, storage, mail and security; `portal/settings.py` turns them into Django's settings."""

    model_config = SettingsConfigDict(hide_input_in_errors=True, extra="ignore", env_ignore_empty=True)

    AISLE_HOME: Path = Field(
        Path(__file__).parent.parent / "var",
        description="The folder for the embedded servers, files, model caches and training runs.",
        json_schema_extra={"shown_default": "`var/`"},
    )
    AISLE_PRODUCTION: bool = Field(
        False,
        description="Require secrets and servers from the environment, HTTPS, and two-factor log-in for staff.",
    )
    SECRET_KEY: SecretStr = Field(
        SecretStr(""),
        description="Signs sessions and links; 50 or more random characters.",
        json_schema_extra={"shown_default": "generated and kept in `AISLE_HOME`; required in production"},
    )
    ALLOWED_HOSTS: Words = Field(
        "localhost,127.0.0.1,[::1]",
        description="Host names that the site answers to, separated by commas.",
        json_schema_extra={"shown_default": "`localhost,127.0.0.1,[::1]`; required in production"},
    )
    CSRF_TRUSTED_ORIGINS: Words = Field("", description="Further origins for forms, e.g. `https://shop.example`.")
    TRUSTED_PROXIES: int = Field(
        0,
        ge=0,
        description="How many of your proxies add to `X-Forwarded-For`; rate limits use the address before them.",
        json_schema_extra={"shown_default": "`0`; required in production"},
    )
    HSTS_SECONDS: int = Field(
        31_536_000, ge=0, description="In production: for how many seconds browsers insist on HTTPS (HSTS)."
    )
    HSTS_INCLUDE_SUBDOMAINS: bool = Field(
        False,
        description="Require HTTPS of all subdomains too, with `preload`. Only if the whole domain has HTTPS.",
    )
    DEBUG: bool = Field(False, description="Django's debug pages. Never in production.")
    DATABASE_URL: DatabaseURL = Field(
        "",
        description="`postgresql://user:password@host:port/name`; the server needs the extension pgvector.",
        json_schema_extra={"shown_default": "an embedded PostgreSQL"},
    )
    DATABASE_POOL_SIZE: PositiveInt = Field(16, description="The most database connections that one process opens.")
    REDIS_URL: RedisURL = Field(
        "",
        description="`redis://:password@host:port/0` of a Valkey or Redis: broker, cache and notifications. Production "
        "requires a password, unless the server is on the same machine.",
        json_schema_extra={"shown_default": "an embedded Valkey"},
    )
    AWS_STORAGE_BUCKET_NAME: str = Field(
        "",
        description="The bucket for photos, archive and model versions. boto3 reads its credentials from "
        "`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` or from the machine's role.",
        json_schema_extra={"shown_default": "files under `AISLE_HOME/storage`"},
    )
    AWS_S3_ENDPOINT_URL: WebAddress = Field("", description="The address of an S3 server other than Amazon's.")
    AWS_S3_REGION_NAME: str = Field("us-east-1", description="The bucket's region.")
    EMAIL_URL: EmailURL = Field(
        "console://",
        description="`smtp://user:password@host:587?tls=1` (STARTTLS), `smtps://user:password@host:465` (TLS), "
        "`file:///folder`, or `console://` to print mail.",
        json_schema_extra={"shown_default": "`console://`; SMTP is required in production"},
    )
    DEFAULT_FROM_EMAIL: str = Field("Aisle <aisle@localhost>", description="The sender of Aisle's mail.")
    LOG_LEVEL: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="The lowest level logged.")


class AisleEnvironment(BaseSettings):
    """The behaviour of Aisle; each variable is a Django setting of the same name."""

    model_config = SettingsConfigDict(hide_input_in_errors=True, extra="ignore", env_ignore_empty=True)

    BATCH_SIZE: PositiveInt = Field(32, description="The maximum number of predictions that a worker claims at once.")
    LEASE_SECONDS: PositiveInt = Field(
        60, description="For how many seconds a worker owns a prediction that it claimed; then another may claim it."
    )
    STOP_SECONDS: PositiveInt = Field(
        8,
        description="How many seconds a stopping predict worker has to finish its batch; then it releases the rows. "
        "Must be shorter than the time until the process is killed.",
    )
    STALL_SECONDS: PositiveInt = Field(
        180,
        description="After how many seconds without taking any of the waiting work a predict worker ends itself, so "
        "that its supervisor restarts it. Must be longer than `LEASE_SECONDS`.",
    )
    MAX_QUEUE_SECONDS: PositiveInt = Field(
        600, description="The API rejects uploads (503) when the waiting ones need longer than this, in seconds."
    )
    MAX_ATTEMPTS: PositiveInt = Field(4, description="How often a prediction is attempted before it fails.")
    MODEL_DEVICE: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the models run.")
    ENGINE: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="The library that runs the models: `auto` is OpenVINO on a CPU and PyTorch on a GPU."
    )
    ENGINE_PRECISION: Literal["auto", "f32", "bf16"] = Field(
        "auto",
        description="The engine's number format: `auto` is bf16 where the processor supports it and "
        "`manage.py check_engine` found that the version's results agree, else f32.",
    )
    ENGINE_THREADS: int = Field(
        0,
        ge=0,
        description="How many cores a predict worker uses.",
        json_schema_extra={"shown_default": "all that the process or container may use"},
    )
    TRAINING_LEASE_SECONDS: PositiveInt = Field(
        60,
        description="For how many seconds a worker owns a training run without reporting; then another continues it.",
    )
    TEXT_MIN_ACCURACY: float = Field(0.75, ge=0, le=1, description="The gate: minimum test accuracy of a text model.")
    IMAGE_MIN_ACCURACY: float = Field(0.2, ge=0, le=1, description="The gate: minimum test accuracy of an image model.")
    TEXT_MAX_LATENCY_MS: float = Field(
        250, gt=0, description="The gate: maximum median latency of a single text, in ms."
    )
    IMAGE_MAX_LATENCY_MS: float = Field(
        500, gt=0, description="The gate: maximum median latency of a single photo, in ms."
    )
    RETRAIN_SCHEDULE: CronSchedule = Field(
        "",
        description="When to retrain both models, as five cron fields in UTC: `0 3 * * 0` is Sundays at 03:00.",
        json_schema_extra={"shown_default": "never"},
    )
    RETRAIN_FROM_CHAMPION: bool = Field(
        False,
        description="Whether runs started by schedule or by monitoring continue from the live model, which keeps "
        "categories that the new data lacks, instead of training on the data alone.",
    )
    CANARY_MAX_ERROR_RATE: float = Field(
        0.05, gt=0, lt=1, description="The rollout guard: the maximum share of predictions that a new version may fail."
    )
    CANARY_MAX_LATENCY_RATIO: float = Field(
        2.0, gt=1, description="The rollout guard: how many times slower than the other versions a new one may be."
    )
    CANARY_LEAST_PREDICTIONS: PositiveInt = Field(
        50, description="The rollout guard: the minimum number of predictions before a new version is judged."
    )
    TRIAL_DAYS: PositiveInt = Field(
        90,
        description="For how many days shadow results, model failures and the hours of Experiments are kept.",
    )
    FRAUD_APPEALS: bool = Field(
        True, description="Whether sellers are told of their confirmed fraud case and can write one note about it."
    )
    ERASURE_DAYS: int = Field(7, ge=0, description="For how many days a seller can cancel the erasure of the account.")
    EXPORT_DAYS: PositiveInt = Field(7, description="For how many days a data export can be downloaded.")
    TRASH_DAYS: int = Field(
        30,
        ge=0,
        description="For how many days a seller can restore a deleted product; then it is deleted permanently. With 0 "
        "only its seller deletes it permanently.",
    )
    DELETED_DAYS: int = Field(
        0,
        ge=0,
        description="After how many days predictions and answers of products that were deleted permanently or changed "
        "since are deleted, with their photos and archive.",
        json_schema_extra={"shown_default": "kept until the account is erased"},
    )
    DETAIL_MONTHS: int = Field(
        0,
        ge=0,
        description="After how many months embeddings and probabilities move to the archive, as with "
        "`manage.py archive_history`.",
        json_schema_extra={"shown_default": "never"},
    )
    LOG_DAYS: int = Field(
        0,
        ge=0,
        description="For how many days the audit log is kept.",
        json_schema_extra={"shown_default": "forever"},
    )
    DRIFT_ALPHA: float = Field(
        0.005, gt=0, lt=1, description="Small windows: the p-value up to which a column counts as drifted."
    )
    DRIFT_DISTANCE: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Large windows: the Wasserstein or Jensen-Shannon distance that counts as drift.",
    )
    DRIFT_SHARE: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="With over 50 categories: the change of a category's share that counts as drift.",
    )
    DRIFT_AUC: float = Field(
        0.55,
        gt=0.5,
        lt=1,
        description="The AUC of telling embeddings from the baseline's that counts as drift.",
    )
    ACCURACY_DROP: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="How far accuracy on reviewed products may fall in a month before it is reported.",
    )
    ALERT_WEBHOOK_URL: WebAddress = Field(
        "",
        description="The address to which breaches are posted as JSON, such as the webhook of a chat program.",
        json_schema_extra={"shown_default": "mail only"},
    )
    RETRAIN_ON_DRIFT: bool = Field(False, description="Whether a day's drift or loss of accuracy starts retraining.")
    RETRAIN_COOLDOWN_DAYS: PositiveInt = Field(7, description="The least number of days between two such runs.")
    RETRAIN_CAP: PositiveInt = Field(4, description="The most such runs within 90 days.")
    RESULT_WAIT_SECONDS: float = Field(
        2.0, ge=0, le=30, description="For how many seconds a page waits for its result before it polls."
    )
    VERY_LIKELY: float = Field(0.8, gt=0, lt=1, description="The probability from which a suggestion is “Very likely”.")
    LIKELY: float = Field(
        0.5, gt=0, lt=1, description="The probability from which a suggestion is “Likely”; below it is “Not sure”."
    )
    UNLIKELY: float = Field(
        0.01, ge=0, lt=1, description="The probability below which the result page folds a suggestion away."
    )
    UPLOAD_LIMIT_MB: PositiveInt = Field(12, description="The maximum size of a photo file, in MB.")
    UPLOAD_REQUEST_LIMIT_MB: PositiveInt = Field(
        40, description="The maximum size of all photos of one request, in MB, if that is more than `UPLOAD_LIMIT_MB`."
    )
    UPLOAD_LIMIT_MEGAPIXELS: PositiveInt = Field(64, description="The maximum number of megapixels of a photo.")
    DECODERS: PositiveInt = Field(
        2,
        description="How many processes of a web process decode ordinary photos; one more decodes large ones.",
    )
    DECODING_MEMORY_MB: PositiveInt = Field(
        500,
        description="The most memory of a web process's decoders together, in MB: 100 for each of `DECODERS`, the rest "
        "for one large photo at a time. Photos that need more are rejected.",
    )
    DECODING_SECONDS: float = Field(
        10,
        gt=0,
        description="The most processor time for decoding one photo, in seconds; then the decoder is ended.",
    )
    UPLOAD_RATE: Rate = Field(
        "60/minute", description="The maximum rate of uploads of a seller, on the pages and by the API together."
    )
    API_RATE: Rate = Field("600/minute", description="The most API requests of a user otherwise.")


class Environment(AisleEnvironment, ServerEnvironment):
    """Every variable that Aisle reads."""

    @model_validator(mode="after")
    def production_is_complete(self) -> Self:
        if self.LIKELY >= self.VERY_LIKELY:
            raise ValueError("LIKELY must be smaller than VERY_LIKELY")
        if self.UNLIKELY >= self.LIKELY:
            raise ValueError("UNLIKELY must be smaller than LIKELY")
        if self.DECODING_MEMORY_MB < 100 * (self.DECODERS + 1):
            raise ValueError("DECODING_MEMORY_MB must be at least 100 for each of DECODERS, and 100 more")
        if self.STALL_SECONDS <= self.LEASE_SECONDS:
            raise ValueError("STALL_SECONDS must be longer than LEASE_SECONDS")
        if self.AISLE_PRODUCTION:
            missing = [name for name in ("DATABASE_URL", "REDIS_URL") if not getattr(self, name)]
            if len(self.SECRET_KEY.get_secret_value()) < 50:
                missing.append("SECRET_KEY (50 or more characters)")
            missing += [name for name in ("ALLOWED_HOSTS", "TRUSTED_PROXIES") if name not in self.model_fields_set]
            if urlsplit(self.EMAIL_URL).scheme not in SMTP:
                missing.append("EMAIL_URL with smtp:// or smtps://")
            if missing:
                raise ValueError(f"AISLE_PRODUCTION needs {', '.join(missing)}")
            if is_open_to_others(self.REDIS_URL):
                raise ValueError(
                    "AISLE_PRODUCTION needs a password in REDIS_URL (redis://:PASSWORD@host:6379/0), because anyone "
                    "who reaches a Valkey without one can control the workers. Set requirepass in its configuration"
                )
            if self.DEBUG:
                raise ValueError("DEBUG must be off when AISLE_PRODUCTION is on")
        return self


def read_environment() -> Environment:
    """Return the validated environment. Raises ImproperlyConfigured naming each wrong variable without its value."""
    try:
        return Environment()
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'environment'}: {e['msg']}" for e in error.errors()]
        raise ImproperlyConfigured("; ".join(problems)) from None
