"""Lines that never came."""

import random

from rackserve.traffic_log.losses import PROCESSES_AT_MOST, Losses


def lost(losses: Losses, *batches: list[tuple[int, int]]) -> int:
    now = 0.0
    for numbers in batches:
        losses.batch(numbers, now)
        losses.settle(now)
        now += 1.0
    losses.settle(now + 10)
    return losses.total


def of(process: int, *numbers: int) -> list[tuple[int, int]]:
    return [(process, number) for number in numbers]


def test_a_gap_is_lost_and_said_once() -> None:
    losses = Losses({})
    losses.batch(of(1, 0, 1, 2, 6), 0.0)
    assert losses.settle(1.0) == [], "it may still come"
    assert [(one.process, one.lines) for one in losses.settle(3.0)] == [(1, 3)]
    assert losses.settle(30.0) == []
    assert losses.total == 3


def test_lines_out_of_order_are_not_lost() -> None:
    numbers = list(range(3000))
    rng = random.Random(1)
    for at in range(0, 3000, 8):
        part = numbers[at : at + 8]
        rng.shuffle(part)
        numbers[at : at + 8] = part
    assert lost(Losses({}), *(of(1, *numbers[at : at + 50]) for at in range(0, 3000, 50))) == 0


def test_a_number_twice_stands_for_the_one_left_out() -> None:
    assert lost(Losses({}), of(1, 0, 1, 1, 3), of(1, 4, 5)) == 0


def test_two_processes_are_counted_apart() -> None:
    assert lost(Losses({}), [(1, 10), (2, 0), (1, 11), (2, 1)], [(2, 4), (1, 12)]) == 9 + 2


def test_what_a_restart_missed_is_lost() -> None:
    assert lost(Losses({7: 99}), of(7, 105, 106)) == 5
    assert lost(Losses({7: 99}), of(8, 3)) == 2, "a process that began meanwhile"


def test_without_files_nobody_knows() -> None:
    assert lost(Losses(None), of(7, 105, 106), of(7, 108)) == 1


def test_a_process_id_used_again_starts_anew() -> None:
    assert lost(Losses({}), of(1, *range(5000)), of(1, 0, 1, 2)) == 0


def test_a_number_that_is_not_haproxys_loses_nothing() -> None:
    assert lost(Losses({}), of(1, 0, 1), of(1, 10**15), of(1, 2, 3)) == 0


def test_many_processes_do_not_grow_it() -> None:
    losses = Losses({})
    losses.batch([(process, 0) for process in range(10_000)], 0.0)
    assert len(losses._processes) == PROCESSES_AT_MOST
