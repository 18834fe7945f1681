"""The sections of tools/benchmark_losses.py."""
