"""What holds for all tests."""

from hypothesis import settings

# An example takes as long as a shared machine makes it take: what may be slow is for the benchmark to say.
settings.register_profile("router", deadline=None)
settings.load_profile("router")
