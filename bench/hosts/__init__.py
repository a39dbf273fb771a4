"""Each host with its own pool and with ours, on real servers."""
