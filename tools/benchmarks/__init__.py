"""Measurements of losses, encoders, training steps and trainings."""
