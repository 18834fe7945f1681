"""Distributions of augmented draws: recording them and comparing them with official ones."""
