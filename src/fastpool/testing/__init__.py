"""For tests of programs that use a pool: a clock to move, a factory that does as it is told.

The fixture for pytest is apart, in ``fastpool.testing.fixtures``: only it needs pytest.
"""

from .clock import ManualClock
from .factory import Call, Resource, ScriptedFactory
from .script import OK, Hang, ScriptError

__all__ = ["OK", "Call", "Hang", "ManualClock", "Resource", "ScriptError", "ScriptedFactory"]
