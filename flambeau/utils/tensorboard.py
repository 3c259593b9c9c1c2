"""The event-file writer by the name torch's programs import it under."""

from flambeau.tensorboard import SummaryWriter

__all__ = ["SummaryWriter"]
