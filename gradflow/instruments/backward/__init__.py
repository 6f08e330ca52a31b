"""What backward passes read, bottom up: gradients, noise, updates, loss."""
