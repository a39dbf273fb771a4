"""Shared channels as tasks use them."""
