"""Values of variables in files: ``.npz`` (numpy), ``.h5`` (h5py) and ``.mat`` (scipy). Never a
pickle.

In: named arrays. Out: a file with one entry a name; and back, checked against the shapes and
dtypes that the variables have. ``_base.py`` decides the names.
"""

from __future__ import annotations

import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

__all__ = ["read_states", "write_states"]

Arrays = dict[str, np.ndarray[Any, Any]]
Spec = tuple[tuple[int, ...], Any]


class _Format(NamedTuple):
    write: Callable[[str, Arrays], None]
    read: Callable[[str], Arrays]
    # The dtype in the file of values of this dtype: the smallest that the format has and loses
    # nothing.
    stored: Callable[[np.dtype[Any]], np.dtype[Any]]


def write_states(filename: str | os.PathLike[str], values: Mapping[str, jax.Array]) -> None:
    """Write ``values`` to ``filename``, whose ending chooses the format."""
    path = os.fspath(filename)
    form = _format(path)
    if not values:
        raise ValueError(f"there are no variables to write to {path}")
    for key, value in values.items():
        if jax.numpy.issubdtype(value.dtype, jax.dtypes.extended):
            raise TypeError(
                f"'{key}' has dtype {value.dtype}, which no file of states holds; keep "
                "jax.random.key_data of it in the variable"
            )
    arrays = {key: _as(np.asarray(v), form.stored(v.dtype)) for key, v in values.items()}
    # A run that stops halfway must not leave half a file where a whole one was.
    folder = os.path.dirname(os.path.abspath(path))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".states-") as scratch:
        part = os.path.join(scratch, "part" + os.path.splitext(path)[1])
        form.write(part, arrays)
        os.replace(part, path)


def read_states(filename: str | os.PathLike[str], specs: Mapping[str, Spec]) -> Arrays:
    """The arrays in ``filename``; those named in ``specs`` in the shape and dtype it gives for
    them.

    Raises:
        ValueError: the file has another shape for a name, or is none of its format.
        TypeError: the file has another dtype for a name.
    """
    path = os.fspath(filename)
    form = _format(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path}")
    try:
        arrays = form.read(path)
    except (ModuleNotFoundError, MemoryError):
        raise
    except Exception as error:
        if getattr(error, "errno", None) is not None:  # It is there, but not to be read.
            raise
        raise ValueError(f"{path} cannot be read as what its name says: {error}") from error
    for key in arrays.keys() & specs.keys():
        shape, dtype = specs[key]
        array = arrays[key]
        if form is _FORMATS[".mat"] and len(shape) < 2 and array.size in (0, max(array.shape)):
            # A .mat file has matrices only: (n,) came to be (1, n).
            array = array.reshape(shape if array.size == math.prod(shape) else -1)
        if array.shape != shape:
            raise ValueError(f"'{key}' has shape {array.shape} in {path}, but {shape} in the model")
        if array.dtype != form.stored(dtype):
            raise TypeError(f"'{key}' has dtype {array.dtype} in {path}, but {dtype} in the model")
        arrays[key] = _as(array, dtype)
    return arrays


def _as(array: Any, dtype: Any) -> np.ndarray[Any, Any]:
    return np.asarray(array).astype(dtype, copy=False)


def _format(path: str) -> _Format:
    ending = os.path.splitext(path)[1]
    if ending not in _FORMATS:
        raise ValueError(f"cannot tell the format of {path!r}: use one of {', '.join(_FORMATS)}")
    return _FORMATS[ending]


def _numpy_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    # bfloat16, float8, int4, ... are not numpy's own: files hold them as float32 or int8, losing
    # nothing.
    if np.dtype(dtype).isbuiltin == 1:
        return np.dtype(dtype)
    return np.dtype(np.int8 if "int" in np.dtype(dtype).name else np.float32)


def _mat_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    dtype = _numpy_dtype(dtype)
    if dtype == np.bool_:
        return np.dtype(np.uint8)
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _write_npz(path: str, arrays: Arrays) -> None:
    # np.savez takes the names as keywords and so refuses a variable called 'file'.
    with zipfile.ZipFile(path, "w") as archive:
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _read_npz(path: str) -> Arrays:
    if not zipfile.is_zipfile(path):  # NumPy would take it for a pickle.
        raise ValueError("it is no zip archive")
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def _write_h5(path: str, arrays: Arrays) -> None:
    with _need("h5py", ".h5").File(path, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array)


def _read_h5(path: str) -> Arrays:
    with _need("h5py", ".h5").File(path, "r") as file:
        return dict(_datasets(file, ""))


def _datasets(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Those in a group and in the groups that a '/' in a name has made."""
    for key, item in group.items():
        if hasattr(item, "shape"):
            yield prefix + key, item[()]
        else:
            yield from _datasets(item, f"{prefix}{key}/")


def _write_mat(path: str, arrays: Arrays) -> None:
    # Names such as '_w' and 'layers-0.w' are none of MATLAB's, so names and values are two cell
    # arrays.
    names, values = (np.empty(len(arrays), dtype=object) for _ in range(2))
    names[:] = list(arrays)
    for number, array in enumerate(arrays.values()):
        values[number] = array
    _need("scipy.io", ".mat").savemat(path, {"names": names, "values": values})


def _read_mat(path: str) -> Arrays:
    file = _need("scipy.io", ".mat").loadmat(path)
    names, values = file["names"].ravel(), file["values"].ravel()
    return {str(name.item()): value for name, value in zip(names, values, strict=True)}


def _need(module: str, ending: str) -> Any:
    try:
        return __import__(module, fromlist=["_"])
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise ModuleNotFoundError(
            f"{ending} files need {package}: pip install {package}, or bmgrad[io]", name=package
        ) from error


_FORMATS = {
    ".npz": _Format(_write_npz, _read_npz, _numpy_dtype),
    ".h5": _Format(_write_h5, _read_h5, _numpy_dtype),
    ".hdf5": _Format(_write_h5, _read_h5, _numpy_dtype),
    ".mat": _Format(_write_mat, _read_mat, _mat_dtype),
}
