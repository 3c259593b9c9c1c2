"""Places in memory: nothing alive at the same time overlaps."""

from hypothesis import given
from hypothesis import strategies as st

from flambeau.runtime.layout import Storage, bound, padded, place


def storage(nbytes, first, last, slot=None):
    made = Storage(nbytes)
    made.first, made.last, made.slot = first, last, slot
    return made


lifetimes = st.lists(
    st.tuples(st.integers(0, 400_000), st.integers(0, 30), st.integers(0, 12)), max_size=40
)
results = st.lists(st.tuples(st.integers(0, 600_000), st.integers(0, 40)), max_size=6)


@given(lifetimes, results)
def test_values_alive_together_lie_apart(values, hosts):
    moving = [storage(n, first, first + length) for n, first, length in values]
    unused = storage(100, -1, -1)
    result = [storage(n, first, 50, slot=3 + k) for k, (n, first) in enumerate(hosts)]
    arena = place([*moving, unused, *result], result)
    assert unused.slot is None
    assert unused.offset == 0
    by_slot = {h.slot: h for h in result}
    for s in moving:
        assert s.offset % 64 == 0
        end = s.offset + padded(s.nbytes)
        if s.slot is None:
            assert end <= arena
        else:
            host = by_slot[s.slot]
            assert end <= padded(host.nbytes)
            assert s.last < host.first
    for k, a in enumerate(moving):
        for b in moving[:k]:
            if a.slot == b.slot and a.first <= b.last and b.first <= a.last:
                assert a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset
    at_home = [s for s in moving if s.slot is None]
    assert arena >= bound(at_home)


def test_forward_and_backward_of_a_chain_need_no_more_than_the_bound():
    values = [storage(64 * (k + 1) * 1000, k, 20 - k) for k in range(10)]
    values += [storage(64_000, k, k + 1) for k in range(20)]
    assert place(values) == bound(values)


def test_a_result_is_room_for_what_dies_before_it():
    result = storage(1 << 20, 5, 9, slot=4)
    early = storage(1 << 20, 0, 4)
    assert place([early], [result]) == 0
    assert early.slot == 4
    late = storage(1 << 20, 0, 5)
    assert place([late], [result]) == 1 << 20
