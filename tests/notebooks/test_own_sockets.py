"""Kernels with sockets of their own: no two that start at once can meet."""

from __future__ import annotations

import gc
import json
import os
import runpy
from pathlib import Path

import nbval.kernel
import pytest
from jupyter_client.manager import AsyncKernelManager, KernelManager
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from own_sockets import with_own_sockets

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="no sockets that are files")
CELL = "from ipykernel.connect import get_connection_info\nget_connection_info()"


def told_by(notebook):
    """Where the kernel of an executed notebook could be reached."""
    (output,) = notebook.cells[0].outputs
    info = json.loads(output.data["text/plain"].strip("'").replace("\\n", ""))
    return info["transport"], Path(info["ip"])


def test_each_kernel_has_a_folder_that_goes_with_it():
    kind = with_own_sockets(AsyncKernelManager)
    found = []
    for _ in range(2):
        notebook = new_notebook(cells=[new_code_cell(CELL)])
        options = {"kernel_name": "python3", "kernel_manager_class": kind}
        NotebookClient(notebook, **options).execute()
        found.append(told_by(notebook))
    (one, first), (two, second) = found
    assert one == two == "ipc"
    assert first.parent != second.parent
    gc.collect()
    assert not first.parent.exists()
    assert not second.parent.exists()


def test_kernels_of_nbval_have_them_too(monkeypatch):
    # As pytest loads it where notebooks are among what is tested.
    monkeypatch.setattr(nbval.kernel, "KernelManager", KernelManager)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    runpy.run_path(str(ROOT / "notebooks" / "conftest.py"))
    kernel = nbval.kernel.RunningKernel("python3", cwd=".")
    try:
        assert kernel.km.transport == "ipc"
        assert Path(kernel.km.connection_file).parent.name.startswith("kernel-")
    finally:
        kernel.stop()
