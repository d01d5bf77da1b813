"""Numbers in sentences."""


def counted(number: int, one: str, many: str = "") -> str:
    """Such as "1 node" and "2 nodes"; `many` where it is more than an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
