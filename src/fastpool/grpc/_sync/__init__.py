"""Shared channels as threads use them."""
