"""Sizes of pictures that a network can halve as often as it does.

Asked at every network's door, as a layer deep inside would end with sizes that its caller never gave.
"""

from torch import Tensor


def refuse_odd_size(image: Tensor, multiple: int) -> None:
    """Raises ValueError where height or width of N C H W is no multiple of so many pixels."""
    height, width = image.shape[2:]
    if height % multiple or width % multiple:
        raise ValueError(
            f"pictures of {height}x{width} px: this network takes heights and widths that {multiple} divides"
        )
