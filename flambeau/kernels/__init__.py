"""Kernels written out: templates for products, attention, losses and other steps with a form of
their own, beside the regions that `codegen` prints."""
