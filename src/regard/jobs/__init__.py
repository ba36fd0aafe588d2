"""Long work in parts, on one machine or on several by Ray: extraction, encoding, indexing, evaluation.

Each kind of work calls the functions that one machine calls: a function of one part, and one that gathers the parts
(job_kinds.py). A job is a folder (job_folder.py), so that it can be continued whatever ended it.
"""
