"""What a process has once: the scheduler, threads, the end of it. Knows no pool."""
