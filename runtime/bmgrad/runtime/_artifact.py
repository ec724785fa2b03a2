"""Compiled functions as files: saved here, loaded where the model's source is not.

In: a program, its calling convention, the values of its variables. Out: a zip file
of three members, none of them a pickle:

  program.jax_export  what `jax.export` serialized; plain `jax.export.deserialize`
                      reads it. Its function takes a list, the arrays among the
                      arguments, and a dict, the variables by name; it returns a list,
                      the results' leaves, and a dict, the variables it assigned.
  variables.npz       the variables' values, by name.
  manifest.json       everything else, to read: trees, shapes, names, platforms,
                      versions, and a checksum of the other members.
"""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bmgrad.runtime import _trees
from bmgrad.runtime._convention import Convention
from bmgrad.runtime._jax_internals import ShapedArray, canonical_platform, is_left_behind
from bmgrad.runtime._platform import get_platform
from bmgrad.runtime._primitive import bind
from bmgrad.runtime._program import Program
from bmgrad.runtime._versions import versions

FORMAT = 1
_PROGRAM, _VARIABLES, _MANIFEST = "program.jax_export", "variables.npz", "manifest.json"


# -- Saving --------------------------------------------------------------------------------------


def save(
    path: str | Path,
    program: Program,
    convention: Convention,
    variables: Sequence[jax.Array],
    platforms: str | Sequence[str] | None = None,
) -> None:
    """Writes `program` with the values of its variables to `path`. See `load`."""
    platforms = (platforms,) if isinstance(platforms, str) else platforms
    lowered_for = tuple(map(_export_platform, platforms or (get_platform(),)))
    names = _unique(convention.variable_names)
    exported = _export(program, convention, names, lowered_for)
    values = {name: _stored(value) for name, value in zip(names, variables, strict=True)}
    members = {_PROGRAM: bytes(exported.serialize()), _VARIABLES: _npz(values)}
    count = len(program.in_avals) - len(names)
    manifest = {
        "format": FORMAT,
        "name": program.name,
        "arguments": {
            "tree": _trees.encode(convention.in_tree),
            "static": [[i, _checked_static(value)] for i, value in convention.statics],
            "arrays": [
                {"name": name, **_described(aval)}
                for name, aval in zip(program.in_names[:count], program.in_avals, strict=False)
            ],
        },
        "results": {
            "tree": _trees.encode(convention.out_tree),
            "arrays": list(map(_described, program.out_avals[: convention.out_tree.num_leaves])),
        },
        "variables": [
            {"name": name, "assigned": i in convention.written, **_described(aval), **_kind(value)}
            for i, (name, aval, value) in enumerate(
                zip(names, program.in_avals[count:], variables, strict=True)
            )
        ],
        "platforms": list(lowered_for),
        "versions": versions(),
        "calling_convention_version": exported.calling_convention_version,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
    }
    members[_MANIFEST] = json.dumps(manifest, indent=2).encode()
    _write(Path(path), members)


def _export(
    program: Program, convention: Convention, names: Sequence[str], platforms: Sequence[str]
) -> jax.export.Exported:
    def call(arguments: list[Any], variables: dict[str, Any]) -> tuple[Any, Any]:
        outputs = bind(program, *arguments, *(variables[name] for name in names))
        leaves, written = convention.split(outputs)
        assigned = [names[i] for i in convention.written]
        return list(leaves), dict(zip(assigned, written, strict=True))

    call.__name__ = call.__qualname__ = program.name
    inputs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in program.in_avals]
    count = len(inputs) - len(names)
    state = dict(zip(names, inputs[count:], strict=True))
    return jax.export.export(jax.jit(call), platforms=platforms)(inputs[:count], state)


def _export_platform(platform: str) -> str:
    if platform in ("cpu", "tpu", "cuda", "rocm"):
        return platform
    if platform != "gpu":
        raise ValueError(f"platforms are 'cpu', 'gpu' and 'tpu', got {platform!r}")
    try:
        return canonical_platform("gpu")
    except RuntimeError:  # None here; most likely the file is for NVIDIA's.
        return "cuda"


def _unique(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    used: dict[str, int] = {}
    unique = []
    for name in names:
        used[name] = used.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}#{used[name]}")
    return unique


def _is_key(value: jax.Array) -> bool:
    return bool(jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key))


def _stored(value: jax.Array) -> np.ndarray[Any, Any]:
    return np.asarray(jax.random.key_data(value) if _is_key(value) else value)


def _kind(value: jax.Array) -> dict[str, str]:
    return {"key_impl": str(jax.random.key_impl(value))} if _is_key(value) else {}


def _described(aval: ShapedArray) -> dict[str, Any]:
    described = {"shape": list(aval.shape), "dtype": str(aval.dtype)}
    return described | ({"weak_type": True} if aval.weak_type else {})


def _checked_static(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"cannot save a function compiled for the static argument {value!r}")


def _npz(arrays: dict[str, np.ndarray[Any, Any]]) -> bytes:
    # np.savez takes names as keywords, among which it has some of its own.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def _write(path: Path, members: dict[str, bytes]) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot save to {path}: there is no directory {path.parent}")
    # Beside the target and then renamed: a reader never sees half a file.
    partial = path.with_name(path.name + f".{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name), data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


# -- Loading -------------------------------------------------------------------------------------


class LoadedProgram:
    """A compiled function from a file; call it like the function that was saved.

    Attributes:
      variables: the values of its variables by name, read at every call and assigned
        by it as by the original. Replace a value to run with another.
      manifest: what the file says about itself.
    """

    def __init__(
        self,
        exported: jax.export.Exported,
        manifest: dict[str, Any],
        variables: dict[str, jax.Array],
    ) -> None:
        self.manifest = manifest
        self.variables = variables
        self._exported = exported
        self._call = jax.jit(exported.call)
        arguments = manifest["arguments"]
        written = [i for i, each in enumerate(manifest["variables"]) if each["assigned"]]
        self._convention = Convention(
            in_tree=_trees.decode(arguments["tree"]),
            statics=tuple((i, value) for i, value in arguments["static"]),
            out_tree=_trees.decode(manifest["results"]["tree"]),
            variable_names=tuple(variables),
            written=tuple(written),
        )

    def __repr__(self) -> str:
        return f"LoadedProgram({self.manifest['name']}, platforms={self.manifest['platforms']})"

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Runs the function on `args` and assigns the variables it writes.

        Where it has assigned some inside a transform of JAX, who calls it there gives them values
        before the next call: `UnexpectedTracerError`.
        """
        name, convention = self.manifest["name"], self._convention
        inputs = convention.flatten(name, args, kwargs)
        for key, value in self.variables.items():
            if is_left_behind(value):
                raise jax.errors.UnexpectedTracerError(
                    f"the variable {key!r} of {name} holds a value of a trace of JAX: it was "
                    "assigned in a call under jax.jit, jax.vmap or jax.grad, from which no value "
                    "can leave. Give it a value (.variables) before the next call"
                )
        self._check(inputs)
        try:
            results, assigned = self._call(inputs, self.variables)
        except (TypeError, ValueError):
            self._check(inputs)
            raise
        self.variables.update(assigned)
        return jax.tree.unflatten(convention.out_tree, results)

    def as_text(self) -> str:
        """The StableHLO module."""
        return str(self._exported.mlir_module())

    def _check(self, inputs: Sequence[Any]) -> None:
        for given, wanted in zip(inputs, self.manifest["arguments"]["arrays"], strict=True):
            aval = jax.typeof(given)
            if list(aval.shape) != wanted["shape"] or str(aval.dtype) != wanted["dtype"]:
                raise TypeError(
                    f"{self.manifest['name']} takes {wanted['name']} of shape "
                    f"{tuple(wanted['shape'])} and dtype {wanted['dtype']}, "
                    f"but was given {aval.str_short()}"
                )


def load(path: str | Path) -> LoadedProgram:
    """Reads a function that `save` wrote; the source of the model is not needed.

    Raises ValueError where the file is damaged or made by a version that this one
    cannot read, and RuntimeError where it is not for the platform at hand.
    """
    members = _read(Path(path))
    manifest = json.loads(members[_MANIFEST])
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format version {manifest.get('format')}; this bmgrad "
            f"({versions()['bmgrad']}) reads version {FORMAT}"
        )
    for name in (_PROGRAM, _VARIABLES):
        if hashlib.sha256(members[name]).hexdigest() != manifest["sha256"][name]:
            raise ValueError(f"{path} is damaged: {name} does not have its checksum")
    _check_jax(path, manifest)
    here = canonical_platform(get_platform())
    if here not in manifest["platforms"]:
        raise RuntimeError(
            f"{path} was saved for {' and '.join(manifest['platforms'])}, but this process runs "
            f"on {here}; save it with platforms=(..., {get_platform()!r})"
        )
    exported = jax.export.deserialize(bytearray(members[_PROGRAM]))
    with np.load(io.BytesIO(members[_VARIABLES]), allow_pickle=False) as stored:
        variables = {v["name"]: _restored(stored[v["name"]], v) for v in manifest["variables"]}
    return LoadedProgram(exported, manifest, variables)


def _read(path: Path) -> dict[str, bytes]:
    if not zipfile.is_zipfile(path):
        # Also says so where there is no file.
        with path.open("rb"):
            raise ValueError(f"{path} is not a file saved by bmgrad: it is no zip archive")
    with zipfile.ZipFile(path) as archive:
        present = set(archive.namelist())
        for name in (_MANIFEST, _PROGRAM, _VARIABLES):
            if name not in present:
                raise ValueError(f"{path} is not a file saved by bmgrad: it has no {name}")
        try:
            return {name: archive.read(name) for name in (_MANIFEST, _PROGRAM, _VARIABLES)}
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path} is damaged: {error}") from None


def _check_jax(path: str | Path, manifest: dict[str, Any]) -> None:
    version = manifest["calling_convention_version"]
    oldest = jax.export.minimum_supported_calling_convention_version
    newest = jax.export.maximum_supported_calling_convention_version
    if oldest <= version <= newest:
        return
    trouble = "too old for" if version > newest else "too new for"
    raise ValueError(
        f"jax {jax.__version__} is {trouble} {path}, which jax {manifest['versions']['jax']} "
        f"saved with calling convention {version}; this jax reads {oldest} to {newest}"
    )


def _restored(stored: np.ndarray[Any, Any], described: dict[str, Any]) -> jax.Array:
    if "key_impl" in described:
        words = jax.numpy.asarray(stored)
        key: jax.Array = jax.random.wrap_key_data(words, impl=described["key_impl"])
        return key
    # npz files know no bfloat16 and keep its bytes as raw ones.
    dtype = np.dtype(described["dtype"])
    return jax.numpy.asarray(stored.view(dtype) if stored.dtype.kind == "V" else stored)
