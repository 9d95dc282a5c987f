"""Schedule work that only a few may do at a time: owners take turns, each with one job at a time."""

from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock


class NoTurn(Exception):
    """No place became free in time."""


@dataclass(eq=False, slots=True)
class _Ticket:
    lane: str
    is_called: Event = field(default_factory=Event)


class FairTurns:
    """Lanes with a number of places each. An owner with fifty waiting jobs delays others by at most one of them.

    Owners are served round robin in the order in which they came, and their own jobs first come, first served.
    """

    def __init__(self, places: Mapping[str, int]) -> None:
        self._lock = Lock()
        self._free = dict(places)
        self._waiting: dict[Hashable, deque[_Ticket]] = {}
        self._at_work: set[Hashable] = set()

    @property
    def waiting(self) -> int:
        """The number of jobs that wait for a place."""
        with self._lock:
            return sum(map(len, self._waiting.values()))

    @property
    def at_work(self) -> int:
        """The number of owners that hold a place."""
        with self._lock:
            return len(self._at_work)

    @contextmanager
    def turn(self, owner: Hashable, lane: str, *, patience: float) -> Iterator[None]:
        """Wait for a place in the lane and hold it for the block. Raises NoTurn after `patience` seconds."""
        ticket = _Ticket(lane)
        with self._lock:
            self._waiting.setdefault(owner, deque()).append(ticket)
            self._call()
        if not ticket.is_called.wait(patience) and self._withdraw(owner, ticket):
            raise NoTurn
        try:
            yield
        finally:
            with self._lock:
                self._at_work.discard(owner)
                self._free[lane] += 1
                self._call()

    def _withdraw(self, owner: Hashable, ticket: _Ticket) -> bool:
        """Remove a waiting ticket; return False when it got its place in the last moment."""
        with self._lock:
            if ticket.is_called.is_set():
                return False
            tickets = self._waiting[owner]
            tickets.remove(ticket)
            if not tickets:
                del self._waiting[owner]
            self._call()  # the owner's next ticket may be for another lane
            return True

    def _call(self) -> None:
        """Give a place to every ticket that can have one now."""
        for owner in list(self._waiting):
            tickets = self._waiting[owner]
            lane = tickets[0].lane
            if owner in self._at_work or not self._free[lane]:
                continue
            ticket = tickets.popleft()
            del self._waiting[owner]
            if tickets:
                self._waiting[owner] = tickets  # behind all other owners
            self._free[lane] -= 1
            self._at_work.add(owner)
            ticket.is_called.set()
