"""The device scheduler: threads block until fair queueing grants them a turn."""

from __future__ import annotations

import threading

from server.request import NEVER
from server.scheduling.device import FREE, DeviceScheduler, ModelTurns
from server.scheduling.fair_queue import QUANTUM_NS

MS = 1_000_000


def device(slots: int = 1) -> DeviceScheduler:
    return DeviceScheduler(slots, preemptive=False, clock=lambda: 0)


def test_a_model_that_is_alone_waits_for_nothing() -> None:
    shared = device()
    turns = shared.join(1)
    turn = turns.wait()
    assert turn is FREE
    assert turns.wait(turn, 5 * MS) is FREE
    turns.give_back(turn)
    assert FREE.limit_ns == NEVER
    assert shared.queue.flows[0].finish == 0.0


def test_a_thread_waits_until_another_model_gives_its_turn_back() -> None:
    shared = device()
    ours, theirs = shared.join(1), shared.join(1)
    held = ours.wait()
    got: list[int] = []
    waiter = threading.Thread(target=lambda: got.append(theirs.wait().limit_ns))
    waiter.start()
    waiter.join(0.05)
    assert got == []
    ours.give_back(held)
    waiter.join(10)
    assert got == [QUANTUM_NS]


def test_the_threads_of_a_model_that_leaves_go_on_without_a_turn() -> None:
    shared = device()
    holder, leaver = shared.join(1), shared.join(1)
    holder.wait()
    got: list[bool] = []
    waiter = threading.Thread(target=lambda: got.append(leaver.wait() is FREE))
    waiter.start()
    waiter.join(0.05)
    leaver.leave()
    waiter.join(10)
    assert got == [True]
    assert leaver.wait() is FREE


def test_a_turn_that_is_held_when_its_model_leaves_is_given_back_at_its_end() -> None:
    shared = device()
    holder, other = shared.join(1), shared.join(1)
    held = holder.wait()
    holder.leave()
    assert holder.wait(held, 5 * MS) is FREE
    third = shared.join(1)
    assert other.wait().granted
    assert third.slowdown() == 2.0


def test_threads_of_several_models_never_hold_more_than_there_is() -> None:
    shared = device(2)
    models = [(shared.join(slots), slots) for slots in (1, 1, 2)]
    lock = threading.Lock()
    held, most = 0, 0

    def work(turns: ModelTurns, slots: int) -> None:
        nonlocal held, most
        turn = turns.wait()
        for _ in range(50):
            with lock:
                held += slots
                most = max(most, held)
            with lock:
                held -= slots
            turn = turns.wait(turn, MS)
        turns.give_back(turn)

    threads = [threading.Thread(target=work, args=model) for model in models for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert held == 0
    assert most <= 2
