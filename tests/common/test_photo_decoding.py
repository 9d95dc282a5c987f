import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile

from common.photo_decoding import decode_trusted, open_descriptor, upload_decoders
from portal.products.photos import clean_photo
from tests.support.photos import photo_upload, product_photo


def test_an_upload_is_read_from_its_own_temporary_file_or_from_a_copy() -> None:
    in_memory = SimpleUploadedFile("a.jpg", b"content")
    on_disk = TemporaryUploadedFile("a.jpg", "image/jpeg", 7, None)
    on_disk.write(b"content")  # still in a buffer
    for file in (b"content", in_memory, on_disk):
        with open_descriptor(file) as descriptor:
            assert os.pread(descriptor, 100, 0) == b"content"


def test_all_threads_of_a_process_share_its_decoders() -> None:
    with ThreadPoolExecutor(8) as threads:
        pools = list(threads.map(lambda _number: upload_decoders(), range(8)))
    assert len(set(map(id, pools))) == 1


def test_a_forked_process_has_decoders_of_its_own_and_leaves_its_parents_alone() -> None:
    assert clean_photo(photo_upload())
    before = upload_decoders().processes
    child = os.fork()
    if not child:
        is_well = upload_decoders().processes == [] and bool(clean_photo(photo_upload()))
        upload_decoders().close()
        os._exit(0 if is_well else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert clean_photo(photo_upload())
    assert set(before) <= set(upload_decoders().processes)


def test_many_photos_of_an_import_are_decoded_side_by_side() -> None:
    with ThreadPoolExecutor(4) as threads:
        copies = list(threads.map(decode_trusted, [product_photo(size=(300 + number, 200)) for number in range(12)]))
    assert len({copy.small for copy in copies}) == 12


def test_the_decoder_imports_nothing_but_pillow() -> None:
    """It is started for every large picture, and what it doesn't have can't be taken from it."""
    assert clean_photo(photo_upload())
    maps = Path(f"/proc/{upload_decoders().processes[0]}/maps").read_text()
    assert "PIL" in maps
    assert not any(name in maps for name in ("numpy", "psycopg", "torch", "pydantic"))
