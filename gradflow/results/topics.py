"""The text that is there without a download: the language reference that CPython ships, which differs a little by version."""

import hashlib

NAME = "pydoc_data.topics"
FILE = f"text/{NAME}.txt"  # in a bundle


def content() -> bytes:
    """Returns the text, topic by topic in the order of their names."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics)).encode()


def of_digest(sha256: str) -> bytes | None:
    """Returns the text where this Python's is the one of that SHA-256; else None."""
    text = content()
    if hashlib.sha256(text).hexdigest() != sha256:
        return None
    return text
