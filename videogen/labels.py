"""Labels of model versions, such as `videogen-tiny@2`: names for people; a version's identity is its digest."""

from videogen.errors import InvalidRequest


def parse_label(label: str) -> tuple[str, int]:
    """`videogen-tiny@2` -> ("videogen-tiny", 2). Raises InvalidRequest."""
    name, at, number = label.rpartition("@")
    if not (name and at and number.isascii() and number.isdecimal()):
        raise InvalidRequest("version", label, "NAME@NUMBER, such as videogen-tiny@2")
    return name, int(number)


def model_of(label: str) -> str:
    """`videogen-tiny@2` -> "videogen-tiny"; what follows the @ may also be a digest."""
    return label.rpartition("@")[0]
