"""Works as BibTeX needs them."""

from typing import NamedTuple


class Work(NamedTuple):
    """One entry: its kind, authors as BibTeX separates them, title, year, where it appeared, and what else identifies it."""

    kind: str
    authors: str
    title: str
    year: int
    where: str = ""
    arxiv: str = ""
    url: str = ""

    def entry(self, key: str) -> str:
        """Returns the entry in BibTeX."""
        place = {"inproceedings": "booktitle", "article": "journal", "misc": "howpublished"}[self.kind]
        where = self.where
        if not where and self.arxiv:
            where = f"arXiv:{self.arxiv}"
        fields = {"author": self.authors, "title": f"{{{self.title}}}", place: where, "year": str(self.year)}
        if self.arxiv and self.where:
            fields["note"] = f"arXiv:{self.arxiv}"
        if self.url:
            fields["url"] = self.url
        lines = [f"  {name:<12} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@{self.kind}{{{key},", *lines, "}"])


def paper(authors: str, title: str, year: int, where: str, arxiv: str = "") -> Work:
    """Returns a work of a conference."""
    return Work("inproceedings", authors, title, year, where, arxiv)


def preprint(authors: str, title: str, year: int, arxiv: str) -> Work:
    """Returns a work that is known by its number at arXiv."""
    return Work("misc", authors, title, year, "", arxiv)


def software(authors: str, title: str, year: int, url: str) -> Work:
    """Returns a program, or a page."""
    return Work("misc", authors, title, year, "", "", url)


NEURIPS = "Advances in Neural Information Processing Systems"
ICML = "International Conference on Machine Learning"
ICLR = "International Conference on Learning Representations"
