"""Moves rows between the devices among which groups, such as experts, are divided.

All of it is called inside of `per_device`, where each device sees its own rows.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.errors import UserError
from axlearn_core.parallel.sharding import current_platform, mesh_axes

_NOWHERE = 2**31 - 1  # beyond every array


class _Slices(NamedTuple):
    """What one device exchanges with each of n peers, [n, groups per device] int32 each."""

    start: jax.Array  # where a slice begins among the rows that are sent
    size: jax.Array  # how many rows it has
    target: jax.Array  # where it begins among the rows of the peer
    arriving_start: jax.Array  # where the peer's slice begins here
    arriving_size: jax.Array

    def reversed(self, target: jax.Array) -> _Slices:
        return _Slices(self.arriving_start, self.arriving_size, target, self.start, self.size)


class Exchange:
    """Each row to the device that holds its group, and back: a ragged all-to-all.

    Device i of n holds the groups i * G/n, ..., (i + 1) * G/n - 1. Where the platform has no ragged
    all-to-all (the CPU), rows travel in slots of the largest size that there could be.

    Attributes:
        sizes: [groups per device] int32, how many rows arrive for each group of this device, from
            all devices together.
        dropped: [] int32, how many rows of this device found no room.
    """

    def __init__(
        self, sizes: jax.Array, axis: str, *, rows: int, distinct: int = 1, room: int | None = None
    ) -> None:
        """Agrees with the other devices about how many rows go where.

        Args:
            sizes: [groups] int32, this device's rows of each group. Its rows are sorted by group.
            axis: the logical axis of groups.
            rows: how many rows this device has.
            distinct: of so many rows at a time no two have the same group: one device gets as many
                of them as it has groups, at most.
            room: for how many rows a device has room; None is for all that could arrive. If more
                arrive, all senders leave out an equal part, their last.
        """
        self._names = mesh_axes(axis)
        if not self._names:
            self.sizes, self.dropped = sizes, jnp.int32(0)
            return
        count: int = jax.lax.axis_size(self._names)
        if len(sizes) % count:
            raise UserError(
                f"{len(sizes)} groups ({axis!r}) cannot be divided among {count} devices, as the "
                "sharding rules say: choose a multiple, or another mesh"
            )
        here = jax.lax.axis_index(self._names)
        # What each device has for each other and its groups: [from, to, groups per device].
        counts = jax.lax.all_gather(sizes, self._names).reshape(count, count, -1)
        self._slot = rows // distinct * min(distinct, counts.shape[-1])
        most = self._slot * count
        self._room = most if room is None else min(room, most)
        start = _starts(counts.reshape(count, -1)).reshape(counts.shape)
        # [to, group, from], the order on arrival.
        in_order = jnp.transpose(counts, (1, 2, 0))
        arrived = _within(in_order.reshape(count, -1), self._room).reshape(in_order.shape)
        arrival = _starts(arrived.reshape(count, -1)).reshape(arrived.shape)
        kept, arrival = (jnp.transpose(x, (2, 0, 1)) for x in (arrived, arrival))
        self._out = _Slices(start[here], kept[here], arrival[here], arrival[:, here], kept[:, here])
        self._back = self._out.reversed(start[:, here])
        self.sizes = kept[:, here].sum(axis=0)
        self.dropped = sizes.sum() - kept[here].sum()

    def there(self, rows: jax.Array) -> jax.Array:
        """Takes this device's rows, sorted by group, to where their groups are.

        Args:
            rows: [rows, dim].

        Returns:
            [room, dim], the rows of this device's groups, sorted by group; then zeros.
        """
        if not self._names:
            return rows
        sizes = (self._room, len(rows))
        return _move(rows, self._out, self._back, self._names, self._slot, sizes)

    def back(self, rows: jax.Array, count: int) -> jax.Array:
        """Takes rows back to where they came from; `count` is how many those were.

        Args:
            rows: [room, dim], as they arrived.

        Returns:
            [count, dim], in the order that `there` was given; zeros for what found no room.
        """
        if not self._names:
            return rows
        sizes = (count, self._room)
        return _move(rows, self._back, self._out, self._names, self._slot, sizes)


def _starts(sizes: jax.Array) -> jax.Array:
    return jnp.cumsum(sizes, axis=-1) - sizes


def _within(sizes: jax.Array, room: int) -> jax.Array:
    """Makes the sizes of each row smaller, all by the same factor, if their sum is above `room`."""
    stops = jnp.cumsum(sizes, axis=-1)
    total = stops[:, -1:]
    fewer = jnp.minimum(jnp.floor(stops * (room / jnp.maximum(total, 1))), room)
    fewer = jnp.diff(fewer.astype(sizes.dtype), axis=-1, prepend=0)
    return jnp.where(total > room, fewer, sizes)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _move(
    rows: jax.Array,
    there: _Slices,
    back: _Slices,
    names: tuple[str, ...],
    slot: int,
    sizes: tuple[int, int],
) -> jax.Array:
    """Sends slices of rows; sizes are of the result and of the rows. What is not sent is zeros.

    The derivative by the rows is the way back.
    """
    send = _padded if current_platform() == "cpu" else _ragged
    return send(rows, there, names, slot, sizes[0])


def _move_forward(
    rows: jax.Array,
    there: _Slices,
    back: _Slices,
    names: tuple[str, ...],
    slot: int,
    sizes: tuple[int, int],
) -> tuple[jax.Array, tuple[_Slices, _Slices]]:
    return _move(rows, there, back, names, slot, sizes), (there, back)


def _move_backward(
    names: tuple[str, ...],
    slot: int,
    sizes: tuple[int, int],
    slices: tuple[_Slices, _Slices],
    gradient: jax.Array,
) -> tuple[jax.Array, None, None]:
    there, back = slices
    return _move(gradient, back, there, names, slot, sizes[::-1]), None, None


_move.defvjp(_move_forward, _move_backward)


def _ragged(
    rows: jax.Array, slices: _Slices, names: tuple[str, ...], slot: int, length: int
) -> jax.Array:
    received: jax.Array = jax.lax.ragged_all_to_all(
        rows,
        jnp.zeros((length, *rows.shape[1:]), rows.dtype),
        slices.start.reshape(-1),
        slices.size.reshape(-1),
        slices.target.reshape(-1),
        slices.arriving_size.reshape(-1),
        axis_name=names,
    )
    return received


def _padded(
    rows: jax.Array, slices: _Slices, names: tuple[str, ...], slot: int, length: int
) -> jax.Array:
    packed = rows.at[_places(slices.start, slices.size, slot)].get(mode="fill", fill_value=0)
    arrived = jax.lax.all_to_all(packed, names, split_axis=0, concat_axis=0, tiled=True)
    places = _places(slices.arriving_start, slices.arriving_size, slot)
    return jnp.zeros((length, *rows.shape[1:]), rows.dtype).at[places].set(arrived, mode="drop")


def _places(start: jax.Array, size: jax.Array, slot: int) -> jax.Array:
    """Returns where each row of a peer's slot is, [n, slot]; a huge number where it has none."""

    def of_peer(start: jax.Array, size: jax.Array) -> jax.Array:
        stop = jnp.cumsum(size)
        row = jnp.arange(slot)
        group = jnp.searchsorted(stop, row, side="right")
        inside = jnp.minimum(group, len(size) - 1)
        place = start[inside] + row - (stop - size)[inside]
        return jnp.where(group < len(size), place, _NOWHERE)

    return jax.vmap(of_peer)(start, size)
