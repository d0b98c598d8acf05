"""Pictures and label maps, decoded and rasterised once, then memory-mapped.

Read `plan` first, which says what a store holds and names it, then `store`.
"""
