"""The server timeline: counters of a made-up machine are read and become rates, and gaps stay gaps."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from bench.observe import proc, scrape, timeline
from bench.observe import tree as trees
from bench.observe.proc import ServerFiles
from bench.observe.scrape import Scraped

METRICS = """\
# TYPE process_cpu_seconds counter
process_cpu_seconds_total {cpu}
# TYPE slipway_queue_rows gauge
slipway_queue_rows{{model="a",version="1"}} {rows}
slipway_queue_rows{{model="b",version="1"}} 1.0
# TYPE slipway_cost_seconds gauge
slipway_cost_seconds{{model="a",version="1",batch_size="4"}} 0.002
# TYPE slipway_load_seconds gauge
slipway_load_seconds{{model="a",version="1"}} 1.25
# TYPE slipway_batch_rows histogram
slipway_batch_rows_bucket{{model="a",version="1",le="+Inf"}} {runs}
slipway_batch_rows_count{{model="a",version="1"}} {runs}
slipway_batch_rows_sum{{model="a",version="1"}} {runs}
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A machine with one server, process 42, in a control group of version 2."""
    stat = "42 (a) b) S " + " ".join(str(at) for at in range(4, 53))
    write(tmp_path / "proc/42/stat", stat)
    write(tmp_path / "proc/42/task/42/schedstat", "100 7000 3")
    write(tmp_path / "proc/42/task/43/schedstat", "100 2000 3")
    write(tmp_path / "proc/42/cgroup", "0::/box\n")
    write(tmp_path / "sys/fs/cgroup/box/cpu.stat", "usage_usec 5\nnr_periods 9\nnr_throttled 2\nthrottled_usec 11\n")
    write(tmp_path / "sys/fs/cgroup/box/memory.current", "1000\n")
    write(tmp_path / "sys/fs/cgroup/box/memory.max", "max\n")
    write(tmp_path / "proc/42/status", "Name:\ta\nCpus_allowed:\t0000,00000006\n")
    write(tmp_path / "proc/pressure/cpu", "some avg10=1.00 avg60=0 avg300=0 total=123\nfull total=0\n")
    write(tmp_path / "proc/stat", "cpu 10 0 5 80 5 0 0 3 0 0\ncpu0 1 1\ncpu1 1 1\nprocs_running 4\n")
    return tmp_path


def test_the_kernels_files_are_read(tree: Path) -> None:
    files = ServerFiles((42,), tree)
    files.read()
    write(tree / "proc/42/task/42/schedstat", "400 7000 3")
    write(tree / "proc/42/task/43/schedstat", "200 2900 3")
    seen = files.read()
    # Fields of stat are numbered from 1 in proc(5); this tree says its own number in each.
    assert seen["major_faults"] == 12 + 13
    assert seen["cpu_ticks"] == 14 + 15 + 16 + 17
    assert seen["threads"] == 2
    assert seen["rss_pages"] == 24
    # Cores 1 and 2 are allowed, and core 2 is offline.
    assert seen["allowed_cores"] == 1
    # From the first look on: of all threads, and of the busiest one.
    assert (seen["run_delay_ns"], seen["threads_cpu_ns"], seen["busiest_ns"]) == (900, 400, 300)
    assert seen["loop_delay_ns"] == 7000
    assert (seen["throttled_ns"], seen["throttled_periods"]) == (11_000, 2)
    assert "stop_ns" not in seen  # the length of a period is not told
    assert seen["memory_bytes"] == 1000
    assert "memory_limit_bytes" not in seen  # "max" is no number
    assert seen["pressure_us"] == 123
    assert (seen["machine_ticks"], seen["idle_ticks"], seen["steal_ticks"], seen["running"]) == (103, 85, 3, 4)


def test_cgroup_version_1_is_read_too(tree: Path) -> None:
    write(tree / "proc/42/cgroup", "4:memory:/m\n1:cpu,cpuacct:/\n")
    write(tree / "sys/fs/cgroup/cpu/cpu.stat", "nr_periods 1\nnr_throttled 1\nthrottled_time 77\n")
    write(tree / "sys/fs/cgroup/memory/m/memory.usage_in_bytes", "5\n")
    write(tree / "sys/fs/cgroup/memory/m/memory.limit_in_bytes", "9\n")
    seen = ServerFiles((42,), tree).read()
    assert (seen["throttled_ns"], seen["memory_bytes"], seen["memory_limit_bytes"]) == (77, 5, 9)


def test_the_network_is_the_loopback_or_all_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = {
        name: SimpleNamespace(bytes_recv=at, bytes_sent=10 * at) for name, at in (("lo", 100), ("e0", 5), ("e1", 7))
    }
    monkeypatch.setattr(psutil, "net_io_counters", lambda **_: counters)
    assert proc.network(loopback=True) == {"net_in_bytes": 100, "net_out_bytes": 1000}
    assert proc.network(loopback=False) == {"net_in_bytes": 12, "net_out_bytes": 120}


def test_this_machines_network_counters_grow_only() -> None:
    first, second = proc.network(loopback=True), proc.network(loopback=True)
    assert all(second[name] >= value >= 0 for name, value in first.items())


def test_what_cannot_be_read_is_missing_not_zero(tmp_path: Path) -> None:
    assert ServerFiles((42,), tmp_path).read() == {}


def test_child_processes_count_and_keep_their_cpu_time_when_they_end(tree: Path) -> None:
    write(tree / "proc/50/stat", "50 (child) S " + " ".join(["0"] * 10 + ["30", "10"] + ["0"] * 40))
    files = ServerFiles((42, 50), tree)
    before = files.read()["cpu_ticks"]
    (tree / "proc/50/stat").unlink()
    assert before > files.read()["cpu_ticks"] - 1e-9 >= 14 + 15
    assert files.read()["cpu_ticks"] == before


def test_a_child_that_its_parent_waited_for_counts_once_and_one_that_was_never_seen_counts_too(tree: Path) -> None:
    def parent(reaped: int) -> None:
        fields = ["S", *(["0"] * 10), "14", "15", str(reaped), *(["0"] * 40)]
        write(tree / "proc/42/stat", "42 (parent) " + " ".join(fields))

    write(tree / "proc/50/stat", "50 (child) S 42 " + " ".join(["0"] * 9 + ["30", "10"] + ["0"] * 40))
    parent(reaped=0)
    files = ServerFiles((42, 50), tree)
    before = files.read()["cpu_ticks"]
    (tree / "proc/50/stat").unlink()
    parent(reaped=40)
    assert files.read()["cpu_ticks"] == before
    parent(reaped=65)  # a program that began and ended between two looks
    assert files.read()["cpu_ticks"] == before + 25


def test_a_listener_is_found_by_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert trees.listeners(port) == (os.getpid(),)
            assert trees.listeners(client.getsockname()[1]) == ()  # connected, but not listening
            assert trees.strangers(port, ()) == 1
            assert trees.strangers(port, (os.getpid(),)) == 0


def test_another_client_is_counted_although_ping_waits_until_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = ["of another client"]

    def answered(*_: object) -> dict[str, int]:
        connections.clear()
        return {"ping_ns": 60_000_000}

    monkeypatch.setattr(scrape, "look", answered)
    monkeypatch.setattr(trees, "strangers", lambda _port, _own: len(connections))
    client, files = scrape.Client("127.0.0.1", 1, tls=False), ServerFiles((os.getpid(),))
    found = scrape.look_with_strangers(client, files, 80, with_metrics=False, here=True)
    assert found == {"ping_ns": 60_000_000, "strangers": 1}


def test_all_listeners_count_and_those_of_other_users_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def listener(pid: int | None, port: int, status: str = psutil.CONN_LISTEN) -> SimpleNamespace:
        return SimpleNamespace(pid=pid, status=status, laddr=SimpleNamespace(port=port))

    found = [listener(None, 80), listener(9, 80), listener(7, 80), listener(1, 81), listener(2, 80, "ESTABLISHED")]
    monkeypatch.setattr(psutil, "net_connections", lambda _kind: found)
    assert trees.listeners(80) == (7, 9)
    assert trees.listeners(82) == ()


def test_behind_a_proxy_the_server_is_the_process_that_began_when_its_metrics_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); "
    command = [sys.executable, "-c", program + "sys.stdin.read()"]
    with (
        socket.create_server(("127.0.0.1", 0)) as own,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy,
    ):
        assert proxy.stdout is not None
        port, own_port = int(proxy.stdout.readline()), own.getsockname()[1]
        monkeypatch.setattr(psutil, "process_iter", lambda: [psutil.Process(proxy.pid), psutil.Process()])
        began_s = psutil.Process().create_time()
        assert trees.server(port) == (proxy.pid,)
        assert trees.server(port, began_s) == trees.server(own_port, began_s) == (os.getpid(),)
        assert trees.server(port, psutil.Process(proxy.pid).create_time()) == (proxy.pid,)
        assert trees.server(port, began_s - 3_600) == ()  # on another machine
        proxy.communicate()


def test_connections_of_others_are_those_that_bench_did_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(pid: int | None, local: int, remote: int) -> SimpleNamespace:
        at, peer = (SimpleNamespace(ip="127.0.0.1", port=port) for port in (local, remote))
        laddr, raddr = (at.ip, at.port), (peer.ip, peer.port)
        make = type("Address", (tuple,), {"port": property(lambda self: self[1])})
        return SimpleNamespace(pid=pid, laddr=make(laddr), raddr=make(raddr), status=psutil.CONN_ESTABLISHED)

    def both(pid: int | None, local: int) -> list[SimpleNamespace]:
        """A connection of a program of this machine: its own end, and that of the server."""
        return [end(pid, local, 80), end(7, 80, local)]

    found = [*both(1, 5_001), *both(1, 5_002), *both(9, 5_003), end(7, 80, 6_000), end(7, 81, 6_001)]
    monkeypatch.setattr(psutil, "net_connections", lambda _kind: found)
    assert trees.strangers(80, (1,)) == 2  # one of this machine, and one of another
    assert trees.strangers(80, (1, 9)) == 1


def test_workers_beside_the_listener_belong_to_the_server() -> None:
    """A parent that does not listen, one child that does, and one that computes: all three are the server."""
    code = (
        "import os, socket, subprocess, sys\n"
        "child = 'import socket, sys; s = socket.create_server((\"127.0.0.1\", 0)); '\n"
        "child += 'print(s.getsockname()[1], flush=True); sys.stdin.read()'\n"
        "worker = 'import sys; sys.stdin.read()'\n"
        "both = [subprocess.Popen([sys.executable, '-c', one], stdin=subprocess.PIPE) for one in (child, worker)]\n"
        "print(*(one.pid for one in both), os.getpid(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        lines = sorted((parent.stdout.readline().split() for _ in range(2)), key=len)
        (port,), pids = lines[0], [int(one) for one in lines[1]]
        found = trees.listeners(int(port))
        assert found == (pids[0],)
        assert set(trees.with_children(trees.roots(found))) == set(pids)
        parent.stdin.close()


def test_this_machine_is_known_by_its_addresses() -> None:
    assert proc.is_here("127.0.0.1")
    assert not proc.is_here("203.0.113.7")


def looks() -> Scraped:
    """A second apart, with metrics at the first, third and fifth, and one answer missing."""
    found = []
    for at in range(5):
        one: dict[str, object] = {"t_ns": 10**9 * (at + 100), "cpu_ticks": 50.0 * at, "machine_ticks": 200.0 * at}
        one |= {"idle_ticks": 150.0 * at, "rss_pages": 10.0, "ping_ns": 500_000}
        if at % 2 == 0:
            one["metrics"] = METRICS.format(cpu=float(at), rows=float(at), runs=10.0 * at)
        found.append(one)
    del found[3]["cpu_ticks"], found[3]["ping_ns"]
    return Scraped(found, ["a note"], 42)


def test_counters_become_rates_and_gaps_stay_gaps() -> None:
    found = timeline.build(looks(), 100 * 10**9, [(0.0, 10.0)])
    assert found.t_s == (0, 1, 2, 3, 4)
    assert found.series["server_cpu_cores"] == (None, 0.5, 0.5, None, 0.5)
    assert found.series["machine_busy"] == (None, 0.25, 0.25, 0.25, 0.25)
    assert found.series["ping_ms"] == (0.5, 0.5, 0.5, None, 0.5)
    assert found.series["queue_rows"] == (1, None, 3, None, 5)
    assert "throttled" not in found.series
    assert "throttled_cores" not in found.series
    assert found.costs_ms == {"4": pytest.approx(2)}
    assert found.load_s == 1.25
    assert found.totals is not None
    assert (found.totals.seconds, found.totals.runs) == (4, 40)
    assert found.mean("queue_rows", [(1, 10)]) == 4
    assert found.mean("throttled", [(0, 10)]) is None
    assert found.notes == ("a note",)


def test_what_lies_between_two_repeats_is_in_no_total() -> None:
    found = timeline.build(looks(), 100 * 10**9, [(0.0, 2.0), (2.0, 3.0)])
    assert found.totals is not None
    assert (found.totals.seconds, found.totals.runs) == (2, 20)  # the second has one scrape: no difference
    assert found.mean("queue_rows", [(0, 1), (4, 5)]) == 3


def throttled(*counters: tuple[float, float], stop_ns: float = 8e7, every_s: float = 0.2) -> timeline.ServerTimeline:
    """The timeline of a quota. ``counters``: throttled time in ms and throttled periods, at each look."""
    found = [
        {"t_ns": at * every_s * 1e9, "throttled_ns": ms * 1e6, "throttled_periods": periods, "stop_ns": stop_ns}
        for at, (ms, periods) in enumerate(counters)
    ]
    return timeline.build(Scraped(found), 0, [])


def test_two_cores_that_a_quota_stops_at_once_are_stopped_once() -> None:
    """40 ms of CPU in each 100 ms, on two cores: both run for 20 ms and stand for 80 ms."""
    found = throttled((0, 0), (320, 2), (640, 4), (640, 4)).series
    assert found["throttled"][1:] == pytest.approx((0.8, 0.8, 0.0))
    assert found["throttled_cores"][1:] == pytest.approx((1.6, 1.6, 0.0))


def test_one_thread_that_a_quota_stops_stands_for_all_that_is_counted() -> None:
    assert throttled((0, 0), (120, 2)).series["throttled"][1:] == pytest.approx((0.6,))


def test_a_stop_that_is_longer_than_a_look_is_told_where_it_was() -> None:
    """The kernel counts it at its end."""
    found = throttled((0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (700, 1), (700, 1), stop_ns=9e8)
    assert found.series["throttled"][1:] == pytest.approx((0.0, 0.5, 1.0, 1.0, 1.0, 0.0))
    assert found.mean("throttled", [(0.1, 1.1)]) == pytest.approx(0.7)


def test_a_quota_stops_all_cores_when_they_have_used_it_up(tree: Path) -> None:
    write(tree / "sys/fs/cgroup/box/cpu.max", "40000 100000\n")
    assert ServerFiles((42,), tree).read()["stop_ns"] == pytest.approx(60e6), "one core is allowed"
    write(tree / "proc/42/status", "Name:\ta\nCpus_allowed:\t0000,00000003\n")
    assert ServerFiles((42,), tree).read()["stop_ns"] == pytest.approx(80e6)


def test_a_restarted_server_makes_no_negative_rate() -> None:
    seen = looks()
    seen.looks[4]["cpu_ticks"] = 3.0
    assert timeline.build(seen, 0, [(0, 1)]).series["server_cpu_cores"][4] is None


def test_without_the_kernels_files_the_servers_own_figures_serve() -> None:
    seen = looks()
    for one in seen.looks:
        one.pop("cpu_ticks", None)
    assert timeline.build(seen, 0, [(0, 1)]).series["server_cpu_cores"] == (None, None, 1, None, 1)


def test_nothing_seen_is_a_host_without_figures() -> None:
    found = timeline.build(Scraped(notes=["gone"]), 0, [(0, 1)])
    assert found.series == {}
    assert found.totals is None


def test_a_look_at_a_server_that_is_gone_has_the_time_only() -> None:
    client = scrape.Client("127.0.0.1", 1, tls=False)
    seen = scrape.look(client, None, with_metrics=True).keys()
    assert seen - {"net_in_bytes", "net_out_bytes", "bench_ticks"} == {"t_ns"}
