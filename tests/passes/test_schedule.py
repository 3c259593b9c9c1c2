"""The order of steps, and values made again: random programs keep their meaning."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flambeau.passes.rematerialise import Again, rematerialise
from flambeau.passes.schedule import Task, schedule, usage


@dataclass(eq=False)
class Step:
    number: int


@dataclass(eq=False)
class Memory:
    name: str

    def __repr__(self):
        return self.name


class Random:
    """A program of `count` steps, each of which makes a value from inputs and values before."""

    def __init__(self, data, count):
        self.inputs = [Memory(f"in{k}") for k in range(3)]
        self.sizes = {}
        self.tasks = []
        self.before = []
        made = []
        overwritten = set()
        for number in range(count):
            free = [m for m in self.inputs if m not in overwritten]
            sources = data.draw(st.lists(st.sampled_from(made + free), max_size=3, unique=True))
            result = Memory(f"v{number}")
            self.sizes[result] = data.draw(st.integers(1, 50))
            before = 0
            for other in self.tasks:
                if set(other.writes) & set(sources):
                    before |= self.before[other.step.number] | 1 << other.step.number
            spoils = ()
            if free and data.draw(st.integers(0, 9)) == 0:
                spoils = (data.draw(st.sampled_from(free)),)
                overwritten.add(spoils[0])
                for other in self.tasks:  # the readers of the old value come first
                    if spoils[0] in other.reads:
                        before |= self.before[other.step.number] | 1 << other.step.number
            again = data.draw(st.booleans())
            seconds = data.draw(st.integers(1, 9))
            task = Task(Step(number), tuple(sources), (result,), seconds, again, spoils)
            self.tasks.append(task)
            self.before.append(before)
            made.append(result)
        self.kept = set(data.draw(st.lists(st.sampled_from(made), max_size=3)))

    def values(self, order):
        """What each step computes, as text, running the tasks in an order on real memory."""
        memory = {m: m.name for m in self.inputs}
        found = {}
        for task in order:
            value = f"{task.step.number}({','.join(memory[m] for m in task.reads)})"
            assert found.setdefault(task.step.number, value) == value
            for m in task.writes:
                memory[m] = value
            for m in task.spoils:
                memory[m] = "overwritten"
        return found


@given(st.data(), st.integers(1, 14))
def test_orders_keep_dependences_and_use_no_more_memory(data, count):
    program = Random(data, count)
    order = schedule(program.tasks, program.before, program.sizes, program.kept)
    assert sorted(t.step.number for t in order) == list(range(count))
    done = 0
    for task in order:
        assert program.before[task.step.number] & ~done == 0
        done |= 1 << task.step.number
    assert program.values(order) == program.values(program.tasks)
    recorded = usage(program.tasks, program.sizes, program.kept)
    assert max(usage(order, program.sizes, program.kept)) <= max(recorded)


@given(st.data(), st.integers(2, 14), st.integers(1, 120))
def test_values_made_again_are_the_same(data, count, limit):
    program = Random(data, count)
    found = rematerialise(program.tasks, program.sizes, program.kept, limit)
    assert program.values(found.order) == program.values(program.tasks)
    sizes = dict(program.sizes)
    for task in found.order:
        for m in task.writes:
            if isinstance(m, Again):
                sizes[m] = sizes[m.of]
    before = max(usage(program.tasks, program.sizes, program.kept))
    assert found.peak == max(usage(found.order, sizes, program.kept)) <= before
    assert all(t.again for t in found.repeated)
    assert len(found.order) == count + len(found.repeated)
    if before <= limit:
        assert not found.repeated


def layers(count, cost=1.0):
    """A network's steps: forward x_k -> h_k -> x_k+1, backward reading h_k and x_k."""
    x = [Memory(f"x{k}") for k in range(count + 1)]
    h = [Memory(f"h{k}") for k in range(count)]
    g = [Memory(f"g{k}") for k in range(count + 1)]
    tasks = [Task(Step(0), (), (x[0],), 0.0)]

    def add(reads, writes, seconds):
        tasks.append(Task(Step(len(tasks)), reads, writes, seconds, True))

    for k in range(count):
        add((x[k],), (h[k],), cost)
        add((h[k],), (x[k + 1],), 1.0)
    add((x[count],), (g[count],), 1.0)
    for k in reversed(range(count)):
        add((g[k + 1], h[k], x[k]), (g[k],), 1.0)
    sizes = {**dict.fromkeys(x, 10), **dict.fromkeys(h, 40), **dict.fromkeys(g, 10)}
    return tasks, sizes, h


def test_a_network_keeps_its_checkpoints_only():
    tasks, sizes, h = layers(8)
    peak = max(usage(tasks, sizes, ()))
    assert peak >= 8 * 50
    found = rematerialise(tasks, sizes, (), 200)
    assert found.peak <= 200
    assert {m.of for t in found.repeated for m in t.writes} <= set(h)


@pytest.mark.parametrize("limit", [400, 300])
def test_no_more_than_needed_is_made_again(limit):
    tasks, sizes, _ = layers(8)
    peak = max(usage(tasks, sizes, ()))
    found = rematerialise(tasks, sizes, (), limit)
    assert len(found.repeated) == -(-(peak - limit) // 40)


def test_what_cannot_be_met_is_told():
    tasks, sizes, _ = layers(4)
    found = rematerialise(tasks, sizes, (), 1)
    assert 1 < found.peak < max(usage(tasks, sizes, ()))


def test_an_overwritten_input_is_not_read_again():
    weight = Memory("weight")
    tasks, sizes, h = layers(1)
    tasks[1].reads = (*tasks[1].reads, weight)
    early = Task(Step(len(tasks)), (), (), 0.0, True, (weight,))
    order = [*tasks[:3], early, *tasks[3:]]
    assert not rematerialise(order, sizes, (), 1).repeated
    late = [*tasks, early]
    assert {m.of for t in rematerialise(late, sizes, (), 1).repeated for m in t.writes} <= {h[0]}


def test_the_gradient_of_a_weight_comes_before_the_gradient_that_goes_on():
    """Note [Frees first]: the activation is dead by the time the large cotangent is made."""
    activation, cotangent, on, weight = map(Memory, ("activation", "cotangent", "on", "weight"))
    sizes = {activation: 100, cotangent: 10, on: 100, weight: 5}
    tasks = [
        Task(Step(0), (), (activation, cotangent)),
        Task(Step(1), (cotangent,), (on,)),
        Task(Step(2), (cotangent, activation), (weight,)),
        Task(Step(3), (on,), ()),
    ]
    order = schedule(tasks, [0, 1, 1, 0b11], sizes, {weight})
    assert [t.step.number for t in order] == [0, 2, 1, 3]
