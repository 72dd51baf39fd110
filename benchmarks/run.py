"""Times the runtime beside other engines, every answer checked first: ``python -m benchmarks.run``.

It is the benchmark `speed` of ``python -m benchmarks.sweep``: the nets whose speed is held to limits.
"""

import sys

from benchmarks import sweep
from lhc_ref import command

if __name__ == "__main__":
    sys.exit(command.run(lambda: sweep.main("speed")))
