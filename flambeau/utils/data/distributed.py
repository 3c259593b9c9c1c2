"""`torch.utils.data.distributed`: the sampler that shares a dataset between processes."""

from flambeau.data.distributed import DistributedSampler as DistributedSampler
