"""Theory, bottom up: kernels, closed, gram, ends, descent, predict."""
