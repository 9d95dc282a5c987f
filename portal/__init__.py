"""The Django project and everything that a seller, integrator or operator touches."""

from portal.celery import app as celery_app

__all__ = ["celery_app"]
