"""Which connections are closed when there are too many, and which never."""

from __future__ import annotations

from dataclasses import dataclass, field

from cesar.api.http.server.connections import MAX_UNSENT_BYTES, ConnectionLimits, Connections
from tests.api.support import Clocks

FAR, NEAR = "192.0.2.1", "127.0.0.1"


@dataclass(eq=False)
class Line:
    """A connection that notes how it fares."""

    table: Connections
    address: str = FAR
    unsent_bytes: int = 0
    is_dropped: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.table.opened(self)

    def drop(self) -> None:
        self.is_dropped = True


def table(clocks: Clocks, total: int = 10, per_address: int = 10) -> Connections:
    return Connections(ConnectionLimits(total, per_address), clocks.monotonic)


def test_the_longest_idle_connection_is_closed_first_but_no_recent_one() -> None:
    clocks = Clocks()
    connections = table(clocks)
    lines = [Line(connections, f"192.0.2.{n}") for n in range(15)]
    assert not any(line.is_dropped for line in lines)
    clocks.advance(2.0)
    late = Line(connections, "192.0.2.99")
    assert [line.is_dropped for line in lines] == [True] + [False] * 14
    assert not late.is_dropped


def test_there_are_never_more_than_twice_the_limit() -> None:
    connections = table(Clocks())
    lines = [Line(connections, f"192.0.2.{n}") for n in range(100)]
    assert len(connections) == 20
    assert [line.is_dropped for line in lines] == [True] * 80 + [False] * 20


def test_connections_that_have_sent_a_request_outlast_those_that_have_not() -> None:
    clocks = Clocks()
    connections = table(clocks)
    proven = [Line(connections, f"192.0.2.{n}") for n in range(5)]
    for line in proven:
        connections.request_started(line)
        connections.request_finished(line)
    for n in range(30):
        clocks.advance(1.0)
        Line(connections, f"198.51.100.{n}")
    assert not any(line.is_dropped for line in proven)


def test_a_connection_with_a_running_request_is_never_evicted() -> None:
    clocks = Clocks()
    connections = table(clocks)
    busy = [Line(connections, f"192.0.2.{n}") for n in range(10)]
    for line in busy:
        connections.request_started(line)
    for n in range(30):
        clocks.advance(1.0)
        Line(connections, f"198.51.100.{n}")
    assert not any(line.is_dropped for line in busy)


def test_each_address_has_a_limit_and_loopback_only_the_total() -> None:
    clocks = Clocks()
    connections = table(clocks, total=100, per_address=3)
    far, other = [Line(connections) for _ in range(3)], Line(connections, "192.0.2.2")
    near = [Line(connections, NEAR) for _ in range(20)]
    clocks.advance(2.0)
    Line(connections)
    assert [line.is_dropped for line in far] == [True, False, False]
    assert not other.is_dropped
    assert not any(line.is_dropped for line in near)


def test_requests_beyond_the_limits_are_overload() -> None:
    connections = table(Clocks(), total=8, per_address=2)
    near = [Line(connections, NEAR) for _ in range(6)]
    far = [Line(connections) for _ in range(3)]
    for line in [*near, *far[:2]]:
        connections.request_started(line)
        assert not connections.is_overloaded(line)
    connections.request_started(far[2])
    assert connections.is_overloaded(far[2])
    connections.request_finished(far[2])
    connections.closed(far[2])
    assert not connections.is_overloaded(near[0])


def test_the_longest_blocked_responses_are_dropped_first() -> None:
    connections = table(Clocks())
    lines = [Line(connections, unsent_bytes=MAX_UNSENT_BYTES // 3) for _ in range(4)]
    for line in lines:
        connections.request_started(line)
        connections.write_blocked(line)
    assert [line.is_dropped for line in lines] == [True, False, False, False]


def test_a_single_large_response_may_exceed_the_total_limit() -> None:
    connections = table(Clocks())
    line = Line(connections, unsent_bytes=2 * MAX_UNSENT_BYTES)
    connections.write_blocked(line)
    assert not line.is_dropped


def test_closed_connections_leave_no_state() -> None:
    connections = table(Clocks())
    for n in range(50):
        line = Line(connections, f"192.0.2.{n}")
        connections.request_started(line)
        connections.write_blocked(line)
        if n % 2:
            connections.request_finished(line)
        connections.closed(line)
    assert len(connections) == 0
    assert not connections._idle_by_address
    assert not connections._busy_by_address
