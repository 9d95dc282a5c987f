"""Fill an installation with two weeks of a made-up market, stage by stage.

Products, answers and times are made up. Everything that the portal computes from them is computed by the portal:
predictions, training, summaries, drift, label errors, fraud cases and category proposals.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from feedback.fraud_cases import shared_content
from feedback.fraud_cases.detection import find_fraud
from feedback.models import Case, CaseEvent, CategoryProposal, DriftReference, MonitoringReport
from feedback.monitoring import alerts, hourly_summaries, starter_baselines
from feedback.review.category_proposals import update_proposals
from feedback.review.queue import prioritise_new_answers
from portal.demo import training
from portal.demo.answers import Answers
from portal.demo.catalogue import Catalogue
from portal.demo.listings import (
    DAYS,
    Listing,
    Progress,
    classify_waiting,
    midnight,
    plan_listings,
    set_times_back,
    submit_listings,
)
from portal.demo.shops import Shop, Staff, make_shops, make_staff
from portal.products.services import submit_product

SEED = 20
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MORNING = timedelta(hours=9, minutes=12)
CANDIDATE_DAYS = 5  # before today, from the morning on: two text versions share the traffic
BASELINE_DAYS = 7
WATCHED_DAYS = 4  # in which summaries are compared with the baseline
REVIEWED_SHARE, LATER_REVIEWED_SHARE = 0.45, 0.3
BACKLOG = 2 * DAY  # in which only the random share was reviewed
EXAMPLES_PER_PRODUCT = 0.5
LEAST_EXAMPLES = 360
OPEN_PRODUCTS = 6  # of the demo's seller, the newest, that wait for an answer
WAITING = ("Alvery acoustic guitar with gig bag", "Ripe avocados, box of 12", "Garden hose, 25 m with reel")

Stage = Callable[[str, int], AbstractContextManager[Progress]]


class Filling:
    """One filling of an empty installation; the same seed, size and day give the same content."""

    def __init__(self, *, products: int, now: datetime, stage: Stage) -> None:
        self.products, self.now, self.stage = products, now, stage
        self.today = midnight(now)
        self.first = self.today - DAYS * DAY
        self.chance = random.Random(SEED)  # noqa: S311 - made-up products need no secrets
        self.catalogue = Catalogue()
        self.answers = Answers()

    def fill(self) -> None:
        """Run all stages in the order of the two weeks."""
        training.set_installation_back(at=self.first - 9 * DAY + MORNING)
        shops, staff = make_shops(self.now), make_staff()
        listings = plan_listings(self.chance, self.catalogue, shops, products=self.products, now=self.now)
        test_start = self.today - CANDIDATE_DAYS * DAY + MORNING
        before = [listing for listing in listings if listing.at < test_start]
        after = [listing for listing in listings if listing.at >= test_start]

        self._import_catalogue()
        self._trade(before, shops)
        self._review(staff, until=midnight(test_start), share=REVIEWED_SHARE)
        self._train(staff, at=test_start - 0.75 * HOUR, test_start=test_start)
        self._trade(after, shops)
        self._review(staff, until=self.now - DAY, share=LATER_REVIEWED_SHARE, backlog=BACKLOG)
        self._monitor()
        self._find_cases()
        for title in WAITING:
            submit_product(seller=shops[0].user, title=title)

    def _import_catalogue(self) -> None:
        count = max(LEAST_EXAMPLES, round(EXAMPLES_PER_PRODUCT * self.products))
        with self.stage("Importing labelled products for training", count):
            products = self.catalogue.labelled(self.chance, count)
            training.import_catalogue(products, at=self.first + MORNING)

    def _trade(self, listings: Sequence[Listing], shops: Sequence[Shop]) -> None:
        """Submit the listings, let the models answer them, and let the sellers answer the models."""
        with self.stage("Listing products", len(listings)) as progress:
            submit_listings(self.chance, listings, progress=progress)
        with self.stage("Asking the models", len(listings)) as progress:
            classify_waiting(progress=progress)
        set_times_back(self.chance, listings)
        with self.stage("Answering as the sellers", len(listings)):
            self.answers.answer_listings(self.chance, self._to_answer(listings, shops[0]), now=self.now)

    def _to_answer(self, listings: Sequence[Listing], demo_shop: Shop) -> list[Listing]:
        own = [listing for listing in listings if listing.shop is demo_shop]
        left_open = {listing.product_id for listing in own[-OPEN_PRODUCTS:]}
        return [listing for listing in listings if listing.product_id not in left_open]

    def _review(self, staff: Staff, *, until: datetime, share: float, backlog: timedelta = timedelta()) -> None:
        with self.stage("Reviewing answers", 0) as progress:
            while prioritise_new_answers():
                pass
            self.answers.review_answers(
                self.chance, staff, until=until, backlog=backlog, share=share, progress=progress
            )

    def _train(self, staff: Staff, *, at: datetime, test_start: datetime) -> None:
        with self.stage("Training a second text model (a minute or so)", 0):
            training.make_dataset(at=at)
            candidate = training.train_candidate(self.chance, at=at)
            if candidate:
                training.start_experiment(candidate, by=staff.scientist, at=test_start)

    def _monitor(self) -> None:
        with self.stage("Summarising two weeks, hour by hour", 0):
            hourly_summaries.update_summaries(now=self.now, since=self.first)
        with self.stage("Comparing the last days with the first week", 0):
            starter_baselines.create_missing_baselines(now=self.now)
            DriftReference.objects.update(
                created_at=self.first + BASELINE_DAYS * DAY, since=self.first + BASELINE_DAYS * DAY
            )
            # Only what is summarised after the baseline is there can be compared with it.
            hourly_summaries.update_summaries(now=self.now, since=self.today - WATCHED_DAYS * DAY)
            ends = [self.today - days * DAY for days in reversed(range(WATCHED_DAYS))]
            for end in [*ends, self.now]:
                for report in alerts.write_reports(now=end):
                    self._set_report_back(report)

    def _set_report_back(self, report: MonitoringReport) -> None:
        span = DAY if report.period == "day" else HOUR
        if report.start:
            at = min(report.start + span + timedelta(minutes=5), self.now)
            MonitoringReport.objects.filter(pk=report.pk).update(created_at=at)

    def _find_cases(self) -> None:
        with self.stage("Looking for mislabelling sellers and missing categories", 0):
            found = find_fraud()
            shared_content.hash_photos()
            update_proposals()
        yesterday = self.now - DAY
        Case.objects.filter(pk__in=[case.pk for case in found.opened]).update(opened_at=yesterday)
        CaseEvent.objects.filter(case__in=found.opened).update(at=yesterday)
        CategoryProposal.objects.update(created_at=yesterday)
