"""Receive uploads without writing more than the limit to the disk."""

from django.conf import settings
from django.core.files.uploadhandler import TemporaryFileUploadHandler


class LimitedUploadHandler(TemporaryFileUploadHandler):
    """Stream an upload to a temporary file and stop writing one byte past the limit.

    The rest is read and dropped, so that the form's other fields survive and the page can say what was wrong: the
    file's `size` is what was sent.
    """

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        room = settings.UPLOAD_LIMIT_BYTES + 1 - start
        if room > 0:
            super().receive_data_chunk(raw_data[:room], start)
