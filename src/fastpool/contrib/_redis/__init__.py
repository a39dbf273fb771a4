"""What the pools of ``contrib.redis`` and ``contrib.valkey`` are made of; imports neither host."""
