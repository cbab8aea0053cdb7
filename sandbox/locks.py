"""The lock around moto's models, which are plain dictionaries and know nothing of threads.

Two calls side by side would end in "dictionary changed size during iteration": even a Describe
makes what it does not find yet. Held for the milliseconds of one call and never while an instance
is waited for; whoever needs the reconciler's lock as well takes that one first. S3 goes without:
its objects are many and large, and its own patches keep its models whole.
"""

import threading

MOTO_LOCK = threading.RLock()
