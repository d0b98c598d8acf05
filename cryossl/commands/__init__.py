"""A function for each command, a file for each family of commands.

Commands on tracked runs are in `analysis.commands`.
"""
