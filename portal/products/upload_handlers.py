"""Receive uploads without writing more than the limits to the disk."""

from django.conf import settings
from django.core.files.uploadhandler import TemporaryFileUploadHandler


class LimitedUploadHandler(TemporaryFileUploadHandler):
    """Stream uploads to temporary files; stop writing one byte past a file's limit, and at that of all files together.

    The rest is read and dropped, so that the form's other fields survive and the page can say what was wrong: a file's
    `size` is what was sent.
    """

    written = 0  # bytes of this request's files

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        room = min(settings.UPLOAD_LIMIT_BYTES + 1 - start, settings.UPLOAD_REQUEST_LIMIT_BYTES - self.written)
        if room > 0:
            kept = raw_data[:room]
            self.written += len(kept)
            super().receive_data_chunk(kept, start)
