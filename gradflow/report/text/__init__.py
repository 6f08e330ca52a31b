"""Results as text: captions, the summary, findings, LaTeX and the appendix; numbers come from tables alone.

Bottom up: captions, summary, findings, logs, latex, appendix.
"""
