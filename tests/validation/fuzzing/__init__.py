"""What `fuzz.py` tries: cases, running, world; and the kinds commands, arguments, batches, files, folders."""
