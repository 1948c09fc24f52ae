"""coremill's Python half: draws graphs for Rust to pour weights into, and computes references.

Rust calls `coremill.entry.call` and nothing else: JSON in, JSON out.
"""
