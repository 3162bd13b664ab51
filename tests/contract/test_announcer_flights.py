"""What an announcement sends to Redis at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.cache.announcer import _flights
from sigmgr.cache.sigs import CHUNK
from tests.contract.cache_kit import NOW, cache_over, current, holder, opened, renewed

sizes = st.lists(st.one_of(st.integers(1, 40), st.integers(1, 2 * CHUNK)), max_size=40)


def positions_of(shards: list[int]) -> dict[int, list[int]]:
    """So many events of each shard."""
    found, first = {}, 0
    for shard, count in enumerate(shards):
        found[shard] = list(range(first, first + count))
        first += count
    return found


def size_of(flight: list[tuple[int, list[int]]]) -> int:
    return sum(len(where) for _, where in flight)


@given(sizes)
def test_everything_goes_once_and_in_order_and_no_flight_is_larger_than_a_chunk(
    shards: list[int],
) -> None:
    positions = positions_of(shards)
    flights = list(_flights(positions))
    assert [i for flight in flights for _, where in flight for i in where] == [
        i for where in positions.values() for i in where
    ]
    assert all(
        i in positions[shard] for flight in flights for shard, where in flight for i in where
    )
    assert all(0 < size_of(flight) <= CHUNK for flight in flights)


@given(sizes)
def test_a_shard_of_at_most_a_chunk_has_one_call_and_so_one_message(shards: list[int]) -> None:
    flights = list(_flights(positions_of(shards)))
    calls = [shard for flight in flights for shard, _ in flight]
    assert all(calls.count(shard) == -(-count // CHUNK) for shard, count in enumerate(shards))


@pytest.mark.parametrize("count", [1, CHUNK])
def test_what_fits_into_a_chunk_travels_at_once(count: int) -> None:
    [flight] = _flights(positions_of([1] * count))
    assert size_of(flight) == count


def test_a_wide_batch_begins_small_and_grows_to_whole_chunks() -> None:
    sent = [size_of(flight) for flight in _flights(positions_of([1] * (5 * CHUNK)))]
    assert sent[0] < CHUNK / 4
    full = sent[: sent.index(CHUNK) + 1]
    assert full[1:] == [2 * before for before in full[:-1]]
    assert set(sent[len(full) : -1]) <= {CHUNK}
    assert sum(sent) == 5 * CHUNK


async def test_answers_stand_where_their_announcements_stood() -> None:
    """In several flights, and with shards mixed."""
    async with opened("memory://") as redis:
        cache = cache_over(redis)
        batch = [renewed(holder(f"user{n}")) for n in range(CHUNK + 1)]
        known = [n for n in range(len(batch)) if n % 3 == 0]
        await cache.put([current(batch[n].event.holder) for n in known], NOW)
        answers = await cache.announce(batch, NOW)
    assert [n for n, there in enumerate(answers) if there] == known
