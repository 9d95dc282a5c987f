"""Occupy the photo decoders."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from django.conf import settings

from common.photo_decoding import upload_decoders
from common.photos.decoder_pool import ORDINARY


@contextmanager
def all_decoders_at_work() -> Iterator[None]:
    """Hold the place of every decoder for ordinary photos."""
    with ExitStack() as held:
        for _decoder in range(settings.DECODERS):
            held.enter_context(upload_decoders().turns.turn(object(), ORDINARY, patience=10))
        yield
