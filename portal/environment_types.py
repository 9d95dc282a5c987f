"""Check the values of environment variables; an error never repeats a value, which may be a password."""

from ipaddress import ip_address
from typing import Annotated
from urllib.parse import SplitResult, parse_qs, urlsplit

import dj_database_url
from celery.schedules import ParseException, crontab
from pydantic import AfterValidator

SMTP = ("smtp", "smtps")


def _parts(url: str) -> SplitResult:
    """Return the URL's parts. Raises ValueError that repeats none of them."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # reading it checks it
    except ValueError:
        raise ValueError("has a wrong host or port; write special characters of a password as %XX") from None
    return parts


def _database_url(url: str) -> str:
    if url:
        _parts(url)
        try:
            engine = dj_database_url.parse(url)["ENGINE"]
        except (ValueError, KeyError):
            raise ValueError("not a database URL") from None
        if engine != "django.db.backends.postgresql":
            raise ValueError("must be a postgresql:// URL; Aisle needs PostgreSQL with pgvector")
    return url


def _redis_url(url: str) -> str:
    if url and _parts(url).scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return url


def is_open_to_others(redis_url: str) -> bool:
    """Return whether the server is on another machine and requires neither a password nor a client certificate."""
    parts = urlsplit(redis_url)
    query = parse_qs(parts.query)
    is_local = parts.scheme == "unix" or parts.hostname == "localhost" or _is_loopback(parts.hostname or "")
    return not (is_local or parts.password or query.get("password") or query.get("ssl_certfile"))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _rate(rate: str) -> str:
    count, _, period = rate.partition("/")
    if not count.isdigit() or period not in ("second", "minute", "hour", "day"):
        raise ValueError("must read like 60/minute (second, minute, hour or day)")
    return rate


def _email_url(url: str) -> str:
    parts = _parts(url)
    query = parse_qs(parts.query, keep_blank_values=True)
    if parts.scheme not in ("console", "file", *SMTP):
        raise ValueError("must begin with smtp://, smtps://, file:// or console://")
    if parts.scheme == "file" and (parts.netloc or len(parts.path) < 2):
        raise ValueError("must name a whole path: file:///folder")
    if parts.scheme in SMTP and not parts.hostname:
        raise ValueError("must name a host")
    if parts.scheme == "smtp" and not (query.keys() <= {"tls"} and set(query.get("tls", [])) <= {"1", "true", "yes"}):
        raise ValueError("takes no parameter except ?tls=1 (or true, or yes)")
    if parts.scheme == "smtps" and query:
        raise ValueError("smtps:// is encrypted from the start and takes no parameters; ?tls=1 belongs to smtp://")
    return url


def _cron(schedule: str) -> str:
    if schedule:
        try:
            crontab.from_string(schedule)
        except (ParseException, TypeError, ValueError):
            raise ValueError("must be five cron fields, such as 0 3 * * 0") from None
    return schedule


def _words(value: str) -> str:
    return ",".join(word.strip() for word in value.split(",") if word.strip())


def _address(url: str) -> str:
    if url and _parts(url).scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    return url


DatabaseURL = Annotated[str, AfterValidator(_database_url)]
RedisURL = Annotated[str, AfterValidator(_redis_url)]
EmailURL = Annotated[str, AfterValidator(_email_url)]
WebAddress = Annotated[str, AfterValidator(_address)]
CronSchedule = Annotated[str, AfterValidator(_cron)]
Rate = Annotated[str, AfterValidator(_rate)]
Words = Annotated[str, AfterValidator(_words)]
