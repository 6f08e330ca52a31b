"""Results: quantities as data, labelled trees of them, where they came from."""
