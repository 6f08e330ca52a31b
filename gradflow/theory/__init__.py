"""Theory, bottom up: kernels, closed, gram, lanes, ends, descent, predict."""
