"""List the API's error codes, as the documentation page shows them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorCodes:
    """The codes of one status that have one cause."""

    status: int
    codes: tuple[str, ...]
    cause: str


def _row(status: int, codes: str, cause: str) -> ErrorCodes:
    return ErrorCodes(status, tuple(codes.split()), cause)


ERROR_CODES = (
    _row(400, "unknown_field unknown_parameter", "A name that doesn't exist here, such as `photo` for `image`."),
    _row(400, "repeated_field repeated_parameter", "A name that was sent more than once."),
    _row(400, "required null blank empty", "A value is missing, null or empty where it may not be."),
    _row(400, "max_length does_not_exist invalid invalid_choice", "A value is wrong; `detail` says what is right."),
    _row(400, "not_utf8", "A text that isn't UTF-8, or that holds the character � in place of one."),
    _row(
        400,
        "unescaped_plus",
        "A plus sign in a time arrived as a space: write `%2B`, or a time in UTC with `Z`.",
    ),
    _row(400, "nothing_given", "Neither a title that can be read nor an image."),
    _row(400, "wish_with_category", "A wish beside a category: it goes with null only."),
    _row(400, "remove_and_replace", "`remove_image` together with `image` or `photos`."),
    _row(400, "too_many_photos", "More photos than a product can have."),
    _row(400, "unknown_photo repeated_photo", "An id in `photos` that the product doesn't have, or twice the same."),
    _row(400, "invalid_idempotency_key", "An Idempotency-Key that is empty, too long, or not printable ASCII."),
    _row(400, "broken_photo empty_photo animated_photo narrow_photo", "The photo can't be used; `detail` says why."),
    _row(400, "slow_photo", "Decoding the photo takes too long."),
    _row(400, "parse_error", "The body is malformed JSON or a malformed form."),
    _row(400, "too_many_fields too_many_files", "A form with more than 1,000 fields or more than 20 files."),
    _row(401, "not_authenticated", "No token, or one in another scheme than `Bearer`."),
    _row(401, "authentication_failed token_expired", "The token isn't valid or has expired."),
    _row(403, "permission_denied", "A request with a session's cookie but without its CSRF token."),
    _row(404, "not_found", "It doesn't exist or isn't yours, or the cursor of a list is not one of Aisle's."),
    _row(405, "method_not_allowed", "The address exists, but not with this method."),
    _row(406, "not_acceptable", "The header Accept excludes JSON."),
    _row(409, "no_result_yet", "An answer to a prediction that isn't `done`."),
    _row(409, "idempotency_in_progress", "The first request with this key is being processed: try again in a second."),
    _row(413, "photo_too_large", "The photo has too many bytes or pixels."),
    _row(413, "photos_too_large", "The photos of the request have too many bytes together."),
    _row(413, "request_too_large", "The fields have more than 1 MB in addition to the photo."),
    _row(415, "unsupported_photo", "The file is not a JPEG, PNG, WebP or HEIC, whatever its name says."),
    _row(415, "unsupported_media_type", "Another media type than the operation reads; `detail` says which."),
    _row(422, "idempotency_key_reused", "The key was used for another request in the last 24 hours."),
    _row(429, "throttled", "Too many requests: wait as long as `Retry-After` says."),
    _row(503, "queue_full busy", "Too many products or photos are waiting: try again after `Retry-After`."),
    _row(503, "database_down storage_down", "A server is restarting: try again after `Retry-After`."),
)
