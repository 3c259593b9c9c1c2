"""Compiling, linking and unloading; what the code may call; what the cache on disk does for it."""

import ctypes
import gc
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from flambeau.runtime import cpuinfo, jit, objects

i64 = ctypes.c_int64


def constant(number: int, name: str = "f") -> str:
    return f"define i64 @{name}() {{\n  ret i64 {number}\n}}\n"


def value(library: jit.Library, name: str = "f") -> int:
    return library.function(name, i64)()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    own = objects.ObjectCache(tmp_path / "objects")
    monkeypatch.setattr(objects, "default", lambda: own)
    return own


@pytest.mark.parametrize("optimize", [False, True])
def test_functions_constants_and_the_c_library(optimize):
    library = jit.load(
        """
        @text = internal constant [6 x i8] c"hello\\00"
        @table = internal constant <8 x float> splat (float 0.5)
        @counter = internal global i64 40
        declare i64 @strlen(ptr)
        declare double @cos(double)
        declare <8 x float> @llvm.fma.v8f32(<8 x float>, <8 x float>, <8 x float>)
        define internal i64 @hidden(i64 %x) alwaysinline { %y = add i64 %x, 1
          ret i64 %y }
        define i64 @length() { %n = call i64 @strlen(ptr @text)
          ret i64 %n }
        define double @cosine(double %x) { %y = call double @cos(double %x)
          ret double %y }
        define i64 @next() { %v = load i64, ptr @counter
          %w = call i64 @hidden(i64 %v)
          store i64 %w, ptr @counter
          ret i64 %w }
        define float @half(float %x) {
          %a = insertelement <8 x float> poison, float %x, i32 0
          %t = load <8 x float>, ptr @table
          %b = call <8 x float> @llvm.fma.v8f32(<8 x float> %a, <8 x float> %t, <8 x float> %t)
          %c = extractelement <8 x float> %b, i32 0
          ret float %c }
        define void @"odd name.1"() { ret void }
        """,
        "everything",
        optimize,
    )
    assert value(library, "length") == 5
    assert library.function("cosine", ctypes.c_double, ctypes.c_double)(0.0) == 1.0
    assert [value(library, "next"), value(library, "next")] == [41, 42]
    assert library.function("half", ctypes.c_float, ctypes.c_float)(3.0) == 2.0
    assert library.address("odd name.1")
    with pytest.raises(KeyError, match=r"'everything' has no function 'hidden'.*length"):
        library.address("hidden")


def test_the_same_text_is_one_library():
    first = jit.load(constant(1))
    assert jit.load(constant(1)) is first
    assert jit.load(constant(1), optimize=True) is not first
    assert jit.load(constant(2)) is not first
    libraries = jit.load_many([constant(5), constant(1), constant(5)])
    assert libraries[1] is first
    assert libraries[0] is libraries[2]
    assert [value(library) for library in libraries] == [5, 1, 5]


def test_symbols_offered_and_added(monkeypatch):
    callback = ctypes.CFUNCTYPE(i64)(lambda: 77)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    monkeypatch.setitem(jit._provided, "fl_test_offered", lambda: address)
    cpuinfo.llvm().add_symbol("fl_test_added", address)
    for name in ("fl_test_offered", "fl_test_added"):
        library = jit.load(f"""
            declare i64 @{name}()
            define i64 @f() {{ %v = call i64 @{name}()
              ret i64 %v }}
        """)
        assert value(library) == 77


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("define void @f() {", "module 'wrong'.*end of file"),
        ("define i32 @f() { ret i64 0 }", "module 'wrong'.*result type"),
        (
            "define i64 @f(i1 %c) {\nentry:\n  br i1 %c, label %a, label %b\n"
            "a:\n  %x = add i64 1, 1\n  br label %b\nb:\n  ret i64 %x\n}",
            "module 'wrong'.*dominate",
        ),
        (
            "declare void @fl_no_such_function()\n"
            "define void @f() {\n  call void @fl_no_such_function()\n  ret void\n}",
            "'wrong': it calls fl_no_such_function",
        ),
    ],
)  # fmt: skip
def test_wrong_ir_is_an_error_that_says_where(text, message):
    for _ in range(2):
        with pytest.raises(RuntimeError, match=f"(?s){message}"):
            jit.load(text, "wrong")
    assert value(jit.load(constant(3))) == 3


def test_error_in_one_of_many():
    texts = [constant(100 + index) for index in range(5)]
    with pytest.raises(RuntimeError, match="invalid LLVM IR"):
        jit.load_many([*texts, "define nonsense"])
    assert [value(library) for library in jit.load_many(texts)] == [100, 101, 102, 103, 104]


def kernel(index: int) -> str:
    steps = "\n".join(
        f"  %v{k + 1} = fmul <8 x float> %v{k}, splat (float {k + index}.0)" for k in range(40)
    )
    return f"""
define void @k{index}(ptr %p) {{
  %v0 = load <8 x float>, ptr %p, align 4
{steps}
  store <8 x float> %v40, ptr %p, align 4
  ret void
}}
"""


def test_compiling_side_by_side_gives_the_same_code():
    texts = [kernel(index) for index in range(12)]
    alone = [jit.compile_object(text) for text in texts]
    assert jit._compile_all(texts, "", False) == alone
    together = [None] * 4

    def work(index: int) -> None:
        together[index] = [jit.compile_object(text) for text in texts]

    workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(result == alone for result in together)


def test_loading_on_several_threads():
    results = [None] * 4

    def work(index: int) -> None:
        libraries = [jit.load(constant(1000 + k % 10)) for k in range(40)]
        results[index] = [value(library) for library in libraries]

    workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(result == [1000 + k % 10 for k in range(40)] for result in results)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_code_goes_with_its_library():
    def mapped(address: int) -> bool:
        with open("/proc/self/maps") as maps:
            ranges = (line.split()[0].split("-") for line in maps)
            return any(int(low, 16) <= address < int(high, 16) for low, high in ranges)

    # larger than two pages, so that nothing else can lie there
    stores = "".join(f"  store volatile i64 {k}, ptr %p\n" for k in range(3000))
    library = jit.load(f"define i64 @g(ptr %p) {{\n{stores}  ret i64 0\n}}\n")
    address = library.address("g") + 8192
    assert mapped(address)
    del library
    gc.collect()
    assert not mapped(address)


def test_object_comes_from_the_cache(cache, monkeypatch):
    assert value(jit.load(constant(31337))) == 31337
    assert (cache.counts.misses, cache.counts.stored, cache.counts.hits) == (1, 1, 0)
    gc.collect()

    def refuse(*arguments):
        raise AssertionError("compiled again")

    monkeypatch.setattr(jit, "compile_object", refuse)
    assert value(jit.load(constant(31337))) == 31337
    assert cache.counts.hits == 1


def test_corrupt_object_is_compiled_again(cache):
    assert value(jit.load(constant(31338))) == 31338
    (file,) = cache.directory.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1], whole[:200] + b"\xff" + whole[201:]):
        assert damaged != whole
        file.write_bytes(damaged)
        gc.collect()
        assert value(jit.load(constant(31338))) == 31338
        assert file.read_bytes() == whole


@pytest.mark.parametrize("level", ["avx2", "avx512", "generic"])
def test_restricted_processor(level):
    if cpuinfo.machine() != "x86_64":
        pytest.skip("levels of x86")
    script = textwrap.dedent("""
        import ctypes
        from flambeau.runtime import cpuinfo, jit
        print(cpuinfo.cpu_name(), cpuinfo.vector_bytes())
        print(*sorted(cpuinfo.host_features()))
        v = "<16 x float>"
        text = f"define {v} @f({v} %x) {{ %y = fadd {v} %x, %x ret {v} %y }}"
        print("zmm" in jit.assembly(text), "ymm" in jit.assembly(text))
        code = jit.load("define i64 @f(i64 %x) { %y = add i64 %x, 1 ret i64 %y }")
        assert code.function("f", ctypes.c_int64, ctypes.c_int64)(4) == 5
    """)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False,
        env={**os.environ, "FLAMBEAU_CPU": level},
    )  # fmt: skip
    if "this processor lacks" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    first, second, uses = done.stdout.splitlines()
    name, width = first.split()
    features = second.split()
    assert name == {"avx2": "x86-64-v3", "avx512": "x86-64-v4", "generic": "x86-64"}[level]
    assert int(width) == {"avx2": 32, "avx512": 64, "generic": 16}[level]
    assert ("avx512f" in features) == (level == "avx512")
    assert ("avx2" in features) == (level != "generic")
    assert "avx512bf16" not in features
    assert uses == {"avx2": "False True", "avx512": "True False", "generic": "False False"}[level]


def test_unknown_processor_level():
    done = subprocess.run(
        [sys.executable, "-c", "from flambeau.runtime import cpuinfo; cpuinfo.host_features()"],
        capture_output=True, text=True, check=False, env={**os.environ, "FLAMBEAU_CPU": "fast"},
    )  # fmt: skip
    assert done.returncode != 0
    message = "FLAMBEAU_CPU must be one of native, generic, avx2, avx512, but got 'fast'"
    assert message in done.stderr


def test_what_the_machine_is():
    assert cpuinfo.vector_bytes() in (16, 32, 64)
    assert 1 <= cpuinfo.physical_cores() <= cpuinfo.available_cpus() <= (os.cpu_count() or 1)
    level1, level2, level3 = cpuinfo.cache_sizes()
    assert 8 << 10 <= level1 <= 1 << 20
    assert level1 < level2
    assert level3 == 0 or level3 >= level2
    assert cpuinfo.model_name()
    assert isinstance(cpuinfo.host_features(), frozenset)


def test_importing_does_not_load_the_compiler():
    script = (
        "import sys\n"
        "from flambeau.runtime import cpuinfo, jit, memory, objects, threads\n"
        "assert threads.get_num_threads() >= 1\n"
        "memory.Buffer(10)\n"
        "assert 'llvmlite' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
