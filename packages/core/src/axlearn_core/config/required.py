"""REQUIRED: the value of a field that nobody has set yet."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from axlearn_core.config.errors import RequiredUsedError


class _Required:
    """A placeholder that may be stored and compared by identity; any other use explains itself."""

    def __repr__(self) -> str:
        return "REQUIRED"

    def __copy__(self) -> _Required:
        return self

    def __deepcopy__(self, memo: object) -> _Required:
        return self

    def __reduce__(self) -> str:
        return "REQUIRED"

    def _explain(self, *args: object, **kwargs: object) -> NoReturn:
        raise RequiredUsedError(
            "a REQUIRED config value was used before it was set. Set the field first "
            "(cfg.<field> = value, or cfg.set(<field>=value)); missing(cfg) lists what is unset."
        )

    def __getattr__(self, name: str) -> Any:
        # Protocol probes (copy, pickle, numpy) look dunder names up and expect AttributeError.
        if name.startswith("__"):
            raise AttributeError(name)
        self._explain()

    __bool__ = __len__ = __iter__ = __call__ = __getitem__ = __setitem__ = __contains__ = _explain
    __setattr__ = __int__ = __float__ = __index__ = __neg__ = __pos__ = __abs__ = _explain
    __matmul__ = __rmatmul__ = __enter__ = __exit__ = _explain
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _explain
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _explain
    __pow__ = __rpow__ = __lt__ = __le__ = __gt__ = __ge__ = _explain


REQUIRED: Final[Any] = _Required()
