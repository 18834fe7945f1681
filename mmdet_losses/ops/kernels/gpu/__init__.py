"""Triton kernels; only code that works on a GPU imports these modules."""
