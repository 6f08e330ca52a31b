"""The interop floor, bottom up: functions, checkpoints, tokens, cutter, tokenizer, trained. Models that were not built here."""
