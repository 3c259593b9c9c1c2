"""The thread pool's native half, as LLVM IR text; see Note [Thread pool] in threads.py."""

from __future__ import annotations

from flambeau.runtime import cpuinfo, profile

MAX_THREADS = 512

# After spinning, a caller that waits for the last chunks yields this often, then sleeps.
_YIELDS = 50

# How many times longer than SPIN a worker spins at most; see Note [Thread pool].
PATIENCE = 10

# Byte offsets in @pool; what different threads write often lies on different pairs of cache lines.
_WORD, _FN, _ARG, _N, _GRAIN, _RANGES, _PER = 0, 128, 136, 144, 152, 160, 168
_LEFT, _BUSY, WORKERS, _WAITING, SPIN, HOOK = 256, 384, 512, 520, 528, 536
# Of a profile: where workers note their times (null: nowhere), for how many workers, how many
# times each.
TIMES, ROWS, CAPACITY = 544, 552, 560
# In nanoseconds: a worker that slept for less would better have gone on spinning.
NAP = 568
_SLOTS, _SLOT = 1024, 512  # then a slot a worker; the caller (slot 0) sleeps there for the others:
_NEXT, _SLEEPING, _MUTEX, _COND = 0, 128, 192, 256
POOL_BYTES = _SLOTS + MAX_THREADS * _SLOT

# In the word; below this bit how many workers joined, from bit 32 on the loop's number.
_OPEN = 1 << 16


def _pause() -> str:
    """What a spinning thread executes, by instruction set."""
    if cpuinfo.machine() == "x86_64":
        return "call void @llvm.x86.sse2.pause()"
    if cpuinfo.machine() == "aarch64":
        return "call void @llvm.aarch64.isb(i32 15)"
    return ""


def _at(offset: int) -> str:
    return f"getelementptr (i8, ptr @pool, i64 {offset})"


_SHARED = f"""
@pool = internal global [{POOL_BYTES} x i8] zeroinitializer, align 128

declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_signal(ptr)
declare i32 @sched_yield()
declare i32 @clock_gettime(i32, ptr)

; Nanoseconds by `profile.clock`.
define i64 @fl_now() nounwind {{
  %t = alloca [2 x i64], align 8
  %r = call i32 @clock_gettime(i32 {profile.CLOCK}, ptr %t)
  %s = load i64, ptr %t
  %p = getelementptr i64, ptr %t, i64 1
  %n = load i64, ptr %p
  %ns = mul i64 %s, 1000000000
  %sum = add i64 %ns, %n
  ret i64 %sum
}}

define ptr @fl_pool_state() nounwind {{
  ret ptr @pool
}}

define internal ptr @slot(i64 %i) alwaysinline nounwind {{
  %o = mul i64 %i, {_SLOT}
  %p = getelementptr i8, ptr getelementptr (i8, ptr @pool, i64 {_SLOTS}), i64 %o
  ret ptr %p
}}

define void @fl_pool_init_slot(i64 %i) nounwind {{
  %s = call ptr @slot(i64 %i)
  %m = getelementptr i8, ptr %s, i64 {_MUTEX}
  %c = getelementptr i8, ptr %s, i64 {_COND}
  %r0 = call i32 @pthread_mutex_init(ptr %m, ptr null)
  %r1 = call i32 @pthread_cond_init(ptr %c, ptr null)
  ret void
}}

; Take the pool for a caller that is not a loop (resizing, stopping): 1 when it was free.
define i64 @fl_pool_try_lock() nounwind {{
  %x = cmpxchg ptr {_at(_BUSY)}, i64 0, i64 1 acquire monotonic
  %ok = extractvalue {{ i64, i1 }} %x, 1
  %r = zext i1 %ok to i64
  ret i64 %r
}}

define void @fl_pool_unlock() nounwind {{
  store atomic i64 0, ptr {_at(_BUSY)} release, align 8
  ret void
}}

; Have workers with indices above `count` return, asleep or not. `awake` is how many there are now.
define void @fl_pool_set_workers(i64 %count, i64 %awake) nounwind {{
entry:
  store atomic i64 %count, ptr {_at(WORKERS)} seq_cst, align 8
  br label %head
head:
  %i = phi i64 [1, %entry], [%i1, %body]
  %more = icmp sle i64 %i, %awake
  br i1 %more, label %body, label %out
body:
  call void @wake(i64 %i)
  %i1 = add i64 %i, 1
  br label %head
out:
  ret void
}}

; How long `count` pauses take is timed to turn microseconds into spins.
define void @fl_pool_spin(i64 %count) nounwind {{
entry:
  br label %head
head:
  %i = phi i64 [0, %entry], [%i1, %head]
  {_pause()}
  %w = load atomic i64, ptr {_at(_WORD)} monotonic, align 8
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %count
  br i1 %more, label %head, label %out
out:
  ret void
}}

define internal void @wake(i64 %i) nounwind {{
entry:
  %s = call ptr @slot(i64 %i)
  %f = getelementptr i8, ptr %s, i64 {_SLEEPING}
  %v = load atomic i64, ptr %f seq_cst, align 8
  %asleep = icmp ne i64 %v, 0
  br i1 %asleep, label %signal, label %out
signal:
  %m = getelementptr i8, ptr %s, i64 {_MUTEX}
  %c = getelementptr i8, ptr %s, i64 {_COND}
  %r0 = call i32 @pthread_mutex_lock(ptr %m)
  %r1 = call i32 @pthread_cond_signal(ptr %c)
  %r2 = call i32 @pthread_mutex_unlock(ptr %m)
  br label %out
out:
  ret void
}}

; Worker i wakes 2i+1 and 2i+2 of those that take part.
define internal void @wake_children(i64 %i, i64 %ranges) nounwind {{
entry:
  %d = shl i64 %i, 1
  %a = add i64 %d, 1
  %b = add i64 %d, 2
  %ia = icmp slt i64 %a, %ranges
  br i1 %ia, label %first, label %out
first:
  call void @wake(i64 %a)
  %ib = icmp slt i64 %b, %ranges
  br i1 %ib, label %second, label %out
second:
  call void @wake(i64 %b)
  br label %out
out:
  ret void
}}

; `work`, and its begin and end in the worker's row of times where a profile listens.
define internal void @share(i64 %worker) nounwind {{
entry:
  %times = load atomic ptr, ptr {_at(TIMES)} acquire, align 8
  %some = icmp ne ptr %times, null
  %rows = load i64, ptr {_at(ROWS)}, align 8
  %known = icmp slt i64 %worker, %rows
  %watched = and i1 %some, %known
  br i1 %watched, label %timed, label %plain
plain:
  call void @work(i64 %worker)
  ret void
timed:
  %capacity = load i64, ptr {_at(CAPACITY)}, align 8
  %pairs = shl i64 %capacity, 1
  %width = add i64 %pairs, 1
  %begin = call i64 @fl_now()
  call void @work(i64 %worker)
  %end = call i64 @fl_now()
  %o = mul i64 %worker, %width
  %row = getelementptr i64, ptr %times, i64 %o
  %count = load i64, ptr %row, align 8
  %room = icmp slt i64 %count, %capacity
  br i1 %room, label %note, label %out
note:
  %twice = shl i64 %count, 1
  %b = add i64 %twice, 1
  %e = add i64 %twice, 2
  %pb = getelementptr i64, ptr %row, i64 %b
  %pe = getelementptr i64, ptr %row, i64 %e
  store i64 %begin, ptr %pb, align 8
  store i64 %end, ptr %pe, align 8
  %count1 = add i64 %count, 1
  store i64 %count1, ptr %row, align 8
  br label %out
out:
  ret void
}}

; Chunks from the own range, then from each of the others', until none is left.
define internal void @work(i64 %worker) nounwind {{
entry:
  %fn = load ptr, ptr {_at(_FN)}, align 8
  %arg = load ptr, ptr {_at(_ARG)}, align 8
  %n = load i64, ptr {_at(_N)}, align 8
  %grain = load i64, ptr {_at(_GRAIN)}, align 8
  %ranges = load i64, ptr {_at(_RANGES)}, align 8
  %per = load i64, ptr {_at(_PER)}, align 8
  br label %range
range:
  %k = phi i64 [0, %entry], [%k1, %next_range]
  %r0 = add i64 %worker, %k
  %wrap = icmp sge i64 %r0, %ranges
  %r1 = sub i64 %r0, %ranges
  %r = select i1 %wrap, i64 %r1, i64 %r0
  %rn = add i64 %r, 1
  %e0 = mul i64 %rn, %per
  %e1 = icmp slt i64 %e0, %n
  %end = select i1 %e1, i64 %e0, i64 %n
  %s = call ptr @slot(i64 %r)
  br label %look
look:
  %seen = load atomic i64, ptr %s monotonic, align 8
  %some = icmp slt i64 %seen, %end
  br i1 %some, label %take, label %next_range
take:
  %b = atomicrmw add ptr %s, i64 %grain monotonic
  %got = icmp slt i64 %b, %end
  br i1 %got, label %chunk, label %next_range
chunk:
  %be = add i64 %b, %grain
  %over = icmp slt i64 %be, %end
  %e = select i1 %over, i64 %be, i64 %end
  call void %fn(ptr %arg, i64 %b, i64 %e, i64 %worker)
  br label %look
next_range:
  %k1 = add i64 %k, 1
  %last = icmp eq i64 %k1, %ranges
  br i1 %last, label %out, label %range
out:
  ret void
}}
"""

_PARALLEL_FOR = f"""
define void @fl_parallel_for(ptr %fn, ptr %arg, i64 %n, i64 %grain0) nounwind {{
entry:
  %empty = icmp sle i64 %n, 0
  br i1 %empty, label %out, label %some
some:
  %gp = icmp sgt i64 %grain0, 1
  %grain = select i1 %gp, i64 %grain0, i64 1
  %small = icmp sle i64 %n, %grain
  br i1 %small, label %inline, label %large
large:
  ; The hook is there until the threads are; then the number of workers says whether to share.
  %hook0 = load atomic ptr, ptr {_at(HOOK)} acquire, align 8
  %unstarted = icmp ne ptr %hook0, null
  %w0 = load atomic i64, ptr {_at(WORKERS)} monotonic, align 8
  %have = icmp sgt i64 %w0, 0
  %use = or i1 %unstarted, %have
  br i1 %use, label %lock, label %inline
lock:
  %held = load atomic i64, ptr {_at(_BUSY)} monotonic, align 8
  %idle = icmp eq i64 %held, 0
  br i1 %idle, label %lock2, label %inline
lock2:
  %x = cmpxchg ptr {_at(_BUSY)}, i64 0, i64 1 acquire monotonic
  %mine = extractvalue {{ i64, i1 }} %x, 1
  br i1 %mine, label %locked, label %inline
locked:
  %hook = load atomic ptr, ptr {_at(HOOK)} acquire, align 8
  %start = icmp ne ptr %hook, null
  br i1 %start, label %start_threads, label %started
start_threads:
  call void %hook()
  br label %started
started:
  %workers = load atomic i64, ptr {_at(WORKERS)} acquire, align 8
  %alone = icmp sle i64 %workers, 0
  br i1 %alone, label %unlock_inline, label %publish
unlock_inline:
  store atomic i64 0, ptr {_at(_BUSY)} release, align 8
  br label %inline
inline:
  call void %fn(ptr %arg, i64 0, i64 %n, i64 0)
  br label %out
publish:
  %t0 = sub i64 %n, 1
  %t1 = udiv i64 %t0, %grain
  %chunks = add i64 %t1, 1
  %threads = add i64 %workers, 1
  %fewer = icmp slt i64 %chunks, %threads
  %ranges = select i1 %fewer, i64 %chunks, i64 %threads
  %c0 = add i64 %chunks, %ranges
  %c1 = sub i64 %c0, 1
  %c2 = udiv i64 %c1, %ranges
  %per = mul i64 %c2, %grain
  store ptr %fn, ptr {_at(_FN)}, align 8
  store ptr %arg, ptr {_at(_ARG)}, align 8
  store i64 %n, ptr {_at(_N)}, align 8
  store i64 %grain, ptr {_at(_GRAIN)}, align 8
  store atomic i64 %ranges, ptr {_at(_RANGES)} monotonic, align 8
  store i64 %per, ptr {_at(_PER)}, align 8
  store atomic i64 0, ptr {_at(_LEFT)} monotonic, align 8
  br label %counters
counters:
  %i = phi i64 [0, %publish], [%i1, %counters]
  %begin = mul i64 %i, %per
  %s = call ptr @slot(i64 %i)
  store atomic i64 %begin, ptr %s monotonic, align 8
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %ranges
  br i1 %more, label %counters, label %open
open:
  %old = load atomic i64, ptr {_at(_WORD)} monotonic, align 8
  %number = lshr i64 %old, 32
  %number1 = add i64 %number, 1
  %high = shl i64 %number1, 32
  %word = or i64 %high, {_OPEN}
  store atomic i64 %word, ptr {_at(_WORD)} seq_cst, align 8
  call void @wake_children(i64 0, i64 %ranges)
  call void @share(i64 0)
  %closed = atomicrmw and ptr {_at(_WORD)}, i64 {~_OPEN} acq_rel
  %joined = and i64 %closed, {_OPEN - 1}
  %spins = load i64, ptr {_at(SPIN)}, align 8
  %patience = add i64 %spins, {_YIELDS}
  br label %wait
wait:
  %spin = phi i64 [0, %open], [%spin1, %pause], [%spin1, %yield]
  %left = load atomic i64, ptr {_at(_LEFT)} acquire, align 8
  %done = icmp eq i64 %left, %joined
  br i1 %done, label %finish, label %still
still:
  %spin1 = add i64 %spin, 1
  %brisk = icmp slt i64 %spin, %spins
  br i1 %brisk, label %pause, label %tired
tired:
  %gone = icmp sge i64 %spin, %patience
  br i1 %gone, label %sleep, label %yield
pause:
  {_pause()}
  br label %wait
yield:
  ; The one waited for may have been put on this very processor.
  %y = call i32 @sched_yield()
  br label %wait
sleep:
  %s0 = call ptr @slot(i64 0)
  %m = getelementptr i8, ptr %s0, i64 {_MUTEX}
  %c = getelementptr i8, ptr %s0, i64 {_COND}
  %l0 = call i32 @pthread_mutex_lock(ptr %m)
  %q0 = atomicrmw xchg ptr {_at(_WAITING)}, i64 1 seq_cst
  br label %sleeping
sleeping:
  %left2 = load atomic i64, ptr {_at(_LEFT)} seq_cst, align 8
  %done2 = icmp eq i64 %left2, %joined
  br i1 %done2, label %slept, label %doze
doze:
  %l1 = call i32 @pthread_cond_wait(ptr %c, ptr %m)
  br label %sleeping
slept:
  store atomic i64 0, ptr {_at(_WAITING)} monotonic, align 8
  %l2 = call i32 @pthread_mutex_unlock(ptr %m)
  br label %finish
finish:
  store atomic i64 0, ptr {_at(_BUSY)} release, align 8
  br label %out
out:
  ret void
}}
"""

_WORKER = f"""
; The life of worker i (from 1 on); returns when there are to be fewer workers than i.
define void @fl_pool_worker(i64 %i) nounwind {{
entry:
  %s = call ptr @slot(i64 %i)
  %flag = getelementptr i8, ptr %s, i64 {_SLEEPING}
  %m = getelementptr i8, ptr %s, i64 {_MUTEX}
  %c = getelementptr i8, ptr %s, i64 {_COND}
  %patience = alloca i64, align 8
  %brief = load i64, ptr {_at(SPIN)}, align 8
  store i64 %brief, ptr %patience, align 8
  br label %idle
idle:
  %seen = phi i64 [-1, %entry], [%number, %late], [%number, %unneeded],
                  [%number, %leave], [%number, %signalled]
  %spins = load i64, ptr %patience, align 8
  br label %spin
spin:
  %k = phi i64 [0, %idle], [%k1, %pause]
  %w = load atomic i64, ptr {_at(_WORD)} acquire, align 8
  %num = lshr i64 %w, 32
  %new = icmp ne i64 %num, %seen
  br i1 %new, label %awake, label %still
still:
  %k1 = add i64 %k, 1
  %tired = icmp sgt i64 %k, %spins
  br i1 %tired, label %sleep, label %pause
pause:
  {_pause()}
  br label %spin
sleep:
  %from = call i64 @fl_now()
  %l0 = call i32 @pthread_mutex_lock(ptr %m)
  %x0 = atomicrmw xchg ptr %flag, i64 1 seq_cst
  br label %sleeping
sleeping:
  %w2 = load atomic i64, ptr {_at(_WORD)} seq_cst, align 8
  %num2 = lshr i64 %w2, 32
  %new2 = icmp ne i64 %num2, %seen
  %limit = load atomic i64, ptr {_at(WORKERS)} seq_cst, align 8
  %gone = icmp sgt i64 %i, %limit
  %stop = or i1 %new2, %gone
  br i1 %stop, label %slept, label %doze
doze:
  %l1 = call i32 @pthread_cond_wait(ptr %c, ptr %m)
  br label %sleeping
slept:
  store atomic i64 0, ptr %flag seq_cst, align 8
  %l2 = call i32 @pthread_mutex_unlock(ptr %m)
  br i1 %gone, label %out, label %rested
rested:
  %to = call i64 @fl_now()
  %slept_ns = sub i64 %to, %from
  %nap = load i64, ptr {_at(NAP)}, align 8
  %early = icmp slt i64 %slept_ns, %nap
  %tried = icmp ne i64 %spins, %brief
  %vain = xor i1 %tried, true
  %longer = and i1 %early, %vain
  %long = mul i64 %brief, {PATIENCE}
  %next_spins = select i1 %longer, i64 %long, i64 %brief
  store i64 %next_spins, ptr %patience, align 8
  br label %awake
awake:
  %word = load atomic i64, ptr {_at(_WORD)} acquire, align 8
  %number = lshr i64 %word, 32
  %ob = and i64 %word, {_OPEN}
  %open = icmp ne i64 %ob, 0
  br i1 %open, label %needed, label %late
late:
  br label %idle
needed:
  ; Read before joining: if another loop came between, the exchange below fails.
  %ranges = load atomic i64, ptr {_at(_RANGES)} monotonic, align 8
  %in = icmp slt i64 %i, %ranges
  br i1 %in, label %join, label %unneeded
unneeded:
  br label %idle
join:
  %word1 = add i64 %word, 1
  %x = cmpxchg ptr {_at(_WORD)}, i64 %word, i64 %word1 acq_rel monotonic
  %ok = extractvalue {{ i64, i1 }} %x, 1
  br i1 %ok, label %joined, label %awake
joined:
  call void @wake_children(i64 %i, i64 %ranges)
  call void @share(i64 %i)
  %x1 = atomicrmw add ptr {_at(_LEFT)}, i64 1 seq_cst
  %waiting = load atomic i64, ptr {_at(_WAITING)} seq_cst, align 8
  %asked = icmp ne i64 %waiting, 0
  br i1 %asked, label %signalled, label %leave
signalled:
  %s0 = call ptr @slot(i64 0)
  %m0 = getelementptr i8, ptr %s0, i64 {_MUTEX}
  %c0 = getelementptr i8, ptr %s0, i64 {_COND}
  %l3 = call i32 @pthread_mutex_lock(ptr %m0)
  %l4 = call i32 @pthread_cond_signal(ptr %c0)
  %l5 = call i32 @pthread_mutex_unlock(ptr %m0)
  br label %idle
leave:
  br label %idle
out:
  ret void
}}
"""

TEXT = _SHARED + _PARALLEL_FOR + _WORKER
"""The module; it needs the C library only."""
