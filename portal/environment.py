"""What the environment may set, checked once at start. docs/settings.md is made from this class."""

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
    """Where the servers are, and what protects them; `portal/settings.py` turns it into Django's settings."""

    model_config = SettingsConfigDict(hide_input_in_errors=True, extra="ignore", env_ignore_empty=True)

    AISLE_HOME: Path = Field(
        Path(__file__).parent.parent / "var",
        description="The folder for everything that the embedded defaults write.",
        json_schema_extra={"shown_default": "`var/`"},
    )
    AISLE_PRODUCTION: bool = Field(
        False,
        description="Require secrets and servers from the environment, HTTPS, and two-factor log-in for staff.",
    )
    SECRET_KEY: SecretStr = Field(
        SecretStr(""),
        description="Signs sessions and links; 50 or more random characters.",
        json_schema_extra={"shown_default": "made once and kept in `AISLE_HOME`; required in production"},
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
        description="How many proxies of yours add to `X-Forwarded-For`; limits by address count behind them.",
        json_schema_extra={"shown_default": "`0`; required in production"},
    )
    HSTS_SECONDS: int = Field(
        31_536_000, ge=0, description="In production: how long browsers remember that the site has HTTPS only."
    )
    HSTS_INCLUDE_SUBDOMAINS: bool = Field(
        False,
        description="Bind all subdomains to HTTPS too, with `preload`. Only if everything under the domain has HTTPS.",
    )
    DEBUG: bool = Field(False, description="Django's debug pages. Never in production.")
    DATABASE_URL: DatabaseURL = Field(
        "",
        description="`postgresql://user:password@host:port/name`; the server needs the extension pgvector.",
        json_schema_extra={"shown_default": "an embedded PostgreSQL"},
    )
    DATABASE_POOL_SIZE: PositiveInt = Field(16, description="The most database connections of one process.")
    REDIS_URL: RedisURL = Field(
        "",
        description="`redis://:password@host:port/0` of a Valkey or Redis: broker, cache and result bell. Production "
        "requires the password, unless the server is on the same machine.",
        json_schema_extra={"shown_default": "an embedded Valkey"},
    )
    AWS_STORAGE_BUCKET_NAME: str = Field(
        "",
        description="The bucket for photos, archive and model versions. boto3 reads its credentials from "
        "`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` or from the machine's role.",
        json_schema_extra={"shown_default": "files under `AISLE_HOME/storage`"},
    )
    AWS_S3_ENDPOINT_URL: WebAddress = Field("", description="The S3 server's address when it isn't Amazon's.")
    AWS_S3_REGION_NAME: str = Field("us-east-1", description="The bucket's region.")
    EMAIL_URL: EmailURL = Field(
        "console://",
        description="`smtp://user:password@host:587?tls=1` (STARTTLS), `smtps://user:password@host:465` (TLS at once), "
        "`file:///folder`, or `console://` to print mail.",
        json_schema_extra={"shown_default": "`console://`; SMTP is required in production"},
    )
    DEFAULT_FROM_EMAIL: str = Field("Aisle <aisle@localhost>", description="The sender of Aisle's mail.")
    LOG_LEVEL: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="The least level logged.")


class AisleEnvironment(BaseSettings):
    """What Aisle itself does; each variable is a setting of the same name."""

    model_config = SettingsConfigDict(hide_input_in_errors=True, extra="ignore", env_ignore_empty=True)

    BATCH_SIZE: PositiveInt = Field(32, description="The most predictions that a worker claims at once.")
    LEASE_SECONDS: PositiveInt = Field(60, description="How long a claimed prediction waits for a silent worker.")
    STOP_SECONDS: PositiveInt = Field(
        8,
        description="How long a predict worker that is told to stop may finish its batch; then it gives it back. "
        "Shorter than the time until it is killed.",
    )
    STALL_SECONDS: PositiveInt = Field(
        180,
        description="A predict worker that takes no work for so long, while there is some, ends itself for its "
        "supervisor to start it anew. Longer than `LEASE_SECONDS`.",
    )
    MAX_QUEUE_SECONDS: PositiveInt = Field(
        600, description="The API takes no more uploads once those that wait need longer than this to be answered."
    )
    MAX_ATTEMPTS: PositiveInt = Field(4, description="Tries at one prediction before it counts as failed.")
    MODEL_DEVICE: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the models run.")
    ENGINE: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="What computes the models: `auto` is OpenVINO on a CPU and torch on a GPU."
    )
    ENGINE_PRECISION: Literal["auto", "f32", "bf16"] = Field(
        "auto",
        description="How the engine rounds: `auto` is bf16 where the processor has it and `manage.py check_engine` "
        "found a version's answers the same, else f32.",
    )
    ENGINE_THREADS: int = Field(
        0,
        ge=0,
        description="How many cores a predict worker computes on.",
        json_schema_extra={"shown_default": "all that its process or container may use"},
    )
    TRAINING_LEASE_SECONDS: PositiveInt = Field(60, description="How long a training run waits for a silent worker.")
    TEXT_MIN_ACCURACY: float = Field(0.75, ge=0, le=1, description="The gate: least test accuracy of a text model.")
    IMAGE_MIN_ACCURACY: float = Field(0.2, ge=0, le=1, description="The gate: least test accuracy of an image model.")
    TEXT_MAX_LATENCY_MS: float = Field(
        250, gt=0, description="The gate: the most that one text may take (median, one at a time), in ms."
    )
    IMAGE_MAX_LATENCY_MS: float = Field(
        500, gt=0, description="The gate: the most that one photo may take (median, one at a time), in ms."
    )
    RETRAIN_SCHEDULE: CronSchedule = Field(
        "",
        description="When to retrain both models, as five cron fields in UTC: `0 3 * * 0` is Sundays at three.",
        json_schema_extra={"shown_default": "never by itself"},
    )
    RETRAIN_FROM_CHAMPION: bool = Field(
        False,
        description="Whether runs by schedule and by report go on from the live model, which keeps the categories that "
        "the new data lacks, instead of learning from the data alone.",
    )
    CANARY_MAX_ERROR_RATE: float = Field(
        0.05, gt=0, lt=1, description="The share of rows that a new version may fail before it is stopped."
    )
    CANARY_MAX_LATENCY_RATIO: float = Field(
        2.0, gt=1, description="How many times as slow as the others a version under test may be before it is stopped."
    )
    CANARY_LEAST_PREDICTIONS: PositiveInt = Field(
        50, description="How many predictions a new version has answered or failed before it is judged."
    )
    TRIAL_DAYS: PositiveInt = Field(
        90,
        description="For how many days shadows' answers, versions' faults and their hours under Experiments are kept.",
    )
    FRAUD_APPEALS: bool = Field(
        True, description="Tell sellers whose fraud case is confirmed, and let each write one note to it."
    )
    ERASURE_DAYS: int = Field(
        7, ge=0, description="How long a seller may still take back the wish to be erased, in days."
    )
    EXPORT_DAYS: PositiveInt = Field(7, description="For how many days a data export may be downloaded.")
    DELETED_DAYS: int = Field(
        0,
        ge=0,
        description="After how many days what was predicted and answered for products that are deleted or were changed "
        "since goes, with its pictures and its part of the archive.",
        json_schema_extra={"shown_default": "kept until the account is erased"},
    )
    DETAIL_MONTHS: int = Field(
        0,
        ge=0,
        description="After how many months vectors and probabilities move to the archive, as "
        "`manage.py archive_history` does it.",
        json_schema_extra={"shown_default": "never by itself"},
    )
    LOG_DAYS: int = Field(
        0,
        ge=0,
        description="For how many days the admin's log of changes is kept.",
        json_schema_extra={"shown_default": "for good"},
    )
    DRIFT_ALPHA: float = Field(
        0.005, gt=0, lt=1, description="Of a small window: the p-value up to which a column has drifted."
    )
    DRIFT_DISTANCE: float = Field(
        0.1, gt=0, lt=1, description="Of a large window: the Wasserstein or Jensen-Shannon distance that is drift."
    )
    DRIFT_SHARE: float = Field(
        0.05, gt=0, lt=1, description="With over 50 categories: the change of a category's share that is drift."
    )
    DRIFT_AUC: float = Field(
        0.55, gt=0.5, lt=1, description="How well embeddings may be told apart from the reference's before it is drift."
    )
    ACCURACY_DROP: float = Field(
        0.05, gt=0, lt=1, description="How far accuracy on reviewed products may fall within a month before it is told."
    )
    ALERT_WEBHOOK_URL: WebAddress = Field(
        "",
        description="Where breaches are posted as JSON, such as a chat program's incoming webhook.",
        json_schema_extra={"shown_default": "mail only"},
    )
    RETRAIN_ON_DRIFT: bool = Field(False, description="Whether a day's drift or fall of accuracy starts retraining.")
    RETRAIN_COOLDOWN_DAYS: PositiveInt = Field(7, description="How many days must lie between two such retrainings.")
    RETRAIN_CAP: PositiveInt = Field(4, description="How many such retrainings there may be within 90 days.")
    RESULT_WAIT_SECONDS: float = Field(
        2.0, ge=0, le=30, description="How long a page waits for its result before it polls."
    )
    VERY_LIKELY: float = Field(0.8, gt=0, lt=1, description="From this probability on: “Very likely”.")
    LIKELY: float = Field(0.5, gt=0, lt=1, description="From this probability on: “Likely”; below: “Not sure”.")
    UPLOAD_LIMIT_MB: PositiveInt = Field(12, description="The largest photo file, in MB.")
    UPLOAD_LIMIT_MEGAPIXELS: PositiveInt = Field(50, description="The largest photo, in megapixels.")
    DECODERS: PositiveInt = Field(
        2, description="How many processes a web process has for decoding ordinary photos; large ones have one more."
    )
    DECODING_MEMORY_MB: PositiveInt = Field(
        500,
        description="The most memory that a web process's decoders use together, in MB: 100 for each of `DECODERS`, "
        "the rest for one large photo at a time. A photo that needs more is refused.",
    )
    DECODING_SECONDS: float = Field(
        10, gt=0, description="The most processor time that decoding one photo may take; then its decoder is ended."
    )
    UPLOAD_RATE: Rate = Field("60/minute", description="Uploads per seller, on the pages and by the API.")
    API_RATE: Rate = Field("600/minute", description="Other API requests per user.")


class Environment(AisleEnvironment, ServerEnvironment):
    """Every variable that Aisle reads."""

    @model_validator(mode="after")
    def production_is_complete(self) -> Self:
        if self.LIKELY >= self.VERY_LIKELY:
            raise ValueError("LIKELY must be smaller than VERY_LIKELY")
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
                    "AISLE_PRODUCTION needs a password in REDIS_URL (redis://:PASSWORD@host:6379/0), because all who "
                    "reaches a Valkey without one can give orders to the workers. Set requirepass in its configuration"
                )
            if self.DEBUG:
                raise ValueError("DEBUG must be off when AISLE_PRODUCTION is on")
        return self


def read_environment() -> Environment:
    """Return the checked environment. Raises ImproperlyConfigured that names each wrong variable, not its value."""
    try:
        return Environment()
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'environment'}: {e['msg']}" for e in error.errors()]
        raise ImproperlyConfigured("; ".join(problems)) from None
