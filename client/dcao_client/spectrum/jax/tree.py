"""A pytree of parameters as the arrays that move, the arrays that do not, and everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

# What a leaf is: an array of real numbers, which moves; another array; or something to be kept as it is.
MOVES, STAYS = "moves", "stays"


@dataclass(frozen=True)
class Layout:
    """How a pytree's moving arrays lie in one flat vector: in order, each contiguous. Hashable, for jit.

    The vector's precision is single, or double when every array's is. Over the devices of a mesh it is whole on each.
    Whatever is no array (an activation of an Equinox model, a name) belongs to the layout.
    """

    structure: Any
    kinds: tuple[Any, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    place: NamedSharding | None

    @property
    def size(self) -> int:
        """The vector's length."""
        return sum(int(np.prod(shape)) for shape in self.shapes)

    @property
    def dtype(self) -> Any:
        """The vector's precision."""
        return jnp.dtype("float64" if all(d == jnp.float64 for d in self.dtypes) else "float32")

    def whole(self, moving: list[Array], staying: list[Array]) -> Any:
        """The pytree again."""
        parts = {MOVES: iter(moving), STAYS: iter(staying)}
        leaves = [next(parts[kind]) if kind in (MOVES, STAYS) else kind[0] for kind in self.kinds]
        return jax.tree.unflatten(self.structure, leaves)

    def flat(self, arrays: list[Array]) -> Array:
        """One vector."""
        vector = jnp.concatenate([a.astype(self.dtype).ravel() for a in arrays])
        return vector if self.place is None else jax.lax.with_sharding_constraint(vector, self.place)

    def pieces(self, vector: Array) -> list[Array]:
        """The vector as arrays of the parameters' shapes and precisions."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])
        parts = jnp.split(vector, ends[:-1])
        return [p.reshape(s).astype(d) for p, s, d in zip(parts, self.shapes, self.dtypes, strict=True)]


def split(params: Any) -> tuple[list[Array], list[Array], Layout]:
    """The arrays that move, those that stay, and how they make the pytree.

    Raises:
        ValueError: nothing moves, or a complex array would: give its real and imaginary part.
    """
    leaves, structure = jax.tree.flatten(params)
    kinds: list[Any] = [_kind(leaf) for leaf in leaves]
    moving = [leaf for leaf, kind in zip(leaves, kinds, strict=True) if kind is MOVES]
    staying = [leaf for leaf, kind in zip(leaves, kinds, strict=True) if kind is STAYS]
    if not moving:
        raise ValueError("expected parameters with at least one array of real numbers; got none")
    if any(jnp.iscomplexobj(a) for a in moving):
        raise ValueError("expected parameters that are real; got complex ones: give their real and imaginary parts")
    shapes, dtypes = tuple(tuple(a.shape) for a in moving), tuple(jnp.dtype(a.dtype) for a in moving)
    return moving, staying, Layout(structure, tuple(kinds), shapes, dtypes, _mesh(moving))


def _kind(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array | np.ndarray):
        return (leaf,)
    return MOVES if jnp.issubdtype(leaf.dtype, jnp.inexact) else STAYS


def _mesh(arrays: list[Array]) -> NamedSharding | None:
    for array in arrays:
        sharding = getattr(array, "sharding", None)
        if isinstance(sharding, NamedSharding) and len(sharding.device_set) > 1:
            return NamedSharding(sharding.mesh, PartitionSpec())
    return None
