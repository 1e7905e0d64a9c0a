"""The response cache: what is computed once, what is forgotten, and what nobody may suffer from."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.cache import ARRAY_BYTES, ENTRY_BYTES, HIT, MISS, SHARED, ResponseCache, digest
from server.errors import ClientGone, DeadlineExceeded, ModelFailed, Overloaded
from server.request import NEVER, InferRequest

BIG = 1_000_000
ENTRY = ENTRY_BYTES + ARRAY_BYTES + 8
"""Bytes of an entry with one output of two float32."""


class Model:
    """Holds back what is submitted until told to answer."""

    def __init__(self, max_bytes: int = BIG) -> None:
        self.now_ns = 1_000
        self.cache = ResponseCache(max_bytes, lambda: self.now_ns)
        self.held: list[InferRequest] = []
        self.done: list[InferRequest] = []
        self.refuses = False

    def ask(self, value: float, deadline_ns: int = NEVER) -> InferRequest:
        array = np.full((1, 2), value, np.float32)
        request = InferRequest((array,), 1, self.done.append, deadline_ns=deadline_ns)
        self.cache.submit(request, self.submit)
        return request

    def submit(self, request: InferRequest) -> None:
        if self.refuses:
            raise Overloaded("full", 1)
        self.held.append(request)

    def answer(self) -> None:
        request = self.held.pop(0)
        request.outputs = [request.arrays[0] * 2]
        request.done(request)

    def fail(self, error: Exception) -> None:
        request = self.held.pop(0)
        request.error = error  # type: ignore[assignment]
        request.done(request)


def value_of(request: InferRequest) -> float:
    assert request.outputs is not None, request.error
    return float(request.outputs[0][0, 0])


def test_the_same_input_is_computed_once() -> None:
    model = Model()
    first = model.ask(1)
    model.answer()
    second = model.ask(1)
    assert (value_of(first), value_of(second)) == (2, 2)
    assert (first.cached, second.cached) == ("", HIT)
    assert model.done == [first, second]
    assert model.held == []


def test_identical_requests_under_way_share_one_run() -> None:
    model = Model()
    requests = [model.ask(1) for _ in range(5)]
    assert len(model.held) == 1
    model.answer()
    assert [value_of(request) for request in requests] == [2] * 5
    assert sorted(request.cached for request in requests) == ["", *[SHARED] * 4]
    assert sorted(map(id, model.done)) == sorted(map(id, requests))
    assert model.cache.outcomes == {MISS: 1, SHARED: 4}


@pytest.mark.parametrize("error", [ModelFailed("no"), ClientGone("gone"), DeadlineExceeded("late")])
def test_what_the_first_dies_of_is_its_own(error: Exception) -> None:
    model = Model()
    first, second, third = (model.ask(1) for _ in range(3))
    model.fail(error)
    assert first.error is error
    model.answer()
    assert [value_of(second), value_of(third)] == [2, 2]
    assert len(model.done) == 3


def test_followers_that_cannot_be_submitted_are_told_why() -> None:
    model = Model()
    requests = [model.ask(1) for _ in range(3)]
    model.refuses = True
    model.fail(ModelFailed("no"))
    assert isinstance(requests[1].error, Overloaded)
    assert isinstance(requests[2].error, Overloaded)
    assert len(model.done) == 3


def test_a_refused_request_leaves_nothing_behind() -> None:
    model = Model()
    model.refuses = True
    with pytest.raises(Overloaded):
        model.ask(1)
    model.refuses = False
    request = model.ask(1)
    model.answer()
    assert value_of(request) == 2


def test_followers_that_left_or_are_late_get_no_answer() -> None:
    model = Model()
    model.ask(1)
    gone, late = model.ask(1), model.ask(1, deadline_ns=2_000)
    gone.abandoned = True
    model.now_ns = 3_000
    model.answer()
    assert isinstance(gone.error, ClientGone)
    assert isinstance(late.error, DeadlineExceeded)


def test_an_heir_that_left_is_passed_over() -> None:
    model = Model()
    model.ask(1)
    gone, heir = model.ask(1), model.ask(1)
    gone.abandoned = True
    model.fail(ModelFailed("no"))
    model.answer()
    assert isinstance(gone.error, ClientGone)
    assert value_of(heir) == 2


def test_errors_are_not_kept() -> None:
    model = Model()
    model.ask(1)
    model.fail(ModelFailed("no"))
    model.ask(1)
    assert len(model.held) == 1


def test_the_least_recently_used_goes_first_and_bytes_are_bounded() -> None:
    model = Model(max_bytes=2 * ENTRY)
    for value in (1, 2):
        model.ask(value)
        model.answer()
    model.ask(1)
    model.ask(3)
    model.answer()
    assert model.cache.bytes == 2 * ENTRY
    assert model.ask(1).cached == HIT
    model.ask(2)
    assert len(model.held) == 1


def test_an_answer_larger_than_the_cache_is_not_kept() -> None:
    model = Model(max_bytes=4)
    model.ask(1)
    model.answer()
    assert model.cache.bytes == 0


def test_the_bound_is_on_the_memory_of_small_answers_and_of_strings() -> None:
    cache = ResponseCache(100_000, lambda: 0)

    def answer(request: InferRequest) -> None:
        text = str(request.arrays[0][0, 0]) * 50
        request.outputs = [np.zeros(1, np.float32), np.array([text], object)]
        request.done(request)

    tracemalloc.start()
    try:
        for value in range(2_000):
            request = InferRequest((np.full((1, 1), value, np.float32),), 1, lambda _: None)
            cache.submit(request, answer)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 50_000 < cache.bytes <= 100_000
    assert taken < 1.5 * cache.bytes


def test_a_request_that_waits_for_an_identical_one_holds_no_arrays_of_its_own() -> None:
    model = Model()
    first, second = model.ask(1), model.ask(1)
    assert second.arrays is first.arrays


def test_a_kept_row_does_not_keep_its_batch() -> None:
    model = Model()
    model.ask(1)
    request = model.held.pop(0)
    batch = np.zeros((1_000, 2), np.float32)
    request.outputs = [batch[:1]]
    request.done(request)
    kept = model.ask(1)
    assert kept.outputs is not None
    assert kept.outputs[0].base is None


def test_shape_and_every_input_count() -> None:
    flat, square = np.zeros((1, 4), np.float32), np.zeros((2, 2), np.float32)
    assert digest((flat,)) != digest((square,))
    assert digest((flat, square)) != digest((square, flat))
    text = np.array(["ab", "c"], object), np.array(["a", "bc"], object)
    assert digest((text[0],)) != digest((text[1],))


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["answer", "fail", "nothing"])), max_size=40))
def test_every_request_ends_in_exactly_one_answer(plan: list[tuple[int, str]]) -> None:
    model = Model(max_bytes=24)
    asked = []
    for value, step in plan:
        asked.append(model.ask(value))
        if step == "answer" and model.held:
            model.answer()
        elif step == "fail" and model.held:
            model.fail(ModelFailed("no"))
    while model.held:
        model.answer()
    assert sorted(map(id, model.done)) == sorted(map(id, asked))
    for request in asked:
        assert request.error is not None or value_of(request) == 2 * float(request.arrays[0][0, 0])
    assert model.cache.bytes <= 24


def test_long_arrays_within_an_array_have_digests_of_their_own() -> None:
    """The text of a long array leaves values out; a tokenized text may have thousands of tokens."""
    digests = set()
    for value in (1, 2):
        row = np.zeros((3, 5_000), np.int64)
        row[0, 2_500] = value
        texts = np.empty(1, object)
        texts[0] = row
        digests.add(digest((texts,)))
    assert len(digests) == 2
