/* A fake libcublasLt: descriptors are opaque memory, and every product is one launch on the stream of its call. */
#include "state.h"
#include <stdlib.h>
#include <string.h>

enum { EXECUTION_FAILED = 13 };
/* cublasLtMatmulHeuristicResult_t, in the layout that the vendor's manual documents. */
typedef struct { uint64_t algorithm[8]; size_t workspace_bytes; int status; float waves; int reserved[4]; } heuristic;

static int made(void **out) { *out = calloc(1, 256); return 0; }
int cublasLtCreate(void **handle) { return made(handle); }
int cublasLtDestroy(void *handle) { free(handle); return 0; }
int cublasLtMatmulDescCreate(void **d, int compute, int scale) { (void)compute, (void)scale; return made(d); }
int cublasLtMatmulDescDestroy(void *d) { free(d); return 0; }
int cublasLtMatmulPreferenceCreate(void **p) { return made(p); }
int cublasLtMatmulPreferenceDestroy(void *p) { free(p); return 0; }
int cublasLtMatrixLayoutCreate(void **l, int type, uint64_t rows, uint64_t columns, int64_t stride) { (void)type, (void)rows, (void)columns, (void)stride; return made(l); }
int cublasLtMatrixLayoutDestroy(void *l) { free(l); return 0; }
int cublasLtMatrixTransformDescCreate(void **d, int scale) { (void)scale; return made(d); }
int cublasLtMatrixTransformDescDestroy(void *d) { free(d); return 0; }
int cublasLtMatmulAlgoGetHeuristic(void *h, void *d, void *a, void *b, void *c, void *e, void *preference, int asked, heuristic *found, int *count) {
    (void)h, (void)d, (void)a, (void)b, (void)c, (void)e, (void)preference;
    *count = asked > 0;
    if (*count) memset(found, 0, sizeof *found), found->waves = 1;
    return 0;
}
int cublasLtMatmul(void *h, void *d, const void *alpha, const void *a, void *al, const void *b, void *bl, const void *beta, const void *c, void *cl, void *o, void *ol, const void *algorithm, void *workspace, size_t bytes, fake_stream *stream) {
    (void)h, (void)d, (void)alpha, (void)a, (void)al, (void)b, (void)bl, (void)beta, (void)c, (void)cl, (void)o, (void)ol, (void)algorithm, (void)workspace, (void)bytes;
    return fake_launch(stream) ? EXECUTION_FAILED : 0;
}
int cublasLtMatrixTransform(void *h, void *d, const void *alpha, const void *a, void *al, const void *beta, const void *b, void *bl, void *c, void *cl, fake_stream *stream) {
    (void)h, (void)d, (void)alpha, (void)a, (void)al, (void)beta, (void)b, (void)bl, (void)c, (void)cl;
    return fake_launch(stream) ? EXECUTION_FAILED : 0;
}
