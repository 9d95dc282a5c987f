import os
import signal
import threading
import time

import pytest
from django.db import connection
from rest_framework.test import APIClient

from common.object_storage import breaker
from common.photo_decoding import upload_decoders
from common.photos.decoder_pool import ORDINARY
from portal.models import ProductPhoto, User
from portal.products import photos
from portal.products.services import create_photo_draft
from tests.support.accounts import make_user
from tests.support.database import held_connections
from tests.support.decoders import all_decoders_at_work
from tests.support.photos import photo_upload, product_photo


def test_an_upload_that_waits_for_its_turn_to_be_decoded_holds_no_database_connection(committed_db: None) -> None:
    """Else slow photographs, or a slow storage, would keep the whole site from its database."""
    seller = make_user("seller@shop.example")
    connection.close()
    before = held_connections()
    has_asked = threading.Event()

    def keep() -> None:
        User.objects.get(pk=seller.pk)  # as the request's token is looked up
        has_asked.set()
        create_photo_draft(seller=seller, upload=photo_upload())
        connection.close()

    with all_decoders_at_work():
        thread = threading.Thread(target=keep)
        thread.start()
        assert has_asked.wait(20)
        deadline = time.monotonic() + 20
        while held_connections() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert held_connections() == before
        assert thread.is_alive()
    thread.join()
    assert ProductPhoto.objects.filter(seller=seller).count() == 1


def test_while_the_storage_is_known_to_be_down_nothing_is_decoded(db: None) -> None:
    """Sellers' programs try again and again: decoding each time would leave no processor for those without a photo."""
    for _fault in range(breaker.faults):
        breaker.count_fault()
    with pytest.raises(photos.PhotoError) as refused:
        photos.clean_photo(photo_upload(b"no picture at all"))
    assert (refused.value.code, refused.value.status) == ("storage_down", 503)
    breaker.close()
    with pytest.raises(photos.PhotoError) as refused:
        photos.clean_photo(photo_upload(b"no picture at all"))
    assert refused.value.code == "unsupported_photo"


def test_the_api_says_when_to_send_the_photo_again(api: APIClient) -> None:
    for _fault in range(breaker.faults):
        breaker.count_fault()
    response = api.post("/api/v1/predictions", {"title": "Guitar", "image": photo_upload()}, format="multipart")
    assert response.status_code == 503, response.content
    assert response["Retry-After"] == "60"


def test_a_seller_whose_photo_is_being_decoded_delays_only_own_photos(
    seller: User, other_seller: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.photo_decoding.LONGEST_TURN", 0.01)
    with upload_decoders().turns.turn(seller.pk, ORDINARY, patience=1):
        with pytest.raises(photos.PhotoError) as refused:
            create_photo_draft(seller=seller, upload=photo_upload())
        assert (refused.value.code, refused.value.status) == ("busy", 503)
        assert create_photo_draft(seller=other_seller, upload=photo_upload())


def test_a_decoder_that_is_killed_is_replaced_and_no_upload_fails(seller: User) -> None:
    create_photo_draft(seller=seller, upload=photo_upload())
    for process in upload_decoders().processes:
        os.kill(process, signal.SIGKILL)
    for _number in range(4):
        assert create_photo_draft(seller=seller, upload=photo_upload(product_photo()))
