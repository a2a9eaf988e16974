"""Valid sizes of pictures, checked at the start of every network, where the message can name the caller's sizes."""

from torch import Tensor


def refuse_odd_size(image: Tensor, multiple: int) -> None:
    """Raise ValueError if height or width of N C H W is no multiple of `multiple`."""
    height, width = image.shape[2:]
    if height % multiple or width % multiple:
        raise ValueError(f"input is {height}x{width} px: height and width must be multiples of {multiple}")
