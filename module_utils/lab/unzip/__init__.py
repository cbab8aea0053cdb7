"""Unpacks zip archives side by side, contained in one folder, all or nothing.

sources    which archives are meant, and how they are opened
records    end records and central directory of an archive, checked
names      a member's name made a path below dest, or refused
entry      a member's local header against the central directory
engines    inflate and CRC by the best library on the host
manifest   what earlier runs brought into dest
plan       the decision: what is missing, altered, in the way, too large
worker     one process that extracts ranges of members into the staging folder
pool       the processes, the queue between them, their deaths
place      the staging folder and the move into dest
task       plan and apply, for the module
"""
