"""The bundle of a run, which verifies itself: every file in it follows from `results.nc`.

    README.md                   what it is, how it is verified, what that takes
    manifest.json               configuration, provenance; the SHA-256 of every other file, and its own
    environment.lock            every installed distribution with its version
    results.nc                  the labelled tree, readable with xarray; every variable with its checksum
    figures/                    PDF, PNG and the CSV behind each
    tables/                     summary.txt, results.csv, laws.csv, total_depth.csv, total_depth_laws.csv
    body.tex, appendix.tex      what a paper includes, and a document around it
    numbers.tex                 a macro for every number that is printed
    hyperparameters.tex         every value of the runs, what they took, and on what
    gradflow.bib                entries for what was used
    checklist.md                what venues and artifact evaluations ask
    ro-crate-metadata.json      the same for archives and machines
    text/                       the text that was read, if it is the one that CPython ships

`results.folder` makes the folder, and keeps an interrupted run from leaving a half-written file. Bottom up: record, options,
blind, contents, licences, readme, crate, checklist, files, writing.
"""

from .writing import again, opened, write, write_atlas
