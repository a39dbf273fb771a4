"""A plugin of pytest for DBUtils' own tests: its PooledDB becomes ours."""

from __future__ import annotations

from dbutils import pooled_db

from fastpool.contrib.dbapi import PooledDB

pooled_db.PooledDB = PooledDB
