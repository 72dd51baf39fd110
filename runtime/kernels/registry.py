"""Every kernel by name: ``<dtype>_<op>_<layout>_<structure>_<tile>__<backend>``. The name is test id and benchmark id
too.
"""

from dataclasses import dataclass

from runtime.kernels.step import Kernel
from runtime.kernels.tiles import (
    Tile,
    channels_tiles,
    images_tiles,
    pixels_tiles,
    scattered_tiles,
    whole_tiles,
    wide_tiles,
)


@dataclass(frozen=True)
class Entry:
    """One compiled kernel: its name, its family, the layouts it serves, and its register tile if it has a choice of
    tiles.
    """

    name: str
    kernel: Kernel
    layouts: tuple[str, ...]
    tile: Tile | None = None


def _entries() -> tuple[Entry, ...]:
    every = ("wide", "images", "channels") if wide_tiles() else ("images", "channels")
    entries = [
        Entry(f"f32_conv2d_images_rows_{t.name}__cpu", Kernel.CONV_IMAGES, ("images",), t) for t in images_tiles()
    ]
    entries += [Entry(f"f32_conv2d_wide_rows_{t.name}__cpu", Kernel.CONV_IMAGES, ("wide",), t) for t in wide_tiles()]
    entries += [
        Entry(f"f32_conv2d_channels_rows_{t.name}__cpu", Kernel.CONV_CHANNELS, ("channels",), t)
        for t in channels_tiles()
    ]
    entries += [
        Entry(f"f32_conv2d_images_scattered_{t.name}__cpu", Kernel.CONV_SCATTERED, ("images",), t)
        for t in scattered_tiles()
    ]
    entries += [
        Entry(f"f32_conv2d_channels_whole_{t.name}__cpu", Kernel.CONV_WHOLE, ("channels",), t) for t in whole_tiles()
    ]
    for layout, tiles in (("images", images_tiles()[:1]), ("channels", channels_tiles())):
        entries += [
            Entry(f"f32_conv2d_{layout}_winograd_{t.name}__cpu", Kernel.CONV_WINOGRAD, (layout,), t) for t in tiles
        ]
    entries += [
        Entry(f"f32_conv2d_channels_pixels_{t.name}__cpu", Kernel.CONV_PIXELS, ("channels",), t) for t in pixels_tiles()
    ]
    narrow = channels_tiles()[-1]
    entries.append(Entry(f"f32_depthwise_channels_full_{narrow.name}__cpu", Kernel.DEPTHWISE, ("channels",), narrow))
    for op, kernel in (
        ("max_pool", Kernel.MAX_POOL),
        ("average_pool", Kernel.AVERAGE_POOL),
        ("add", Kernel.ADD),
        ("activate", Kernel.ACTIVATE),
        ("import", Kernel.IMPORT),
        ("map", Kernel.MAP),
        ("gather", Kernel.GATHER),
        ("export", Kernel.EXPORT),
    ):
        entries.append(Entry(f"f32_{op}_any_full_vector__cpu", kernel, every))
    for op, kernel in (("softmax", Kernel.SOFTMAX), ("flatten", Kernel.FLATTEN)):
        entries.append(Entry(f"f32_{op}_any_full_scalar__cpu", kernel, every))
    return tuple(entries)


REGISTRY: dict[str, Entry] = {entry.name: entry for entry in _entries()}
ROWS: dict[str, int] = {name: row for row, name in enumerate(REGISTRY)}


def entries_for(kernel: Kernel, layout: str) -> list[Entry]:
    """The registered kernels of one family that serve a layout, in the order of preference on ties."""
    return [e for e in REGISTRY.values() if e.kernel == kernel and layout in e.layouts]
