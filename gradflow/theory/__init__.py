"""Theory, bottom up: kernels, gram, ends, descent, predict."""
