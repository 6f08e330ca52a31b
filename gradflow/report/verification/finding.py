"""What a verification finds: the file, and the number as it stands and as it should be."""

from typing import NamedTuple

from ...results.files import printable


class Finding(NamedTuple):
    """Something that is not as it should be: in which file, and where in it; what stands there, and what should."""

    file: str
    what: str
    stands: str = ""
    should: str = ""

    def __str__(self) -> str:
        line = f"{printable(self.file)}: {self.what}"
        if self.stands or self.should:
            line += f": it is {self.stands or 'nothing'}, and should be {self.should or 'nothing'}"
        return line
