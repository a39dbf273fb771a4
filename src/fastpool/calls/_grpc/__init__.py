"""Policies on the channels of grpcio, for threads and for tasks."""
