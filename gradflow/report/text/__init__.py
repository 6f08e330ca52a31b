"""What is said of results in words: captions, the summary, findings, LaTeX and the appendix; computes by tables alone.

Bottom up: captions, summary, findings, latex, appendix.
"""
