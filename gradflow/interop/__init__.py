"""The interop floor, bottom up: functions, pretrained, tokens, cutter, tokenizer, trained, checkpointed, logs, logged.
Models and records that were not built here.
"""
