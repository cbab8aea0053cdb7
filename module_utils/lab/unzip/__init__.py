"""Unpacks zip archives side by side, contained in one folder, all or nothing.

sources     which archives are meant, and how files are opened and read
remote      archives at an address; s3_address, http_* reach them
ends        the end records of an archive: where its central directory lies
directory   the central directory, checked, kept as bytes
extra       extra fields of a header, and zip64
names       a member's name made a path below dest, or refused
entry       a member's local header against the central directory
links       symbolic links, where asked for
survey      what an archive brings, in one walk; what archives bring together
manifest    what earlier runs brought into dest
dest        what is in dest, how much room it has, who holds it
plan        the decision: what is missing, altered, in the way, too large
engines     inflate and CRC by the best library on the host
worker      one process that extracts ranges of members into the staging folder
stream      writes a large member while its next piece is unpacked
pool        the processes, the queue between them, their deaths
place       the staging folder and the move into dest
progress    how far a run is, for the action plugin
task        plan and apply, for the module
"""
