"""A stand-in for CuPy without a GPU: arrays that NumPy's own functions refuse, and a module that mirrors them.

As with CuPy, nothing passes between the two kinds but by `asarray` and `asnumpy`: an operator that names NumPy, or
mixes arrays of both kinds, fails. The numbers themselves are NumPy's, so that results can be compared bit for bit.
"""

import operator
from types import ModuleType, SimpleNamespace

import numpy as np

BINARY = "add sub mul truediv floordiv mod pow matmul and or xor lt le eq ne gt ge".split()
IN_PLACE = "add sub mul truediv and or xor".split()
METHODS = (
    "all any argmax argmin argsort astype conj copy max mean min ravel repeat reshape sum swapaxes transpose".split()
)


class ndarray:  # noqa: N801 - the name that CuPy gives it
    """An array of the device."""

    __array_ufunc__ = None  # NumPy's operators give way

    def __init__(self, values):
        self._values = values

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_function__(self, function, *args):
        raise TypeError(f"numpy.{function.__name__} was called with an array of the device.")

    def __getitem__(self, index):
        return wrap(self._values[own(index)])

    def __setitem__(self, index, value):
        self._values[own(index)] = own(value)

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return map(wrap, self._values)

    def __float__(self):
        return float(self._values)

    def __int__(self):
        return int(self._values)

    def __bool__(self):
        return bool(self._values)

    def __neg__(self):
        return wrap(-self._values)

    def __invert__(self):
        return wrap(~self._values)

    def __abs__(self):
        return wrap(abs(self._values))

    def __getattr__(self, name):
        if name in ("shape", "dtype", "ndim", "size", "nbytes"):
            return getattr(self._values, name)
        if name in ("T", "real", "imag"):
            return wrap(getattr(self._values, name))
        if name in METHODS:
            return mirrored(getattr(self._values, name))
        raise AttributeError(name)


def own(value):
    """What NumPy is handed for a value: the arrays in it unpacked, arrays of NumPy's own refused."""
    if isinstance(value, ndarray):
        return value._values
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type: numpy.ndarray")
    if isinstance(value, tuple | list):
        return type(value)(map(own, value))
    return value


def wrap(value):
    """What comes from NumPy as arrays of the device; a scalar becomes one without axes, as on a GPU."""
    return ndarray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


def mirrored(function):
    """A function of NumPy for arrays of the device."""
    return lambda *args, **options: wrap(function(*own(args), **{name: own(value) for name, value in options.items()}))


def _binary(name):
    plain = getattr(operator, f"{name}_" if name in ("and", "or") else name)
    setattr(ndarray, f"__{name}__", lambda self, other: wrap(plain(self._values, own(other))))
    setattr(ndarray, f"__r{name}__", lambda self, other: wrap(plain(own(other), self._values)))


def _in_place(name):
    plain = getattr(operator, f"i{name}")

    def change(self, other):
        self._values = plain(self._values, own(other))
        return self

    setattr(ndarray, f"__i{name}__", change)


for _name in BINARY:
    _binary(_name)
for _name in IN_PLACE:
    _in_place(_name)


class Module(ModuleType):
    """Mirrors a module of NumPy: its functions and modules by name, types and numbers as they are."""

    def __init__(self, name, plain):
        super().__init__(name)
        self._plain = plain

    def __getattr__(self, name):
        found = getattr(self._plain, name)
        if isinstance(found, ModuleType):
            return Module(name, found)
        return found if isinstance(found, type) or not callable(found) else mirrored(found)


def make():
    """The module, to be put in CuPy's place in `sys.modules`, where `namespace` looks for it."""
    module = Module("cupy", np)
    module.ndarray = ndarray
    module.asarray = lambda a, dtype=None: a if isinstance(a, ndarray) else ndarray(np.array(a, dtype=dtype))
    module.asnumpy = lambda a: a._values.copy()
    module.cuda = SimpleNamespace(is_available=lambda: True)
    return module


ndarray.__module__ = "cupy"
