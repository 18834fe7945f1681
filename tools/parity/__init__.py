"""Checks of this package against golden numbers of the official codes."""
