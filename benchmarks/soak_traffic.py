"""Upload products over HTTP as sellers' programs do, and record every refusal."""

import http.client
import itertools
import json
import random
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from benchmarks.harness.items import Item
from benchmarks.harness.multipart import multipart_body

WITH_PHOTO, BULK, JUDGED = 0.4, 0.3, 0.2  # shares: of all uploads; of all; of the results that came while one waited
WAIT = 5
PATIENCE = 300.0  # seconds for one upload, refusals included
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
CLIENTS = 1024  # more than ever wait for a storage at once


@dataclass(frozen=True)
class Upload:
    """A product to list; its SKU is the client's key."""

    sku: str
    item: Item
    photo: bool
    bulk: bool
    judged: bool


@dataclass(frozen=True)
class Refusal:
    """A request that got no answer of 2xx; times are those of time.monotonic()."""

    began: float
    ended: float
    what: str  # "503 storage_down", "ConnectionRefusedError"
    photo: bool
    is_plain: bool  # whether the words of a 503 came with it


@dataclass
class Ledger:
    """What the clients know in the end."""

    accepted: dict[str, str] = field(default_factory=dict)  # SKU -> prediction
    photos: set[str] = field(default_factory=set)  # predictions with a photo
    judged: dict[str, str] = field(default_factory=dict)  # prediction -> slug
    given_up: list[str] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)  # seconds from POST to result, of those that waited for it


def generate_uploads(items: Sequence[Item], dice: random.Random) -> Iterator[Upload]:
    """Yield uploads without end: a mix of photos and words alone, interactive and bulk."""
    for item in itertools.cycle(items):
        yield Upload(
            sku=uuid.uuid4().hex,
            item=item,
            photo=dice.random() < WITH_PHOTO,
            bulk=dice.random() < BULK,
            judged=dice.random() < JUDGED,
        )


class Sellers:
    """The clients of one token."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.token = port, token
        self.ledger = Ledger()
        self._lock = threading.Lock()

    def upload_in_parallel(self, work: Iterator[Upload], *, clients: int, seconds: float) -> None:
        """Let `clients` clients upload one product after the other for some seconds."""
        until, lock = time.monotonic() + seconds, threading.Lock()

        def client(_number: int) -> None:
            while time.monotonic() < until:
                with lock:
                    upload = next(work)
                self.list_product(upload)

        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(client, range(clients)))

    def upload_at_rate(self, work: Iterator[Upload], *, per_second: float, seconds: float, dice: random.Random) -> None:
        """Let uploads arrive at a rate that does not wait for earlier ones; return when all have ended."""
        start = due = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:
            while (due := due + dice.expovariate(per_second)) < start + seconds:
                time.sleep(max(due - time.monotonic(), 0))
                pool.submit(self.list_product, next(work))

    def list_product(self, upload: Upload) -> None:
        """Upload until it is taken, as docs/api.md says: after an error look for the SKU before sending it again."""
        began, pause = time.monotonic(), FIRST_PAUSE
        prediction = None
        while prediction is None:
            if time.monotonic() - began > PATIENCE:
                with self._lock:
                    self.ledger.given_up.append(upload.sku)
                return
            answer = self._send(upload)
            if answer is not None:
                prediction = answer
            else:
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                found = self._until_answered("GET", f"/api/v1/products?sku={quote(upload.sku)}", began=began)
                if found and found["results"]:
                    prediction = {"id": found["results"][0]["prediction"], "state": "found"}
        seconds = time.monotonic() - began
        with self._lock:
            self.ledger.accepted[upload.sku] = prediction["id"]
            if upload.photo:
                self.ledger.photos.add(prediction["id"])
            if not upload.bulk and prediction["state"] == "done":
                self.ledger.waits.append(seconds)
        if upload.judged and prediction["state"] == "done":
            self._judge(prediction)

    def _send(self, upload: Upload) -> dict[str, Any] | None:
        fields = {"sku": upload.sku, "title": upload.item.title, "description": upload.item.description}
        body, content_type = multipart_body(
            upload.item.photo if upload.photo else None, **fields, bulk=str(upload.bulk).lower()
        )
        headers = {"Content-Type": content_type}
        if not upload.bulk:
            headers["Prefer"] = f"wait={WAIT}"
        return self._ask("POST", "/api/v1/predictions", body, headers, photo=upload.photo)

    def _judge(self, prediction: dict[str, Any]) -> None:
        slug = prediction["top5"][0]["slug"]
        path = f"/api/v1/predictions/{prediction['id']}/feedback"
        if self._until_answered("POST", path, json.dumps({"category": slug}).encode()):
            with self._lock:
                self.ledger.judged[prediction["id"]] = slug

    def _until_answered(
        self, method: str, path: str, body: bytes | None = None, *, began: float | None = None
    ) -> dict[str, Any] | None:
        began, pause = began or time.monotonic(), FIRST_PAUSE
        headers = {"Content-Type": "application/json"} if body else {}
        while time.monotonic() - began < PATIENCE:
            answer = self._ask(method, path, body, headers)
            if answer is not None:
                return answer
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return None

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], *, photo: bool = False
    ) -> dict[str, Any] | None:
        """Return what a request is answered, or None after noting why it was not."""
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self.token}", **headers})
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._note(began, type(error).__name__, photo, is_plain=False)
            return None
        finally:
            connection.close()
        if response.status in (http.client.OK, http.client.ACCEPTED):
            return dict(json.loads(content))
        code, detail = _problem(content)
        self._note(began, f"{response.status} {code}", photo, is_plain=bool(detail))
        return None

    def _note(self, began: float, what: str, photo: bool, *, is_plain: bool) -> None:
        with self._lock:
            self.ledger.refusals.append(Refusal(began, time.monotonic(), what, photo, is_plain))


def _problem(content: bytes) -> tuple[str, str]:
    """Return the code and the words of an error in the API's shape."""
    try:
        error = json.loads(content)["errors"][0]
        return str(error["code"]), str(error["detail"])
    except (ValueError, KeyError, IndexError, TypeError):
        return "not in the API's shape", ""
