#!/usr/bin/env python3
"""torchrun, also where torch was built without libuv, as Debian's is: there torchrun itself fails.

Called as torchrun is: python torchrun_here.py --nproc-per-node=2 train.py --epochs 9
"""

from __future__ import annotations

import functools
import os

from torch.distributed.elastic.rendezvous import c10d_rendezvous_backend as meeting
from torch.distributed.run import main


def has_libuv() -> bool:
    """Tell whether a store can be made as torchrun makes it."""
    try:
        meeting.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    except RuntimeError as error:
        if "libuv" not in str(error):
            raise
        return False
    return True


if __name__ == "__main__":
    if not has_libuv():
        os.environ["USE_LIBUV"] = "0"  # heard by the script's processes, and not by torchrun
        meeting.TCPStore = functools.partial(meeting.TCPStore, use_libuv=False)
    main()
