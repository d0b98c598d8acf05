"""The readers of picture formats (PNG and JPEG, TIFF, MRC), of which `data.images` chooses one.

Read `grey` first, which has the rules that all formats share.
"""
