"""Fair turns for work that few may do at a time: owners take turns, and each has one at a time."""

from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock


class NoTurn(Exception):
    """The turn did not come in time."""


@dataclass(eq=False, slots=True)
class _Ticket:
    lane: str
    is_called: Event = field(default_factory=Event)


class FairTurns:
    """Lanes of so many places each. Whoever has fifty tickets waiting delays nobody by more than one of them.

    Owners are called round by round in the order in which they came; their own tickets in the order of asking.
    """

    def __init__(self, places: Mapping[str, int]) -> None:
        self._lock = Lock()
        self._free = dict(places)
        self._waiting: dict[Hashable, deque[_Ticket]] = {}
        self._at_work: set[Hashable] = set()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        with self._lock:
            return sum(map(len, self._waiting.values()))

    @property
    def at_work(self) -> int:
        """How many have their turn."""
        with self._lock:
            return len(self._at_work)

    @contextmanager
    def turn(self, owner: Hashable, lane: str, *, patience: float) -> Iterator[None]:
        """Wait for a place in the lane, and hold it. Raises NoTurn after `patience` seconds."""
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
        """Take a ticket back; return False when it was called at the last moment."""
        with self._lock:
            if ticket.is_called.is_set():
                return False
            tickets = self._waiting[owner]
            tickets.remove(ticket)
            if not tickets:
                del self._waiting[owner]
            self._call()  # its owner's next one may want another lane
            return True

    def _call(self) -> None:
        """Call every ticket that has a place now."""
        for owner in list(self._waiting):
            tickets = self._waiting[owner]
            lane = tickets[0].lane
            if owner in self._at_work or not self._free[lane]:
                continue
            ticket = tickets.popleft()
            del self._waiting[owner]
            if tickets:
                self._waiting[owner] = tickets  # behind everybody else
            self._free[lane] -= 1
            self._at_work.add(owner)
            ticket.is_called.set()
