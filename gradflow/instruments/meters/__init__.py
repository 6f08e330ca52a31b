"""What is read on the way through a stack, bottom up: meter, uses, resolution, signal, dropout, parameter_norms, visits."""
