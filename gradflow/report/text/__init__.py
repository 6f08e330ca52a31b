"""Results as text: captions, the summary, findings, and what is said of logs; numbers come from tables alone.

Bottom up: captions, precision, layers, families, summary, findings, logs.
"""
