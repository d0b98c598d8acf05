"""Pictures and label maps, decoded and rasterised once, then memory-mapped.

Read `plan` first, which defines the content and the key of a store, then `store`.
"""
