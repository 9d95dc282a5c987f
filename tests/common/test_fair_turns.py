import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from common.fair_turns import FairTurns, NoTurn


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_seller_with_fifty_uploads_delays_another_by_no_more_than_the_one_at_work() -> None:
    turns = FairTurns({"ordinary": 1})
    order: list[str] = []
    threads = []

    def upload(owner: str) -> None:
        with turns.turn(owner, "ordinary", patience=20):
            order.append(owner)

    def queue(owner: str) -> None:
        before = turns.waiting
        threads.append(in_thread(lambda: upload(owner)))
        while turns.waiting == before:
            threading.Event().wait(0.001)

    with turns.turn("many", "ordinary", patience=20):
        for _number in range(50):
            queue("many")
        queue("one")
    for thread in threads:
        thread.join(20)
    assert order.index("one") <= 1
    assert order.count("many") == 50


def test_a_seller_has_one_turn_at_a_time_though_places_are_free() -> None:
    turns = FairTurns({"ordinary": 2, "large": 1})
    with turns.turn("seller", "ordinary", patience=1):
        for lane in ("ordinary", "large"):
            with pytest.raises(NoTurn), turns.turn("seller", lane, patience=0.01):
                pass
        with turns.turn("another", "ordinary", patience=1):
            pass


def test_lanes_do_not_wait_for_each_other() -> None:
    turns = FairTurns({"ordinary": 1, "large": 1})
    with ExitStack() as held:
        held.enter_context(turns.turn("one", "large", patience=1))
        held.enter_context(turns.turn("another", "ordinary", patience=1))
        with pytest.raises(NoTurn), turns.turn("third", "large", patience=0.01):
            pass


def test_an_owner_that_gives_up_takes_no_place() -> None:
    turns = FairTurns({"ordinary": 1})
    with ExitStack() as held:
        held.enter_context(turns.turn("one", "ordinary", patience=1))
        with pytest.raises(NoTurn), turns.turn("two", "ordinary", patience=0.01):
            pass
    assert turns.waiting == 0
    with turns.turn("three", "ordinary", patience=1):
        pass


def test_a_turn_ends_with_an_error_too() -> None:
    turns = FairTurns({"ordinary": 1})
    with pytest.raises(ZeroDivisionError), turns.turn("one", "ordinary", patience=1):
        raise ZeroDivisionError
    with turns.turn("two", "ordinary", patience=1):
        pass
