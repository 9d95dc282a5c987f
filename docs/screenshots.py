"""Take the README's pictures on the demo installation: `make screenshots`, or `python -m docs.screenshots`.

With --all it also takes each page on a phone, in dark colours, and more of the staff's pages, to be looked at.
"""

import argparse
import io
import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = Path(__file__).with_name("images")
BIN = Path(sys.executable).parent
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--font-render-hinting=none", "--force-color-profile=srgb", "--lang=en-GB")
DESKTOP, PHONE = (1180, 900), (390, 844)
SCALE = 1.25
LARGEST = 250_000  # bytes
COLOURS = (256, 192, 128, 96, 64)
START_SECONDS = 120
CLOSE_FILTERS = "document.querySelector('details[open]').open = false"
SCROLL_TO_FIGURES = "scrollTo(0, document.querySelector('.aisle-figures-key').getBoundingClientRect().top - 40)"
USUAL_CONFIDENCE = 0.75
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


@dataclass(frozen=True)
class Shot:
    """A page to take, and the demo account that sees it."""

    name: str
    path: str
    role: str
    first_look: str = ""  # a script that brings the page to what the README's picture shows


def main() -> None:
    """Fill the demo where it isn't yet, start its web process and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=IMAGES, help="where to put the pictures")
    parser.add_argument("--all", action="store_true", help="also phones, dark colours and more pages, full height")
    options = parser.parse_args()
    os.environ.setdefault("AISLE_HOME", str(ROOT / "var" / "demo"))
    subprocess.run([sys.executable, "manage.py", "fill_demo"], cwd=ROOT, check=True)
    options.to.mkdir(parents=True, exist_ok=True)
    with _demo_portal() as address:
        # Asked before the browser starts: beside its event loop Django refuses to use the database.
        shots, more = _readme_shots(), _more_shots()
        accounts = {role: _account(role) for role in {shot.role for shot in [*shots, *more]}}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=_chromium(), args=list(FLAGS))
            cookies = {role: _log_in(browser, address, account) for role, account in accounts.items()}
            for shot in shots:
                _take_for_readme(browser, address, shot, cookies[shot.role], options.to)
            if options.all:
                for shot in [*shots, *more]:
                    _take_whole(browser, address, shot, cookies[shot.role], options.to)
            browser.close()


@contextmanager
def _demo_portal() -> Iterator[str]:
    """Run the demo's web process at a free port; its workers are not needed, for nothing is asked of the models."""
    import django

    from portal.operations import embedded_services

    embedded_services.ensure_running()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    django.setup()
    subprocess.run([sys.executable, "manage.py", "collectstatic", "--no-input", "-v0"], cwd=ROOT, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(BIN / "gunicorn"), "portal.wsgi", "--bind", f"127.0.0.1:{port}"]
    web = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _await(address)
        yield address
    finally:
        web.terminate()
        web.wait()


def _await(address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{address}/health/ready/", timeout=5):  # noqa: S310 - our own process
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _chromium() -> str:
    for name in CHROMIUM:
        if path := shutil.which(name):
            return path
    raise SystemExit("No Chromium here. Install it: on Debian, apt-get install chromium.")


def _readme_shots() -> list[Shot]:
    from django.urls import reverse

    from portal.accounts.roles import Role

    return [
        Shot("result", _product_with_suggestions().get_absolute_url(), Role.SELLER),
        Shot("review", f"{reverse('review')}?{_review_filters()}", Role.DATA_SCIENTIST, CLOSE_FILTERS),
        Shot("health", reverse("model_health"), Role.DATA_SCIENTIST, SCROLL_TO_FIGURES),
    ]


def _product_with_suggestions() -> Any:
    """Return a product of the demo's seller that waits for an answer, with a photo and a usual confidence."""
    from portal.accounts.roles import Role
    from portal.models import Product

    waiting = Product.objects.in_state(Product.State.NEEDS_ANSWER).filter(seller__email=_account(Role.SELLER).email)
    usual = waiting.exclude(photo_large="").exclude(description="").filter(prediction__unusual="")
    return min(usual.select_related("prediction"), key=lambda each: abs(_confidence(each) - USUAL_CONFIDENCE))


def _review_filters() -> str:
    """Return filters that bring a suspected label error with a photo to the top of the review queue."""
    from feedback.models import Feedback, Reason

    suspected = Feedback.objects.unreviewed().filter(reason=Reason.LABEL_ERROR).exclude(prediction__photo_large="")
    answer = suspected.select_related("seller").in_queue_order()[0]
    return urlencode({"reason": answer.reason, "category": answer.category_id or "", "seller": answer.seller.email})


def _confidence(product: Any) -> float:
    return float(product.prediction.best["probability"])


def _more_shots() -> list[Shot]:
    """Return more pages that the demo has content for, to be looked at."""
    from django.urls import reverse

    from feedback.models import Case
    from portal.accounts.roles import Role

    scientist = [
        ("start", reverse("admin:index")),
        ("experiment", reverse("experiments")),
        ("proposals", reverse("review_proposals")),
        ("cases", reverse("admin:feedback_case_changelist")),
        ("runs", reverse("admin:training_trainingrun_changelist")),
        ("versions", reverse("admin:classifier_modelversion_changelist")),
        ("datasets", reverse("admin:training_dataset_changelist")),
        ("predictions", reverse("admin:classifier_prediction_changelist")),
        ("reports", reverse("admin:feedback_monitoringreport_changelist")),
    ]
    for case in Case.objects.all()[:1]:
        scientist.append(("case", reverse("admin:feedback_case_change", args=[case.pk])))
    seller = [("products", reverse("products")), ("new", reverse("product_new"))]
    tasks = reverse("admin:django_celery_beat_periodictask_changelist")
    return [
        Shot("tasks", tasks, Role.ADMINISTRATOR),
        *(Shot(name, path, Role.DATA_SCIENTIST) for name, path in scientist),
        *(Shot(name, path, Role.SELLER) for name, path in seller),
    ]


def _account(role: str) -> Any:
    from portal.operations.demo_accounts import demo_accounts

    return next(account for account in demo_accounts() if account.role == role)


def _log_in(browser: Browser, address: str, account: Any) -> Any:
    """Return the cookies of a demo account: each one logs in once, for log-ins are throttled."""
    context = browser.new_context(base_url=address)
    page = context.new_page()
    page.goto("/accounts/login/")
    page.get_by_label("E-mail").fill(account.email)
    page.get_by_label("Password").fill(account.password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(lambda url: "login" not in url)
    cookies = context.storage_state()
    context.close()
    return cookies


def _take_for_readme(browser: Browser, address: str, shot: Shot, cookies: Any, folder: Path) -> None:
    """Take one screen of a page on a desktop."""
    page = _open(browser, address, shot, cookies, size=DESKTOP, scale=SCALE, scheme="light")
    if shot.first_look:
        page.evaluate(shot.first_look)
    _save(page.screenshot(), folder / f"{shot.name}.png")
    page.context.close()


def _take_whole(browser: Browser, address: str, shot: Shot, cookies: Any, folder: Path) -> None:
    """Take a whole page on a desktop and on a phone, in light and in dark colours."""
    for size, scheme in itertools.product((DESKTOP, PHONE), SCHEMES):
        page = _open(browser, address, shot, cookies, size=size, scale=1, scheme=scheme)
        page.screenshot(path=folder / f"{shot.name}-{size[0]}-{scheme}.png", full_page=True)
        page.context.close()


def _open(
    browser: Browser, address: str, shot: Shot, cookies: Any, *, size: tuple[int, int], scale: float, scheme: Scheme
) -> Page:
    context = browser.new_context(
        base_url=address,
        storage_state=cookies,
        viewport={"width": size[0], "height": size[1]},
        device_scale_factor=scale,
        color_scheme=scheme,
        locale="en-GB",
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    page = context.new_page()
    faults: list[str] = []
    page.on("requestfailed", lambda request: faults.append(f"{request.url}: {request.failure}"))
    page.on(
        "response", lambda response: faults.append(f"{response.url}: {response.status}") if not response.ok else None
    )
    page.goto(shot.path)
    page.wait_for_load_state("networkidle")  # photos come late
    if faults:  # a picture of a page without its styles is worse than none
        raise SystemExit("\n".join(faults))
    return page


def _save(picture: bytes, path: Path) -> None:
    """Write a PNG with as many colours as fit into the largest size that a repository should hold."""
    with Image.open(io.BytesIO(picture)) as opened:
        image = opened.convert("RGB")
    for colours in COLOURS:
        buffer = io.BytesIO()
        image.quantize(colours, kmeans=2, dither=Image.Dither.FLOYDSTEINBERG).save(buffer, "PNG", optimize=True)
        if buffer.tell() <= LARGEST:
            break
    path.write_bytes(buffer.getvalue())
    print(f"{path}: {buffer.tell() / 1000:.0f} kB, {colours} colours")


if __name__ == "__main__":
    main()
