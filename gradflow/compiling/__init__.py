"""Programs before they run: compiled in threads while others run, kept in a folder between processes, counted.

Bottom up: ahead, caching, operations. Imports `compiler` and `results`.
"""
