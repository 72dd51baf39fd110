"""Settings for every test: how many examples Hypothesis draws and when."""

import os
import signal

from hypothesis import Phase, settings

# No deadline: the first example of a test may compile a kernel. `long` draws far more, and not the same each time.
settings.register_profile("quick", deadline=None, derandomize=True, max_examples=40)
settings.register_profile("long", deadline=None, max_examples=1000)
# Where a failure is expected and its smallest example is of no interest.
settings.register_profile("unshrunk", settings.get_profile("quick"), phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell's background job ignores it, and so would every process that a test starts in order to interrupt it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
