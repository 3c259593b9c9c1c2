"""Epilogues of a matrix product on its tiles, as LLVM IR text. See Note [Epilogues] in `matmul`."""

from __future__ import annotations

from flambeau.kernels.emit import Function, Value
from flambeau.kernels.gemm_micro import Form

EPILOGUE = ("epilogues", "records", "hidden", "unit_rows", "strip", "streams", "ahead")
"""Words of a product's descriptor that tell its epilogues: how many, the address of their records,
whether C is not written as a whole, rows that a tile must hold a multiple of, columns that they are
called on at a time; how many tensors they walk as C is walked, and the address of what tells of
these: the address of the word with the tensor's address, bytes of an element.
"""

WITH_EPILOGUE = 2
"""The flag of a descriptor that has these words."""

RECORD = ("finish", "table", "words", "place", "unit_rows", "units", "unit_cols")
"""Words of an epilogue's record: the kernel's body `finish(table, begin, end, worker)`, its table
of so many words, the place of C's address in it or -1; a unit covers `unit_rows` rows by
`unit_cols` columns, `units` of them all columns.
"""

WORDS, EPILOGUES = 256, 4
"""Words an epilogue's table may have, and epilogues a product."""


class Epilogues:
    """What a tile's task does for a product with epilogues. See Note [Epilogues]."""

    NEEDS = (*EPILOGUE, "j0", "last", "n")

    def __init__(self, f: Function, form: Form, given: dict[str, str], v: dict[str, str]) -> None:
        """`given`: the fields of the problem in `NEEDS`; `v`: those that the task has read."""
        self.f, self.form, self.given, self.v = f, form, given, v
        self.count = f.select(f.cmp("ne", given["last"], 0), given["epilogues"], 0)
        self.wanted = f.cmp("ne", self.count, 0)
        self.hidden = f.both(self.wanted, f.cmp("ne", given["hidden"], 0))
        self.records = f.op(f"inttoptr i64 {given['records']} to ptr")
        self.own = f.alloca("i64", EPILOGUES * WORDS)
        room = f.alloca("ptr")
        f.store("ptr", "null", room, 8)
        with f.when(self.hidden):
            f.store("ptr", f.op("call ptr @take_shared()"), room, 8)
            with f.loop(self.count, nonempty=True) as loop:
                record = self.record(loop.index)
                source = f.op(f"inttoptr i64 {record['table']} to ptr")
                own = f.gep("i64", self.own, f.mul(loop.index, WORDS))
                with f.loop(record["words"]) as word:
                    value = f.load("i64", f.gep("i64", source, word.index), 8)
                    f.store("i64", value, f.gep("i64", own, word.index), 8)
        self.room = f.load("ptr", room, 8)

    def record(self, number: Value) -> dict[str, str]:
        """The words of one record."""
        f = self.f
        start = f.gep("i64", self.records, f.mul(number, len(RECORD)))
        return {name: f.load("i64", f.gep("i64", start, n), 8) for n, name in enumerate(RECORD)}

    def tile(self, c: str, top: Value, rows: Value) -> str:
        """Where the tile of `rows` rows from `top` on goes: C itself (`c`) or scratch memory."""
        f, form, v = self.f, self.form, self.v
        self.row = f.add(v["i0"], top)
        self.rows = rows
        with f.when(self.hidden):
            start = f.op(f"ptrtoint ptr {self.room} to i64")
            first = f.sub(start, f.mul(self.row, v["ldc"]))
            with f.loop(self.count, nonempty=True) as loop:
                place = self.record(loop.index)["place"]
                with f.when(f.cmp("sge", place, 0)):
                    word = f.add(f.mul(loop.index, WORDS), place)
                    f.store("i64", first, f.gep("i64", self.own, word), 8)
        inside = f.gep("i8", self.room, f.mul(self.given["j0"], form.stored_size))
        return f.select(self.hidden, inside, c, "ptr")

    def ahead(self, row: Value, column: Value) -> None:
        """Ask for what epilogues walk in the places of the tile at (row, column) of the task's
        tile. Strips of rows are too short for the processor to see what comes next."""
        f, form, given = self.f, self.form, self.given
        place = f.add(f.mul(f.add(self.row, row), given["n"]), f.add(given["j0"], column))
        start = f.op(f"inttoptr i64 {given['ahead']} to ptr")
        with f.loop(f.select(self.wanted, given["streams"], 0)) as loop:
            record = f.gep("i64", start, f.mul(loop.index, 2))
            base = f.load("ptr", f.load("ptr", record, 8), 8)
            size = f.load("i64", f.gep("i64", record, 1), 8)
            at = f.gep("i8", base, f.mul(place, size))
            step, wide = f.mul(given["n"], size), f.sub(f.mul(size, form.nr), 1)
            for _ in range(form.mr):
                f.prefetch(at, near=2)
                f.prefetch(f.gep("i8", at, wide), near=2)
                at = f.gep("i8", at, step)

    def finish(self, left: Value, stop: Value, right: Value) -> None:
        """Call the epilogues if columns [left, stop) of [left, right) end a strip."""
        f, given = self.f, self.given
        strip = f.max(given["strip"], 1)
        strips = f.udiv(f.sub(f.sub(stop, left), 1), strip)
        start = f.add(left, f.mul(strips, strip))
        full = f.cmp("eq", f.sub(stop, start), strip)
        ends = f.either(full, f.cmp("sge", stop, right))
        with f.when(f.both(self.wanted, ends)), f.loop(self.count, nonempty=True) as loop:
            record = self.record(loop.index)
            function = f.op(f"inttoptr i64 {record['finish']} to ptr")
            table = f.op(f"inttoptr i64 {record['table']} to ptr")
            own = f.gep("i64", self.own, f.mul(loop.index, WORDS))
            table = f.select(self.hidden, own, table, "ptr")
            wide, deep = record["unit_cols"], record["unit_rows"]
            low = f.udiv(f.add(given["j0"], start), wide)
            high = f.ceildiv(f.add(given["j0"], stop), wide)
            first = f.udiv(self.row, deep)
            last = f.ceildiv(f.add(self.row, self.rows), deep)
            with f.loop(last, start=first) as row:
                unit = f.mul(row.index, record["units"])
                f.do(
                    f"call void {function}(ptr {table}, i64 {f.add(unit, low)}, "
                    f"i64 {f.add(unit, high)}, i64 %worker)"
                )

    def done(self) -> None:
        """Give back what was taken."""
        f = self.f
        with f.when(self.hidden):
            f.do(f"call void @give_shared(ptr {self.room})")
