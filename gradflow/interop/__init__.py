"""The interop floor, bottom up: functions, pretrained, tokens, cutter, tokenizer, trained. Models that were not built here."""
