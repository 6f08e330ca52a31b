"""Programs before they run: counted, compiled in threads and for as long as they run, kept in a folder between processes.

Bottom up: operations, ahead, jitted, caching. Imports `compiler` and `results`.
"""
