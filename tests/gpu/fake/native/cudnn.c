/* A fake libcudnn, version 9: descriptors are opaque memory, and every forward call is one launch on the handle's stream.
 * The vendor's headers are not in a package of reasonable size; the argument lists follow its manual. */
#include "state.h"
#include <stdlib.h>
#include <string.h>

typedef struct { fake_stream *stream; } handle;
typedef struct { int data_type, rank, sizes[8], strides[8]; } tensor;
typedef struct { int rank, pads[8], steps[8], dilations[8]; } convolution;
/* cudnnConvolutionFwdAlgoPerf_t */
typedef struct { int algorithm, status; float time_ms; size_t memory_bytes; int determinism, math; int reserved[3]; } performance;
typedef struct { int gates, element_bytes; int64_t input, hidden; } recurrent;
enum { NOT_INITIALIZED = 1001, EXECUTION_FAILED = 5000, NOT_SUPPORTED = 3000 };

static int launch(handle *h) { return fake_launch(h->stream) ? EXECUTION_FAILED : 0; }
size_t cudnnGetVersion(void) { return 91002; }
const char *cudnnGetErrorString(int status) { return status == 0 ? "CUDNN_STATUS_SUCCESS" : status == NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED" : "CUDNN_STATUS_EXECUTION_FAILED"; }
void cudnnGetLastErrorString(char *text, size_t bytes) { if (bytes) *text = 0; }
int cudnnCreate(handle **made) { *made = calloc(1, sizeof **made); return fake_ready() ? NOT_INITIALIZED : 0; }
int cudnnDestroy(handle *h) { free(h); return 0; }
int cudnnSetStream(handle *h, fake_stream *stream) { h->stream = stream; return 0; }
int cudnnGetStream(handle *h, fake_stream **stream) { *stream = h->stream; return 0; }

#define DESCRIPTOR(NAME, BYTES) \
    int cudnnCreate##NAME##Descriptor(void **made) { *made = calloc(1, BYTES); return 0; } \
    int cudnnDestroy##NAME##Descriptor(void *one) { free(one); return 0; }
DESCRIPTOR(Tensor, sizeof(tensor))
DESCRIPTOR(Filter, 256)
DESCRIPTOR(Convolution, 256)
DESCRIPTOR(Activation, 256)
DESCRIPTOR(Pooling, 256)
DESCRIPTOR(LRN, 256)
DESCRIPTOR(Dropout, 256)
DESCRIPTOR(RNN, sizeof(recurrent))
DESCRIPTOR(RNNData, 256)
DESCRIPTOR(ReduceTensor, 256)
#define ACCEPTS(NAME) int NAME(void *one) { return one ? 0 : EXECUTION_FAILED; }
ACCEPTS(cudnnSetFilterNdDescriptor)
ACCEPTS(cudnnSetConvolutionNdDescriptor)
ACCEPTS(cudnnSetConvolutionGroupCount)
ACCEPTS(cudnnSetConvolutionMathType)
ACCEPTS(cudnnSetActivationDescriptor)
ACCEPTS(cudnnSetPoolingNdDescriptor)
ACCEPTS(cudnnSetLRNDescriptor)
ACCEPTS(cudnnSetDropoutDescriptor)
ACCEPTS(cudnnSetRNNDataDescriptor)
ACCEPTS(cudnnSetReduceTensorDescriptor)
ACCEPTS(cudnnDeriveBNTensorDescriptor)
int cudnnSetTensorNdDescriptor(tensor *t, int type, int rank, const int *sizes, const int *strides) {
    if (rank > 8) return NOT_SUPPORTED;
    t->data_type = type, t->rank = rank;
    memcpy(t->sizes, sizes, rank * sizeof *sizes), memcpy(t->strides, strides, rank * sizeof *strides);
    return 0;
}
int cudnnGetTensorNdDescriptor(tensor *t, int asked, int *type, int *rank, int *sizes, int *strides) {
    int count = asked < t->rank ? asked : t->rank;
    *type = t->data_type, *rank = t->rank;
    memcpy(sizes, t->sizes, count * sizeof *sizes), memcpy(strides, t->strides, count * sizeof *strides);
    return 0;
}
int cudnnDropoutGetStatesSize(handle *h, size_t *bytes) { (void)h; *bytes = 1024; return 0; }

static int one_algorithm(int asked, int *count, performance *found) {
    *count = asked > 0;
    if (*count) memset(found, 0, sizeof *found), found->algorithm = 1, found->time_ms = .01f;
    return 0;
}
int cudnnGetConvolutionForwardAlgorithm_v7(handle *h, void *x, void *w, void *c, void *y, int asked, int *count, performance *found) { (void)h, (void)x, (void)w, (void)c, (void)y; return one_algorithm(asked, count, found); }
int cudnnFindConvolutionForwardAlgorithmEx(handle *h, void *x, void *xd, void *w, void *wd, void *c, void *y, void *yd, int asked, int *count, performance *found, void *workspace, size_t bytes) {
    (void)x, (void)xd, (void)w, (void)wd, (void)c, (void)y, (void)yd, (void)workspace, (void)bytes;
    return launch(h) ? EXECUTION_FAILED : one_algorithm(asked, count, found);
}
int cudnnGetConvolutionForwardWorkspaceSize(handle *h, void *x, void *w, void *c, void *y, int algorithm, size_t *bytes) { (void)h, (void)x, (void)w, (void)c, (void)y, (void)algorithm; *bytes = 0; return 0; }
int cudnnGetReductionIndicesSize(handle *h, void *r, void *a, void *c, size_t *bytes) { (void)h, (void)r, (void)a, (void)c; *bytes = 0; return 0; }
int cudnnGetReductionWorkspaceSize(handle *h, void *r, void *a, void *c, size_t *bytes) { (void)h, (void)r, (void)a, (void)c; *bytes = 0; return 0; }
int cudnnGetRNNTempSpaceSizes(handle *h, void *r, int mode, void *x, size_t *work, size_t *reserve) { (void)h, (void)r, (void)mode, (void)x; *work = 1024, *reserve = 0; return 0; }
int cudnnSetRNNDescriptor_v8(recurrent *r, int algorithm, int cell, int bias, int direction, int input_mode, int type, int precision, int math, int32_t input, int32_t hidden) {
    (void)algorithm, (void)bias, (void)direction, (void)input_mode, (void)precision, (void)math;
    *r = (recurrent){cell == 2 ? 4 : cell == 3 ? 3 : 1, type == 1 ? 8 : type == 2 ? 2 : 4, input, hidden};
    return 0;
}
/* The place of one gate's matrix and bias in the weights: all matrices of a direction first, then its biases. */
int cudnnGetRNNWeightParams(handle *h, recurrent *r, int32_t layer, size_t bytes, void *weights, int32_t gate, tensor *matrix, void **matrix_at, tensor *bias, void **bias_at) {
    (void)h;
    int64_t matrices = r->gates * r->hidden * (r->input + r->hidden), biases = 2 * r->gates * r->hidden;
    int64_t at = layer * (matrices + biases), width = gate < r->gates ? r->input : r->hidden;
    int64_t before = gate < r->gates ? gate * r->hidden * r->input : r->gates * r->hidden * r->input + (gate - r->gates) * r->hidden * r->hidden;
    if ((at + matrices + biases) * r->element_bytes > (int64_t)bytes) return EXECUTION_FAILED;
    *matrix_at = (char *)weights + (at + before) * r->element_bytes;
    *bias_at = (char *)weights + (at + matrices + gate * r->hidden) * r->element_bytes;
    *matrix = (tensor){0, 3, {1, r->hidden, width}, {r->hidden * width, width, 1}};
    *bias = (tensor){0, 3, {1, r->hidden, 1}, {r->hidden, 1, 1}};
    return 0;
}
int cudnnGetRNNWeightSpaceSize(handle *h, void *r, size_t *bytes) { (void)h, (void)r; *bytes = 1 << 20; return 0; }

#define LAUNCHES(NAME) int NAME(handle *h) { return launch(h); }
LAUNCHES(cudnnConvolutionForward)
LAUNCHES(cudnnConvolutionBiasActivationForward)
LAUNCHES(cudnnAddTensor)
LAUNCHES(cudnnActivationForward)
LAUNCHES(cudnnPoolingForward)
LAUNCHES(cudnnSoftmaxForward)
LAUNCHES(cudnnReduceTensor)
LAUNCHES(cudnnLRNCrossChannelForward)
LAUNCHES(cudnnBatchNormalizationForwardInference)
LAUNCHES(cudnnRNNForward)

/* The graph interface, through which convolutions go: one engine, without workspace, for every graph. */
enum { ENGINE_RESULTS = 202, ENGINE_OF_CONFIG = 300, WORKSPACE_OF_CONFIG = 303, SHARED_OF_CONFIG = 304, WORKSPACE_OF_PLAN = 402, ENGINE_INDEX = 1301 };
int cudnnBackendCreateDescriptor(int type, void **made) { *made = calloc(1, 64); **(int **)made = type; return 0; }
int cudnnBackendDestroyDescriptor(void *one) { free(one); return 0; }
int cudnnBackendFinalize(void *one) { return one ? 0 : EXECUTION_FAILED; }
int cudnnBackendSetAttribute(void *one, int name, int type, int64_t count, const void *values) { (void)name, (void)type, (void)count, (void)values; return one ? 0 : EXECUTION_FAILED; }
int cudnnBackendGetAttribute(void *one, int name, int type, int64_t asked, int64_t *count, void *values) {
    (void)one, (void)type;
    int scalar = name == WORKSPACE_OF_CONFIG || name == WORKSPACE_OF_PLAN || name == ENGINE_INDEX;
    if (scalar && values && asked) *(int64_t *)values = 0;
    if (name == SHARED_OF_CONFIG && values && asked) *(int32_t *)values = 0;
    if (count) *count = scalar || name == SHARED_OF_CONFIG || name == ENGINE_RESULTS || name == ENGINE_OF_CONFIG;
    return 0;
}
int cudnnBackendExecute(handle *h, void *plan, void *pack) { (void)plan, (void)pack; return launch(h); }
