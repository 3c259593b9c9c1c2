"""Where a program's time and memory go: torch.profiler's interface, and kernels beside limits.

with profile(record_shapes=True) as prof:
    step()
print(prof.key_averages().table(sort_by="self_cpu_time_total"))
print(prof.kernels().table())
prof.export_chrome_trace("trace.json")
prof.export_roofline("roofline.html")
"""

from flambeau.profiler.events import EventList, FunctionEvent, FunctionEventAvg
from flambeau.profiler.holdings import Holding, MemoryPeak
from flambeau.profiler.kernels import KernelAverage, KernelList
from flambeau.profiler.session import (
    ProfilerAction,
    ProfilerActivity,
    _KinetoProfile,
    kineto_available,
    profile,
    record_function,
    schedule,
    supported_activities,
    tensorboard_trace_handler,
)

__all__ = [
    "EventList",
    "FunctionEvent",
    "FunctionEventAvg",
    "Holding",
    "KernelAverage",
    "KernelList",
    "MemoryPeak",
    "ProfilerAction",
    "ProfilerActivity",
    "_KinetoProfile",
    "kineto_available",
    "profile",
    "record_function",
    "schedule",
    "supported_activities",
    "tensorboard_trace_handler",
]
