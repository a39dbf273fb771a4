"""One limit for a service of many processes, on a real PostgreSQL: a rolling deploy, and faults.

    python -m bench.fleet                                   rolling deploy, every way
    python -m bench.fleet --only fastpool --scenario faults
    python -m bench.fleet --plot docs/images/rolling-deploy.svg

Eight processes with 20 threads each use a server that lets 60 connections in. In the deploy
eight new processes start while the old ones work, then the old ones leave. Beside fastpool with a
LocalBudget: psycopg_pool and SQLAlchemy with a static share for each process, once for the eight
that run on most days and once for the sixteen of a deploy. The server counts the connections, by
pg_stat_activity, ten times a second; a refusal is a connection that it did not let in.
"""
