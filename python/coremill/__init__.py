"""coremill's Python half: exports graphs whose weights Rust writes, and computes references.

Rust calls `coremill.entry.call` and nothing else: JSON in, JSON out.
"""
