"""The interop floor, bottom up: functions, checkpoints. Models that were not built here."""
