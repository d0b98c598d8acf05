"""Coordinate files of other programs: a module for each family, with a reader and a writer.

Read `known` first: it tells the format of a file. A writer gives the content as text; who calls it
writes the file.
"""
