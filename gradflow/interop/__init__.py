"""The interop floor, bottom up: functions, checkpoints, tokens. Models that were not built here."""
