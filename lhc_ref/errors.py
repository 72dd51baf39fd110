"""The failures a user can cause. Whoever catches LhcError catches all of them; anything else is a bug of ours."""


class LhcError(Exception):
    """A failure whose message tells the user what was expected, what came instead, and what to do."""


class ModelFileError(LhcError):
    """A model file that cannot be read, is invalid, or needs a newer version."""


class CheckpointError(LhcError):
    """A training checkpoint that cannot be read or belongs to another run."""


class DataError(LhcError):
    """A data set, image or label that does not fit."""


class ConfigError(LhcError):
    """A setting outside its range, or settings that contradict each other."""


class InputError(LhcError, ValueError):
    """An argument of a library function with the wrong type, dtype, shape or value."""


class MissingExtraError(LhcError):
    """A feature whose optional packages are not installed."""
