"""Pipeline parallelism, each rank having some pieces of a model: `torch.distributed.pipelining`.

`pipeline` cuts a model into stages; a schedule runs micro-batches through those of all ranks.
"""

from flambeau.distributed.pipelining._IR import Pipe, SplitPoint, pipe_split, pipeline
from flambeau.distributed.pipelining.schedules import (
    Schedule1F1B,
    ScheduleDualPipeV,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
    ScheduleInterleavedZeroBubble,
    ScheduleLoopedBFS,
    ScheduleZBVZeroBubble,
    get_schedule_class,
)
from flambeau.distributed.pipelining.stage import PipelineStage

__all__ = [
    "Pipe",
    "PipelineStage",
    "Schedule1F1B",
    "ScheduleDualPipeV",
    "ScheduleGPipe",
    "ScheduleInterleaved1F1B",
    "ScheduleInterleavedZeroBubble",
    "ScheduleLoopedBFS",
    "ScheduleZBVZeroBubble",
    "SplitPoint",
    "get_schedule_class",
    "pipe_split",
    "pipeline",
]
