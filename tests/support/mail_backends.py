"""Mail backends for tests; name them in EMAIL_BACKEND."""

import threading
from collections.abc import Sequence
from typing import ClassVar

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.locmem import EmailBackend as MemoryBackend
from django.db import connection, transaction

from feedback.models import Case, MonitoringReport


class LockCheckingBackend(MemoryBackend):
    """Keep messages in memory, and note for each whether a transaction was open and whether a row was locked."""

    transactions: ClassVar[list[bool]] = []
    locked: ClassVar[list[bool]] = []

    def send_messages(self, messages: Sequence[EmailMessage]) -> int:
        self.transactions.append(connection.in_atomic_block)
        checker = threading.Thread(target=self._try_locks)
        checker.start()
        checker.join()
        return super().send_messages(messages)

    def _try_locks(self) -> None:
        """Lock every case and report from another connection, without waiting."""
        free = 0
        with transaction.atomic():
            for model in (Case, MonitoringReport):
                free += len(model._default_manager.select_for_update(skip_locked=True))
        total = Case.objects.count() + MonitoringReport.objects.count()
        self.locked.append(free < total)
        connection.close()


class HangingBackend(MemoryBackend):
    """Keep messages in memory, but only after `answer` is set."""

    started: ClassVar[threading.Event] = threading.Event()
    answer: ClassVar[threading.Event] = threading.Event()

    def send_messages(self, messages: Sequence[EmailMessage]) -> int:
        self.started.set()
        assert self.answer.wait(30)
        return super().send_messages(messages)


class RefusingBackend(BaseEmailBackend):
    """Refuse every message as an unreachable server does."""

    def send_messages(self, messages: Sequence[EmailMessage]) -> int:
        raise ConnectionRefusedError
