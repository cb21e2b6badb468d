"""`cambfs.ahead.lookahead`: which runs are requested ahead of a program that goes through a listing."""

from __future__ import annotations

from cambfs.ahead.lookahead import Lookahead
from cambfs.names import RunId

COUNT = 400


class _Listing:
    """A listing of 1 … `COUNT` whose runs become known a while after they were requested."""

    def __init__(self, *known: int) -> None:
        self.known = {RunId(run) for run in known}
        self.requested: list[RunId] = []
        self.lookahead = Lookahead(64, 30)
        self.lookahead.begin([RunId(run) for run in range(1, COUNT + 1)])

    def look_up(self, run: int) -> int:
        """Returns how many runs are requested."""
        run_id = RunId(run)
        if run_id in self.known and not self.lookahead.is_due(run_id):
            return 0
        wanted = self.lookahead.window(run_id, self.known.__contains__) or []
        self.requested += wanted
        return len(wanted)

    def respond(self) -> None:
        self.known.update(self.requested)


def test_a_look_at_a_single_run_requests_no_other() -> None:
    assert _Listing().look_up(200) == 0


def test_the_first_run_requests_fewer_than_the_next() -> None:
    listing = _Listing()

    assert listing.look_up(1) == 5
    assert listing.look_up(2) == 60
    assert listing.requested == list(range(1, 66))


def test_there_are_always_requests_under_way() -> None:
    listing = _Listing()
    for run in range(1, COUNT + 1):
        listing.look_up(run)
        under_way = [one for one in listing.requested if one > run]
        assert len(under_way) >= min(4 if run == 1 else 33, COUNT - run)
        listing.respond()

    assert listing.requested == list(range(1, COUNT + 1)), "each once"


def test_it_moves_on_by_full_requests() -> None:
    listing = _Listing()
    counts = [count for run in range(1, COUNT + 1) if (count := listing.look_up(run))]

    assert min(counts[1:-1]) >= 25, "all but the first and the rest"
    assert sum(counts) == COUNT


def test_a_small_step_keeps_the_window_full() -> None:
    listing = _Listing()
    listing.lookahead = Lookahead(64, 10)
    listing.lookahead.begin([RunId(run) for run in range(1, COUNT + 1)])
    for run in range(1, COUNT + 1):
        listing.look_up(run)
        under_way = [one for one in listing.requested if one > run]
        assert len(under_way) >= min(4 if run == 1 else 53, COUNT - run)
        listing.respond()

    assert listing.requested == list(range(1, COUNT + 1)), "each once"


def test_known_runs_are_left_out() -> None:
    listing = _Listing(1, 2, 3, *range(50, 60))
    for run in range(1, COUNT + 1):
        listing.look_up(run)

    assert listing.requested == [run for run in range(4, COUNT + 1) if not 50 <= run < 60]


def test_a_program_that_jumps_within_the_window_and_out_of_it() -> None:
    listing = _Listing()
    listing.look_up(1)
    listing.look_up(2)

    assert listing.look_up(60) > 0
    assert listing.look_up(COUNT) == 0


def test_a_listing_begins_anew() -> None:
    listing = _Listing()
    listing.look_up(1)
    listing.lookahead.begin([RunId(7), RunId(8)])

    assert listing.look_up(7) == 2
    assert listing.look_up(2) == 0


def test_a_program_that_opens_what_it_looks_up_requests_no_others() -> None:
    listing = _Listing()
    assert listing.look_up(1) == 5
    listing.respond()
    listing.lookahead.opened(RunId(1))

    assert listing.look_up(2) == 0
    assert listing.look_up(6) == 0
    listing.lookahead.opened(RunId(6))
    listing.known.add(RunId(6))
    assert listing.look_up(7) == 0
    listing.known.add(RunId(7))
    assert listing.look_up(8) > 0, "7 was not opened"


def test_opens_of_another_program_do_not_hold_up_a_listing() -> None:
    listing = _Listing()
    listing.look_up(1)
    listing.lookahead.opened(RunId(300))

    assert listing.look_up(2) == 60


def test_runs_that_are_known_do_not_stop_it() -> None:
    listing = _Listing(*range(66, 100))
    for run in range(1, COUNT + 1):
        assert run < 3 or run in listing.known, "it was not requested ahead"
        listing.look_up(run)
        listing.respond()
