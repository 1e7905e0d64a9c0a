"""Stage times in both carriers, and whatever else may stand in those headers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench.load.server_timing import ABOUT, CACHED, CARRIERS, MISSING, NOTHING, STAGES

times_us = st.lists(st.integers(0, 10**9), min_size=len(STAGES), max_size=len(STAGES))


@given(times=times_us, batch=st.integers(1, 512), about=st.lists(st.integers(0, 10**6), min_size=4, max_size=4))
def test_both_carriers_bring_back_what_was_planted(times: list[int], batch: int, about: list[int]) -> None:
    header = ", ".join(f"{name};dur={us / 1000:.3f}" for name, us in zip(STAGES, times, strict=True))
    pairs = ",".join(f"{name}={us}" for name, us in zip(STAGES, times, strict=True))
    stages = tuple(us * 1000 for us in times)
    old = (*stages, batch, *[MISSING] * len(ABOUT))
    assert CARRIERS["header"].read(f'{header}, batch;desc="{batch}"'.encode()) == old
    assert CARRIERS["custom-attributes"].read(f"{pairs},batch={batch}".encode()) == old
    told = [f"{name}={value}" for name, value in zip(ABOUT, about, strict=False)]
    for outcome, number in (*CACHED.items(), ("lost", MISSING)):
        new = (*stages, batch, *about, number)
        request = ";".join(["request", *told, f"cache={outcome}"])
        assert CARRIERS["header"].read(f'{header}, {request}, batch;desc="{batch}"'.encode()) == new
        flat = ",".join([pairs, *told, f"cache={outcome}", f"batch={batch}"])
        assert CARRIERS["custom-attributes"].read(flat.encode()) == new


@given(value=st.binary(max_size=200))
def test_no_bytes_break_the_reader(value: bytes) -> None:
    for carrier in CARRIERS.values():
        assert len(carrier.read(value)) == len(NOTHING)


def test_unknown_names_and_broken_numbers_are_silence() -> None:
    found = CARRIERS["header"].read(
        b"cache;desc=hit, compute;dur=1.5, encode;dur=fast, decode;dur=-1, receive;dur=nan, cdn"
    )
    assert found[STAGES.index("compute")] == 1_500_000
    assert sum(value != MISSING for value in found) == 1


def test_the_custom_attributes_request_fits_sagemakers_limit() -> None:
    (name, value), *_ = CARRIERS["custom-attributes"].request_headers
    assert name == "X-Amzn-SageMaker-Custom-Attributes"
    assert len(value) <= 1024
    assert CARRIERS["none"].request_headers == ()
