"""What a profile hears, and what it makes of it."""

from __future__ import annotations

import json
import re
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F
from flambeau import nn, record
from flambeau.ir import graph
from flambeau.profiler import (
    ProfilerAction,
    ProfilerActivity,
    profile,
    record_function,
    schedule,
    supported_activities,
    tensorboard_trace_handler,
)
from flambeau.profiler import autograd as older
from flambeau.profiler.kernels import KernelList
from flambeau.runtime import memory
from flambeau.runtime import profile as listening


def keys(prof: Any, category: str) -> list[str]:
    return [e.key for e in prof.events() if e.category == category]


def of(prof: Any, category: str) -> list[Any]:
    return [e for e in prof.events() if e.category == category]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    """However a test ends, nothing listens afterwards."""
    yield
    assert listening.active is None
    assert graph.Node.__init__ is graph._initialise
    assert memory.Buffer.__init__ is memory._take
    assert memory.Buffer.__del__ is memory._give


# -- schedules and steps --------------------------------------------------------------------------


def test_a_schedule_says_what_each_step_does() -> None:
    action = schedule(wait=1, warmup=2, active=2, repeat=2, skip_first=1)
    n, w, r, s = (
        ProfilerAction.NONE,
        ProfilerAction.WARMUP,
        ProfilerAction.RECORD,
        ProfilerAction.RECORD_AND_SAVE,
    )
    assert [action(k) for k in range(13)] == [n, n, w, w, r, s, n, w, w, r, s, n, n]
    once = schedule(wait=2, warmup=1, active=1, skip_first_wait=1)
    assert [once(k) for k in range(5)] == [w, s, n, n, w]


@pytest.mark.parametrize("wrong", [{"active": 0}, {"wait": -1}, {"repeat": -1}])
def test_a_schedule_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(AssertionError, match="Invalid profiler schedule"):
        schedule(**{"wait": 1, "warmup": 1, "active": 1, **wrong})


def test_without_warmup_a_schedule_warns() -> None:
    with pytest.warns(UserWarning, match="warmup"):
        schedule(wait=0, warmup=0, active=1)


def test_steps_are_recorded_as_scheduled() -> None:
    x = flambeau.ones(8)
    ready: list[tuple[int, list[str]]] = []
    with profile(
        schedule=schedule(wait=1, warmup=1, active=2, repeat=2),
        on_trace_ready=lambda p: ready.append((p.step_num, keys(p, "user"))),
    ) as prof:
        for _ in range(9):
            (x * 2).sum().item()
            prof.step()
    assert ready == [
        (4, ["ProfilerStep#2", "ProfilerStep#3"]),
        (8, ["ProfilerStep#6", "ProfilerStep#7"]),
    ]


def test_a_profile_that_ends_early_hands_over_what_it_has() -> None:
    ready: list[int] = []
    with profile(on_trace_ready=lambda p: ready.append(len(p.events()))):
        flambeau.ones(3).sum().item()
    assert len(ready) == 1
    assert ready[0] > 0


def test_one_profile_at_a_time() -> None:
    with profile(), pytest.raises(RuntimeError, match="already enabled"):
        profile().start()
    with pytest.raises(AssertionError, match="must be started"):
        profile().events()
    with pytest.raises(AssertionError, match="No valid profiler activities"):
        profile(activities=[])
    assert supported_activities() == {ProfilerActivity.CPU}


# -- rows -----------------------------------------------------------------------------------------


def test_rows_are_named_as_they_were_called() -> None:
    x, w, b = flambeau.rand(5, 4), flambeau.rand(3, 4), flambeau.rand(3)
    with profile(record_shapes=True, with_stack=True) as prof:
        y = F.linear(x, w, b)
        for _ in range(3):
            y = F.softsign(y)
        y = y.relu() + 1
        y.sum().item()
    rows = of(prof, "row")
    assert [r.key for r in rows] == ["linear", *["softsign"] * 3, "relu", "plus", "sum"]
    assert rows[0].input_shapes[0] == [5, 4]
    assert rows[-1].input_shapes == [[5, 3]]
    assert f"{__file__}(" in rows[0].stack[0]
    assert rows[0].stack[0].endswith("test_rows_are_named_as_they_were_called")


def test_without_the_cpu_only_kernels_are_recorded() -> None:
    with profile(activities=[ProfilerActivity.CUDA]) as prof:
        flambeau.ones(4, 4).exp().sum().item()
    assert not of(prof, "row")
    assert of(prof, "kernel")


def test_derivatives_know_what_they_are_of() -> None:
    x = flambeau.rand(64, 64, requires_grad=True)
    with profile() as prof:
        F.gelu(x).pow(2).sum().backward()
        record.flush()
    assert keys(prof, "autograd")[0] == "backward"
    assert {"SumBackward0", "GeluBackward0"} <= {*keys(prof, "autograd")}
    assert any("gelu backward" in k for k in keys(prof, "kernel"))


def test_results_are_the_same_bits() -> None:
    def losses(with_profile: bool) -> list[float]:
        flambeau.manual_seed(3)
        model = nn.Sequential(nn.Linear(17, 33), nn.GELU(), nn.Dropout(0.3), nn.Linear(33, 5))
        step = flambeau.optim.AdamW(model.parameters(), lr=0.01)
        record.flush()
        found = []
        prof = profile(with_stack=True, profile_memory=True, with_modules=True)
        if with_profile:
            prof.start()
        for _ in range(3):
            step.zero_grad()
            loss = model(flambeau.randn(9, 17)).square().mean()
            loss.backward()
            step.step()
            found.append(loss.item())
        if with_profile:
            prof.stop()
            assert "Optimizer.step#AdamW.step" in keys(prof, "user")
            assert "Optimizer.zero_grad#AdamW.zero_grad" in keys(prof, "user")
            assert keys(prof, "module").count("nn.Module: Linear") == 6
        return found

    compiled = record.counters.compiled
    plain = losses(False)
    made = record.counters.compiled - compiled
    assert losses(True) == plain
    assert record.counters.compiled - compiled == made  # and no programs but those of before


# -- kernels --------------------------------------------------------------------------------------


def test_work_of_a_product() -> None:
    a, b = flambeau.rand(96, 64), flambeau.rand(64, 160)
    record.flush()
    with profile() as prof:
        (a @ b).tolist()
    (kernel,) = of(prof, "kernel")
    assert kernel.key == "kernel::matmul"
    assert kernel.flops == 2 * 96 * 64 * 160
    assert kernel.bytes == 4 * (96 * 64 + 64 * 160 + 96 * 160)
    (average,) = prof.kernels()
    assert average.kind == "contraction"
    assert average.precision == "f32"
    assert average.lines == [f"{__file__}:{test_work_of_a_product.__code__.co_firstlineno + 4}"]
    assert average.intensity == kernel.flops / kernel.bytes
    assert average.gflops == pytest.approx(kernel.flops / kernel.cpu_time_total / 1e3)


def test_work_of_regions() -> None:
    x, row = flambeau.rand(40, 50), flambeau.rand(50)
    table, which = flambeau.rand(1000, 16), flambeau.tensor([3, 5, 999])
    record.flush()
    with profile() as prof:
        (x * row + x).tolist()
        table[which].tolist()
        (x.double() - 1).sum(0).tolist()
    fused, gathered, reduced = of(prof, "kernel")
    assert fused.flops == 2 * 40 * 50
    assert fused.bytes == 4 * (40 * 50 * 2 + 50)
    assert gathered.bytes == 4 * (2 * 3 * 16) + 8 * 3
    assert gathered.flops == 0
    assert reduced.flops == 2 * 40 * 50
    assert reduced.bytes == 4 * 40 * 50 + 8 * 50


def test_work_of_attention() -> None:
    q, k, v = (flambeau.rand(2, 3, n, 8, requires_grad=True) for n in (16, 24, 24))
    record.flush()
    with profile() as prof:
        F.scaled_dot_product_attention(q, k, v).sum().backward()
        record.flush()
    places = 2 * 3 * 16 * 24
    by_kind = {w.flops for e in of(prof, "kernel") if (w := e.args["work"]).kind == "composite"}
    assert by_kind == {2 * places * 16, 2 * places * 40}


def test_kernels_lie_in_the_flush_that_ran_them() -> None:
    x = flambeau.rand(300, 300)
    record.flush()
    with profile() as prof:
        (x @ x).relu().sum().item()
    (flush,) = of(prof, "flush")
    kernels = of(prof, "kernel")
    assert kernels
    assert all(k.cpu_parent is flush for k in kernels)
    assert [c for c in flush.cpu_children if c.category == "kernel"] == kernels
    ends = [k.time_range.end for k in kernels]
    starts = [k.time_range.start for k in kernels]
    assert all(a <= b for a, b in zip(ends, starts[1:], strict=False))
    assert sum(k.cpu_time_total for k in kernels) <= flush.cpu_time_total
    assert all(0 <= k.args["busy"] <= 1 for k in kernels)


def test_compiling_is_an_event_of_its_own() -> None:
    x = flambeau.rand(31, 7)
    record.flush()
    with profile() as prof:
        (x.cos() * 0.37 - x.sin()).amax(0).tolist()
        (x.cos() * 0.37 - x.sin()).amax(0).tolist()
    compiled = keys(prof, "compile")
    assert compiled.count("fuse") == compiled.count("rewrite") == 1
    assert len(of(prof, "flush")) == 2


def test_calls_of_libraries_are_events() -> None:
    x = flambeau.rand(50)
    with profile() as prof:
        (flambeau.fft.rfft(x).abs() * 2).tolist()
    assert "fourier_half" in [e.name for e in of(prof, "host")]


def test_a_program_that_fails_is_still_recorded() -> None:
    table = flambeau.rand(4, 2)
    with profile() as prof, pytest.raises(IndexError):
        table[flambeau.tensor([7])].tolist()
    assert of(prof, "kernel")
    with profile() as prof:  # nothing was broken by it
        (table + 1).tolist()
    assert keys(prof, "kernel") == ["kernel::plus"]


def test_more_threads_than_the_profile_began_with() -> None:
    before = flambeau.get_num_threads()
    x = flambeau.rand(512, 512)
    try:
        with profile() as prof:
            flambeau.set_num_threads(before + 2)
            (x @ x).sum().item()
    finally:
        flambeau.set_num_threads(before)
    assert prof.profiler is not None
    assert {w for w, *_ in prof.profiler.worker_spans} <= set(range(before))


def test_other_threads_are_recorded() -> None:
    def work() -> None:
        flambeau.ones(5).exp().sum().item()

    with profile() as prof:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        work()
    assert len({e.thread for e in of(prof, "flush")}) == 2
    assert len({e.thread for e in of(prof, "kernel")}) == 2


def test_limits_are_measured() -> None:
    found = KernelList().limits()
    assert 0 < found.bandwidth < 1e5
    assert 0 < found.cache_bandwidth < 1e6
    assert 0 < found.flops("f64") < found.flops("f32") * 1.2
    assert found.flops("f32") == found.flops("f32")


# -- spans of the program's own -------------------------------------------------------------------


def test_record_function() -> None:
    @record_function("called", "with a text")
    def twice(x: Any) -> Any:
        return x * 2

    with record_function("nobody listens"):
        pass
    with profile() as prof:
        with record_function("outer"), record_function("inner"):
            y = twice(flambeau.ones(3))
        y.tolist()
    outer, inner, called = of(prof, "user")
    assert [e.key for e in (outer, inner, called)] == ["outer", "inner", "called"]
    assert inner.cpu_parent is outer
    assert called.cpu_parent is inner
    assert called.args["args"] == "with a text"
    (mul,) = [e for e in of(prof, "row") if e.key == "mul"]
    assert mul.cpu_parent is called


def test_the_loader_is_an_event() -> None:
    data = flambeau.data.TensorDataset(flambeau.arange(6))
    with profile() as prof:
        list(flambeau.data.DataLoader(data, batch_size=3))
    assert any(k.startswith("enumerate(DataLoader)#") for k in keys(prof, "user"))


# -- averages and tables --------------------------------------------------------------------------


def test_averages() -> None:
    with profile(record_shapes=True, with_stack=True, with_flops=True) as prof:
        for n in (3, 3, 5):
            flambeau.ones(n, n).exp().sum().item()
    together = {e.key: e for e in prof.key_averages()}
    assert together["exp"].count == 3
    assert together["flush"].cpu_time_total == pytest.approx(
        sum(e.cpu_time_total for e in of(prof, "flush"))
    )
    assert together["exp"].cpu_time == pytest.approx(together["exp"].cpu_time_total / 3)
    apart = [e for e in prof.key_averages(group_by_input_shape=True) if e.key == "exp"]
    assert [(e.count, e.input_shapes) for e in apart] == [(2, [[3, 3]]), (1, [[5, 5]])]
    by_line = [e for e in prof.key_averages(group_by_stack_n=2) if e.key == "exp"]
    assert [(e.count, len(e.stack)) for e in by_line] == [(3, 2)]
    total = prof.events().total_average()
    assert total.flops == sum(e.flops for e in prof.events())
    assert prof.events().self_cpu_time_total == pytest.approx(total.self_cpu_time_total)


def test_time_of_a_name_within_itself_is_counted_once() -> None:
    with profile() as prof, record_function("same"), record_function("same"):
        flambeau.ones(3).sum().item()
    (average,) = [e for e in prof.key_averages() if e.key == "same"]
    outer, _ = of(prof, "user")
    assert average.count == 2
    assert average.cpu_time_total == outer.cpu_time_total


def test_tables() -> None:
    with profile(record_shapes=True, profile_memory=True, with_flops=True) as prof:
        (flambeau.rand(64, 64) @ flambeau.ones(64, 64)).sum().item()
    averages = prof.key_averages(group_by_input_shape=True)
    text = averages.table(sort_by="count", row_limit=-1, header="A title")
    lines = text.splitlines()
    assert lines[0] == "A title"
    assert len(lines) == 1 + 3 + len(averages) + 1 + 1
    assert len(averages.table(row_limit=3).splitlines()) == 3 + 3 + 1 + 1
    for title in ("Name", "Self CPU %", "CPU total", "CPU Mem", "# of Calls", "Input Shapes"):
        assert title in lines[2]
    assert "Self CPU time total" in lines[-1]
    assert str(averages).count("\n") >= len(averages)
    in_ms = averages.table(time_unit="ms", max_name_column_width=6)
    assert not re.search(r"\dus\b", in_ms)
    assert "ker..." in in_ms
    top = prof.events().table(top_level_events_only=True)
    assert "flush" in top
    assert "kernel::" not in top
    assert averages.table(sort_by="cuda_time_total")
    with pytest.raises(AttributeError, match="cannot sort"):
        averages.table(sort_by="nonsense")
    assert "kernels" in prof.summary()
    assert "matmul" in prof.kernels().table()
    assert "GB/s from memory" in prof.kernels().table(row_limit=0)


# -- memory ---------------------------------------------------------------------------------------


def test_memory_of_events() -> None:
    with profile(profile_memory=True) as prof:
        with record_function("kept"):
            x = flambeau.ones(1 << 16)
            x.tolist()
        with record_function("given back"):
            del x
    kept, given = of(prof, "user")
    assert kept.cpu_memory_usage >= 4 << 16
    assert given.cpu_memory_usage == -(4 << 16)
    assert (
        kept.self_cpu_memory_usage + sum(c.cpu_memory_usage for c in kept.cpu_children)
        == kept.cpu_memory_usage
    )


def test_memory_over_time(tmp_path: Path) -> None:
    with profile(profile_memory=True) as prof:
        for n in (10_000, 30_000, 20_000):
            flambeau.ones(n).tolist()
    prof.export_memory_timeline(tmp_path / "memory.json")
    times, sizes = json.loads((tmp_path / "memory.json").read_text())
    assert len(times) == len(sizes)
    assert times == sorted(times)
    assert max(sizes) - sizes[0] >= 120_000
    assert sizes[-1] - sizes[0] < 120_000
    prof.export_memory_timeline(tmp_path / "memory.svg")
    assert "peak" in "".join(ElementTree.parse(tmp_path / "memory.svg").getroot().itertext())
    prof.export_memory_timeline(tmp_path / "memory.html", "cpu")
    assert "<svg" in (tmp_path / "memory.html").read_text()
    with pytest.raises(ValueError, match="'cuda:0'"):
        prof.export_memory_timeline(tmp_path / "x.json", "cuda:0")
    with profile() as without, pytest.raises(ValueError, match="profile_memory=True"):
        without.export_memory_timeline(tmp_path / "x.json")


def test_what_held_the_memory_at_its_peak(tmp_path: Path) -> None:
    before = flambeau.ones(1 << 16)
    before.tolist()
    with profile(profile_memory=True) as prof:
        large, small = flambeau.ones(1 << 20).exp(), flambeau.ones(1 << 18).sqrt()
        large.tolist()
        del large
        (small * 2).tan().tolist()
        del before
    peak = prof.memory_peak()
    sizes = {h.name: h.nbytes for h in peak}
    assert sizes["exp"] == 4 << 20
    assert sizes["sqrt"] == 1 << 20
    assert "tan" not in sizes
    assert sizes["(allocated before the profile)"] >= 4 << 16
    assert sum(sizes.values()) == peak.nbytes
    assert [h.nbytes for h in peak] == sorted(sizes.values(), reverse=True)
    assert peak[0].line.rpartition(":")[0] == __file__
    table = peak.table(row_limit=1)
    assert "exp" in table
    assert "sqrt" not in table
    assert "Peak: " in table
    prof.export_memory_timeline(tmp_path / "memory.html")
    assert "exp" in (tmp_path / "memory.html").read_text()
    with profile() as without, pytest.raises(ValueError, match="profile_memory=True"):
        without.memory_peak()


def test_the_peak_of_a_profile_that_only_gives_back() -> None:
    x = flambeau.ones(1 << 16)
    x.tolist()
    with profile(profile_memory=True) as prof:
        del x
    (holding,) = prof.memory_peak()
    assert holding.nbytes == prof.memory_peak().nbytes > 0


def test_rules_and_methods_are_no_rows() -> None:
    """What asks for overrides is not taken for the row that it wraps."""
    w = flambeau.ones(4, 4, requires_grad=True)
    with profile() as prof:
        (w @ w).sum().backward()
        (w.detach() - 1).tolist()
    names = [e.key for e in of(prof, "row")]
    assert names.count("sub") + names.count("minus") == 1


# -- files ----------------------------------------------------------------------------------------


def check_nesting(events: list[dict[str, Any]]) -> None:
    """Events of a thread lie in each other or apart, as viewers of traces demand."""
    threads: dict[int, list[dict[str, Any]]] = {}
    for e in events:
        threads.setdefault(e["tid"], []).append(e)
    for some in threads.values():
        open_until: list[float] = []
        for e in sorted(some, key=lambda e: (e["ts"], -e["dur"])):
            while open_until and open_until[-1] <= e["ts"] + 1e-3:
                open_until.pop()
            assert not open_until or e["ts"] + e["dur"] <= open_until[-1] + 2e-3, e
            open_until.append(e["ts"] + e["dur"])


def test_the_trace(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256))
    x = flambeau.rand(256, 256)
    with profile(record_shapes=True, profile_memory=True, with_modules=True) as prof:
        prof.add_metadata("note", "a text")
        prof.add_metadata_json("numbers", "[1, 2]")
        for _ in range(2):
            with record_function("forward"):
                loss = model(x).square().sum()
            loss.backward()
            loss.item()
    prof.export_chrome_trace(str(tmp_path / "trace.json"))
    whole = json.loads((tmp_path / "trace.json").read_text())
    assert whole["note"] == "a text"
    assert whole["numbers"] == [1, 2]
    events = whole["traceEvents"]
    spans = [e for e in events if e["ph"] == "X"]
    assert all(e["dur"] >= 0 for e in spans)
    check_nesting(spans)
    kinds = {e["cat"] for e in spans}
    assert {"kernel", "cpu_op", "user_annotation", "python_function", "runtime"} <= kinds
    kernels = [e for e in spans if e["cat"] == "kernel"]
    assert all({"FLOP", "Bytes", "GFLOP/s", "Lines"} <= set(e["args"]) for e in kernels)
    begun = {e["id"] for e in events if e["ph"] == "s"}
    assert begun
    assert begun == {e["id"] for e in events if e["ph"] == "f"}
    names = {e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    assert "MainThread" in names
    assert any(e["ph"] == "C" and e["args"]["allocated bytes"] > 0 for e in events)
    averages = prof.key_averages()
    averages.export_chrome_trace  # noqa: B018
    prof.events().export_chrome_trace(tmp_path / "again.json.gz")
    assert (tmp_path / "again.json.gz").read_bytes()[:2] == b"\x1f\x8b"


def test_the_trace_handler_of_tensorboard(tmp_path: Path) -> None:
    for compressed in (False, True):
        handler = tensorboard_trace_handler(str(tmp_path / "runs"), "me", compressed)
        with profile(on_trace_ready=handler):
            flambeau.ones(3).sum().item()
    names = sorted(p.name for p in (tmp_path / "runs").iterdir())
    assert len(names) == 2
    assert all(n.startswith("me.") for n in names)
    assert [n.endswith(".gz") for n in names].count(True) == 1
    assert any(n.endswith(".pt.trace.json") for n in names)


def test_stacks_for_flame_graphs(tmp_path: Path) -> None:
    with profile(with_stack=True) as prof:
        for _ in range(20):
            flambeau.rand(30, 30).exp()
        flambeau.ones(4).sum().item()
    prof.export_stacks(tmp_path / "stacks.txt")
    lines = (tmp_path / "stacks.txt").read_text().splitlines()
    assert lines
    for line in lines:
        frames, _, value = line.rpartition(" ")
        assert int(value) > 0
        assert " " not in frames
    assert any("test_stacks_for_flame_graphs;rand" in line for line in lines)
    with pytest.raises(ValueError, match="metric should be one of"):
        prof.export_stacks(tmp_path / "x.txt", "self_cuda_time_total")


def test_the_roofline(tmp_path: Path) -> None:
    a = flambeau.rand(128, 128)
    with profile() as prof:
        (a @ a).tolist()
        (a * 2 + 1).tolist()
        a.t().contiguous().tolist()
    counted = [k for k in prof.kernels() if k.flops]
    prof.export_roofline(tmp_path / "roofline.svg")
    root = ElementTree.parse(tmp_path / "roofline.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    dots = [c for c in root.iter(f"{space}circle") if c.get("class") == "kernel"]
    assert len(dots) == len(counted)
    told = [d.findtext(f"{space}title") or "" for d in dots]
    assert any(t.startswith("matmul") and "GFLOP/s" in t for t in told)
    width, height = (float(root.get(k) or 0) for k in ("width", "height"))
    for d in dots:
        assert 0 < float(d.get("cx") or 0) < width
        assert 0 < float(d.get("cy") or 0) < height
    prof.export_roofline(tmp_path / "roofline.html")
    page = (tmp_path / "roofline.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_pictures_of_nothing(tmp_path: Path) -> None:
    with profile(profile_memory=True) as prof:
        pass
    assert prof.key_averages().table() == ""
    assert prof.kernels() == []
    prof.export_roofline(tmp_path / "roofline.svg")
    prof.export_memory_timeline(tmp_path / "memory.svg")
    ElementTree.parse(tmp_path / "roofline.svg")
    ElementTree.parse(tmp_path / "memory.svg")
    assert "Recorded for" in prof.summary()


# -- the rest of the interface --------------------------------------------------------------------


def test_collection_can_pause() -> None:
    x = flambeau.ones(4)
    with profile() as prof:
        (x + 1).tolist()
        prof.toggle_collection_dynamic(False, [ProfilerActivity.CPU])
        (x - 1).tolist()
        prof.toggle_collection_dynamic(True, [ProfilerActivity.CPU])
        (x / 3).tolist()
    assert list(keys(prof, "kernel")) == ["kernel::plus", "kernel::true_div"]
    assert keys(prof, "row") == ["plus", "true_div"]


def test_a_long_profile_keeps_no_more_than_it_may() -> None:
    x = flambeau.ones(4)
    with profile(profile_memory=True) as prof:
        assert prof.profiler is not None
        prof.profiler.limit = 5
        for _ in range(20):
            (x + 1).tolist()
    assert len(of(prof, "row")) == 5
    assert len(of(prof, "kernel")) == 5
    assert len(of(prof, "flush")) <= 5
    assert prof.profiler.steps == 20


def test_the_older_form() -> None:
    with older.profile(record_shapes=True) as prof:
        with older.record_function("part"):
            x = flambeau.rand(16, 16)
        (x @ x).sum().item()
    assert prof is not None
    assert any(e.key == "part" for e in prof.function_events)
    assert "matmul" in prof.key_averages().table(sort_by="self_cpu_time_total")
    assert prof.self_cpu_time_total > 0
    assert prof.total_average().count == len(prof.function_events)
    with older.profile(enabled=False) as off:
        assert off is None
    with older.emit_nvtx():
        pass
    assert flambeau.autograd.profiler.record_function is record_function
    assert flambeau.profiler.profile is profile


def test_origins_survive_every_pass(rng: np.random.Generator) -> None:
    """Each kernel of a step goes back to rows that were recorded for it."""
    x = flambeau.tensor(rng.standard_normal((40, 24), np.float32))
    w = flambeau.rand(24, 24, requires_grad=True)
    with profile() as prof:
        h = F.layer_norm(F.gelu(x @ w), (24,))
        F.cross_entropy(h, flambeau.arange(40) % 24).backward()
        assert w.grad is not None
        w.grad.tolist()
    kernels = of(prof, "kernel")
    assert kernels
    assert all(k.args["rows"] for k in kernels)
    named = " ".join(k.key for k in kernels)
    for row in ("matmul", "gelu", "layer_norm", "cross_entropy"):
        assert row in named, named


def test_compiled_programs_name_what_they_do() -> None:
    x = flambeau.rand(64, 64)

    @flambeau.compile
    def twice(x: Any) -> Any:
        return (x @ x).relu().sum(-1)

    for _ in range(3):
        twice(x).tolist()
    with profile() as prof:
        twice(x).tolist()
    named = " ".join(keys(prof, "kernel"))
    assert "matmul" in named
    assert "compiled" not in named
