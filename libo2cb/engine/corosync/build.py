"""What is declared of corosync's libraries: `python -m libo2cb.engine.corosync.build` writes _declared.py.

The result is plain Python that cffi's runtime understands: neither a compiler nor a C parser is needed where it runs.
Layouts and signatures are those of corosync 3 (libcpg 4, libquorum 5, libcmap 4, libcfg 7). Enums are declared as
int, which they are in that ABI.
"""

import tempfile
from pathlib import Path
from typing import Final

from cffi import FFI

TARGET: Final = Path(__file__).with_name("_declared.py")
MODULE: Final = "libo2cb.engine.corosync._declared"
_HEADER: Final = """\
# ruff: noqa: E501, Q000 (generated)
# fmt: off
# mypy: ignore-errors
# Written by `python -m libo2cb.engine.corosync.build`; a test compares the two.
"""

DECLARATIONS: Final = """
typedef int cs_error_t;
struct iovec { void *iov_base; size_t iov_len; };

typedef uint64_t cpg_handle_t;
struct cpg_address { uint32_t nodeid; uint32_t pid; uint32_t reason; };
struct cpg_name { uint32_t length; char value[128]; };
struct cpg_ring_id { uint32_t nodeid; uint64_t seq; };
typedef void (*cpg_deliver_fn_t)(cpg_handle_t, const struct cpg_name *, uint32_t, uint32_t, void *, size_t);
typedef void (*cpg_confchg_fn_t)(cpg_handle_t, const struct cpg_name *, const struct cpg_address *, size_t,
    const struct cpg_address *, size_t, const struct cpg_address *, size_t);
typedef void (*cpg_totem_confchg_fn_t)(cpg_handle_t, struct cpg_ring_id, uint32_t, const uint32_t *);
typedef struct {
    int model;
    cpg_deliver_fn_t deliver;
    cpg_confchg_fn_t confchg;
    cpg_totem_confchg_fn_t totem;
    unsigned int flags;
} cpg_model_v1_data_t;
cs_error_t cpg_model_initialize(cpg_handle_t *, int, cpg_model_v1_data_t *, void *);
cs_error_t cpg_finalize(cpg_handle_t);
cs_error_t cpg_fd_get(cpg_handle_t, int *);
cs_error_t cpg_dispatch(cpg_handle_t, int);
cs_error_t cpg_local_get(cpg_handle_t, unsigned int *);
cs_error_t cpg_join(cpg_handle_t, const struct cpg_name *);
cs_error_t cpg_leave(cpg_handle_t, const struct cpg_name *);
cs_error_t cpg_mcast_joined(cpg_handle_t, int, const struct iovec *, unsigned int);

typedef uint64_t quorum_handle_t;
struct quorum_ring_id { uint32_t nodeid; uint64_t seq; };
typedef void (*quorum_quorum_fn_t)(quorum_handle_t, uint32_t, struct quorum_ring_id, uint32_t, const uint32_t *);
typedef void (*quorum_nodelist_fn_t)(quorum_handle_t, struct quorum_ring_id, uint32_t, const uint32_t *,
    uint32_t, const uint32_t *, uint32_t, const uint32_t *);
typedef struct { int model; quorum_quorum_fn_t quorum; quorum_nodelist_fn_t nodelist; } quorum_model_v1_data_t;
cs_error_t quorum_model_initialize(quorum_handle_t *, int, quorum_model_v1_data_t *, uint32_t *, void *);
cs_error_t quorum_finalize(quorum_handle_t);
cs_error_t quorum_fd_get(quorum_handle_t, int *);
cs_error_t quorum_dispatch(quorum_handle_t, int);
cs_error_t quorum_trackstart(quorum_handle_t, unsigned int);

typedef uint64_t cmap_handle_t;
typedef uint64_t cmap_iter_handle_t;
typedef uint64_t cmap_track_handle_t;
struct cmap_notify_value { int type; size_t len; const void *data; };
typedef void (*cmap_notify_fn_t)(cmap_handle_t, cmap_track_handle_t, int32_t, const char *,
    struct cmap_notify_value, struct cmap_notify_value, void *);
cs_error_t cmap_initialize(cmap_handle_t *);
cs_error_t cmap_finalize(cmap_handle_t);
cs_error_t cmap_fd_get(cmap_handle_t, int *);
cs_error_t cmap_dispatch(cmap_handle_t, int);
cs_error_t cmap_get(cmap_handle_t, const char *, void *, size_t *, int *);
cs_error_t cmap_iter_init(cmap_handle_t, const char *, cmap_iter_handle_t *);
cs_error_t cmap_iter_next(cmap_handle_t, cmap_iter_handle_t, char *, size_t *, int *);
cs_error_t cmap_iter_finalize(cmap_handle_t, cmap_iter_handle_t);
cs_error_t cmap_track_add(cmap_handle_t, const char *, int32_t, cmap_notify_fn_t, void *, cmap_track_handle_t *);

typedef uint64_t corosync_cfg_handle_t;
typedef void (*corosync_cfg_shutdown_fn_t)(corosync_cfg_handle_t, int);
typedef struct { corosync_cfg_shutdown_fn_t shutdown; } corosync_cfg_callbacks_t;
cs_error_t corosync_cfg_initialize(corosync_cfg_handle_t *, const corosync_cfg_callbacks_t *);
cs_error_t corosync_cfg_finalize(corosync_cfg_handle_t);
cs_error_t corosync_cfg_fd_get(corosync_cfg_handle_t, int *);
cs_error_t corosync_cfg_dispatch(corosync_cfg_handle_t, int);
cs_error_t corosync_cfg_local_get(corosync_cfg_handle_t, unsigned int *);
cs_error_t corosync_cfg_trackstart(corosync_cfg_handle_t, uint8_t);
cs_error_t corosync_cfg_replyto_shutdown(corosync_cfg_handle_t, int);
cs_error_t corosync_cfg_kill_node(corosync_cfg_handle_t, unsigned int, const char *);
"""


def generate() -> str:
    """The text of _declared.py."""
    ffi = FFI()
    ffi.set_source(MODULE, None)
    ffi.cdef(DECLARATIONS)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "declared.py")
        ffi.emit_python_code(str(path))
        return _HEADER + path.read_text(encoding="utf-8")


if __name__ == "__main__":
    TARGET.write_text(generate(), encoding="utf-8")
