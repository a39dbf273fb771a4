"""Database backends of Django over a pool: one line of ``DATABASES``.

    "ENGINE": "fastpool.contrib.django.postgresql"
    "ENGINE": "fastpool.contrib.django.mysql"

Each is Django's own backend, with ``OPTIONS["pool"]`` as its PostgreSQL backend has it: a dict with
the arguments of psycopg_pool, True for their defaults, which is the default here, or False for no
pool.
"""
