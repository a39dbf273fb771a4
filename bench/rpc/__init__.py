"""Pooled XML-RPC and JSON-RPC beside what people use today: `python -m bench.rpc`."""
