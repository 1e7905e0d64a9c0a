/* A fake libcublas: a handle keeps its stream, and every product is one launch on it. Products that the provider calls
 * and that this file does not name are generated in the same way by build.py (their first argument is the handle). */
#include "state.h"
#include <stdlib.h>

typedef struct { fake_stream *stream; int math_mode; } handle;
enum { NOT_INITIALIZED = 1, ALLOC_FAILED = 3, EXECUTION_FAILED = 13 };

int cublasCreate_v2(handle **made) { *made = calloc(1, sizeof **made); return fake_ready() ? NOT_INITIALIZED : 0; }
int cublasDestroy_v2(handle *h) { free(h); return 0; }
int cublasSetStream_v2(handle *h, fake_stream *stream) { h->stream = stream; return 0; }
int cublasGetStream_v2(handle *h, fake_stream **stream) { *stream = h->stream; return 0; }
int cublasSetMathMode(handle *h, int mode) { h->math_mode = mode; return 0; }
int cublasGetMathMode(handle *h, int *mode) { *mode = h->math_mode; return 0; }
int cublasSetWorkspace_v2(handle *h, void *workspace, size_t bytes) { (void)h, (void)workspace, (void)bytes; return 0; }
const char *cublasGetStatusName(int status) { return status ? "CUBLAS_STATUS_EXECUTION_FAILED" : "CUBLAS_STATUS_SUCCESS"; }
const char *cublasGetStatusString(int status) { return status ? "the library failed to execute" : "success"; }
int fake_cublas_product(handle *h) { return fake_launch(h->stream) ? EXECUTION_FAILED : 0; }
