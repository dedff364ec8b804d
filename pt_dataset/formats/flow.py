"""Optical flow, kept as gray pictures of u and of v:

FOLDER/flow_x_00001.jpg and FOLDER/flow_y_00001.jpg     named FOLDER
tvl1_flow/u/CLIP/frame000001.jpg and tvl1_flow/v/CLIP   named tvl1_flow/{}/CLIP
"""

from collections.abc import Iterator

import numpy as np

from config import UserError, plural
from pt_dataset.formats.frame_names import FLOW_PREFIXES
from pt_dataset.sources import Pictures, decoded_pictures, open_frames, places_of, stacked


def open_flow(flow: str) -> list[Pictures]:
    """The encoded pictures of u and of v, as many of each."""
    if "{}" in flow:
        u, v = (open_frames(flow.replace("{}", name)) for name in "uv")
    else:
        u, v = (open_frames(flow, prefix) for prefix in FLOW_PREFIXES)
    if len(u) != len(v):
        raise UserError(
            f"{flow}: {plural(len(u), 'picture of u')}, {len(v)} of v; extract the flow again"
        )
    return [u, v]


def count_flow(flow: str) -> int:
    """How many fields of flow there are: one fewer than frames."""
    return len(open_flow(flow)[0])


def flow_fields(
    flow: str, indices: list[int], num_frames: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Fields of flow as stored, one after another, uint8 (H, W, 2): u, v; else as sources.frames.

    Args:
        flow: where it is, see above.
        indices: 0-based; field k leads from frame k to k + 1, so they end at num_frames - 2.
        num_frames: frames of the video by its list.

    Raises:
        BadFrame: one picture cannot be decoded; it names the file.
        UserError: the flow cannot be used.
    """
    pictures, places = open_flow(flow), places_of(indices)
    if num_frames - 1 > len(pictures[0]):
        raise UserError(
            f"{flow}: {plural(len(pictures[0]), 'field of flow')} where the list says {num_frames} "
            f"frames, which have {num_frames - 1} between them; extract the flow again"
        )
    field = None
    of_both = (decoded_pictures(one, list(places), channels=1) for one in pictures)
    for (index, u), (_, v) in zip(*of_both, strict=True):
        if u.shape != v.shape:
            sizes = "{1}x{0}, v {3}x{2}".format(*u.shape[:2], *v.shape[:2])
            raise UserError(f"{flow}: pictures of u are {sizes}; extract the flow again")
        if field is None:
            field = np.empty((*u.shape[:2], 2), np.uint8)
        np.concatenate([u, v], axis=-1, out=field)
        yield places[index], field


def read_flow(flow: str, indices: list[int], num_frames: int) -> np.ndarray:
    """Whole fields of flow, uint8 (T, H, W, 2); arguments and errors of `flow_fields`."""
    return stacked(flow_fields(flow, indices, num_frames), len(indices))
