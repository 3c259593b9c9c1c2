"""Symbolic sizes: expressions, what is asked of them, and when answers hold for other sizes."""

from __future__ import annotations

import copy
import math
import operator
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flambeau.ir.symbol import Symbols, SymFloat, SymInt, at_hand, factors, fixed


def guards(symbols: Symbols) -> list[str]:
    return list(map(str, symbols.guards.values()))


def test_arithmetic_gives_expressions_that_hold_for_other_sizes() -> None:
    with Symbols() as symbols:
        b, t = symbols.symbol(8, "B"), symbols.symbol(64, "T")
        made = [b * t, math.prod((b, t, 3)), t - 1, 2 * t + b, -(-t // 16), (b * t) % 48, t**2]
    unknowns = symbols.values([5, 37])
    assert unknowns is not None
    found = [n.expression.value(unknowns) for n in made if isinstance(n, SymInt)]
    assert found == [5 * 37, 5 * 37 * 3, 36, 79, 3, (5 * 37) % 48, 37**2]
    assert [int(n) for n in made] == [512, 1536, 63, 136, 4, 32, 4096]


def test_what_follows_from_sizes_leaves_no_guard() -> None:
    with Symbols() as symbols:
        b, t = symbols.symbol(8), symbols.symbol(64)
        n = b * t * 384
        assert n > 1
        assert b >= 2
        assert n != 0
        assert n > t
        assert n % (t * 384) == 0
        assert n // (t * 384) == b
        assert t - t == 0
        assert type(t - t) is int
        assert b * 2 != 1
    assert guards(symbols) == []


def test_answers_become_guards() -> None:
    with Symbols() as symbols:
        t = symbols.symbol(64, "T")
        assert t <= 128
        assert t % 16 == 0
        assert t != 48
    assert guards(symbols) == ["T <= 128", "(T % 16) == 0", "T != 48"]
    assert symbols.values([96]) is not None
    assert symbols.values([144]) is None
    assert symbols.values([100]) is None
    assert symbols.values([48]) is None
    assert symbols.values([1]) is None


@pytest.mark.parametrize(
    "use",
    [str, "{}".format, int, float, math.sqrt, lambda n: [0] * n, lambda n: n & 3, lambda n: 2**n],
)
def test_where_a_size_cannot_be_followed_it_is_fixed(use: object) -> None:
    with Symbols() as symbols:
        t = symbols.symbol(16, "T")
        assert use(t) == use(16)  # type: ignore[operator]
    assert guards(symbols) == ["T == 16"]


def test_ratios_are_numbers_of_their_sizes() -> None:
    with Symbols() as symbols:
        t = symbols.symbol(16, "T")
        x = 1 / t * 2.0 + 0.5
        assert isinstance(x, SymFloat)
        assert not symbols.guards
        assert x.at([5]) == 1 / 5 * 2.0 + 0.5
        assert x > 0.1
    assert guards(symbols) == ["T == 16"]


def test_outside_they_are_plain_integers() -> None:
    symbols = Symbols()
    t = symbols.symbol(16)
    assert t == 16
    assert hash(t) == hash(16)
    assert {16: 1}[t] == 1
    assert str(t) == "16"
    assert type(t + 1) is int
    assert copy.deepcopy(t) == 16
    assert type(pickle.loads(pickle.dumps(t))) is int
    assert not symbols.guards


def test_equal_sizes_are_not_found_as_one_another() -> None:
    with Symbols() as symbols:
        a, b = symbols.symbol(16), symbols.symbol(16)
        assert len({a, b, 16}) == 3
        assert len({a * b, b * a}) == 1
    assert not symbols.guards


def test_factors_divide_whatever_the_size_is() -> None:
    with Symbols() as symbols:
        t = symbols.symbol(64, "T")
        found = factors(12 * t, 100)
        assert sorted(map(at_hand, found)) == [1, 2, 3, 4, 6, 12, 64]
        assert factors(t + 1, 100) == []
        assert fixed(7) == 7
    assert not symbols.guards


_OPERATIONS = (operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod)
_QUESTIONS = (operator.eq, operator.lt, operator.le, operator.gt, operator.ne)


@given(st.data())
def test_guards_are_all_that_must_hold(data: st.DataObject) -> None:
    """Programs of integers: for sizes whose guards hold they give the same answers."""
    steps = data.draw(
        st.lists(
            st.tuples(st.sampled_from(range(7)), st.integers(0, 9), st.integers(0, 9)), max_size=12
        )
    )
    asked = data.draw(
        st.lists(st.tuples(st.sampled_from(range(5)), st.integers(0, 9), st.integers(0, 9)))
    )

    def run(a: int, b: int) -> tuple[list[int], list[bool]]:
        known = [a, b, 3, 4]
        for which, i, j in steps:
            x, y = known[i % len(known)], known[j % len(known)]
            if which < len(_OPERATIONS) and (which < 3 or y > 0):
                known.append(_OPERATIONS[which](x, y))
        pairs = ((q, known[i % len(known)], known[j % len(known)]) for q, i, j in asked)
        return known, [bool(_QUESTIONS[q](x, y)) for q, x, y in pairs]

    sizes = st.integers(2, 40)
    symbols = Symbols()
    with symbols:
        values, answers = run(symbols.symbol(data.draw(sizes)), symbols.symbol(data.draw(sizes)))
    for _ in range(5):
        other = data.draw(sizes), data.draw(sizes)
        unknowns = symbols.values(other)
        if unknowns is None:
            continue
        expected, said = run(*other)
        assert said == answers
        found = [n.expression.value(unknowns) if isinstance(n, SymInt) else n for n in values]
        assert found == expected
