/* A fake libcudart over libfakegpu. The vendor's header checks every signature. Kernels are counted, not computed. */
#define _GNU_SOURCE
#include "state.h"
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

static __thread cudaError_t last;
static cudaError_t kept(int error) {
    if (error) last = (cudaError_t)error;
    return (cudaError_t)error;
}
#define STREAM(stream) ((fake_stream *)(stream))
#define GRAPH(graph) ((fake_graph *)(graph))
#define CHECKED(expression) return kept(fake_ready() ? fake_ready() : (expression))

/* ---- errors and devices */
cudaError_t cudaGetLastError(void) { cudaError_t was = fake_fault() ? (cudaError_t)fake_fault() : last; last = 0; return was; }
cudaError_t cudaPeekAtLastError(void) { return fake_fault() ? (cudaError_t)fake_fault() : last; }
static const struct { int code; const char *name, *text; } ERRORS[] = {
    {0, "cudaSuccess", "no error"}, {1, "cudaErrorInvalidValue", "invalid argument"},
    {2, "cudaErrorMemoryAllocation", "out of memory"},
    {35, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"},
    {46, "cudaErrorDevicesUnavailable", "CUDA-capable device(s) is/are busy or unavailable"},
    {100, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {101, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {209, "cudaErrorNoKernelImageForDevice", "no kernel image is available for execution on the device"},
    {214, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {400, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {401, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
    {700, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {719, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {900, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
    {901, "cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"},
    {906, "cudaErrorStreamCaptureImplicit", "operation would make the legacy stream depend on a capturing blocking stream"},
};
#define ERROR_COUNT (sizeof ERRORS / sizeof *ERRORS)
const char *cudaGetErrorName(cudaError_t error) {
    for (size_t i = 0; i < ERROR_COUNT; i++) if (ERRORS[i].code == (int)error) return ERRORS[i].name;
    return "unrecognized error code";
}
const char *cudaGetErrorString(cudaError_t error) {
    for (size_t i = 0; i < ERROR_COUNT; i++) if (ERRORS[i].code == (int)error) return ERRORS[i].text;
    return "unrecognized error code";
}
cudaError_t cudaDriverGetVersion(int *version) { *version = fake_driver_cuda(); return 0; }
cudaError_t cudaRuntimeGetVersion(int *version) { *version = CUDART_VERSION; return 0; }
cudaError_t cudaGetDeviceCount(int *count) {
    *count = 0;
    int error = fake_ready();
    if (!error) *count = fake_device_count(0);
    return kept(error);
}
cudaError_t cudaGetDevice(int *device) { *device = fake_current_device(); CHECKED(0); }
cudaError_t cudaSetDevice(int device) { CHECKED(fake_set_device(device)); }
cudaError_t cudaSetDeviceFlags(unsigned flags) { (void)flags; CHECKED(0); }
cudaError_t cudaInitDevice(int device, unsigned flags, unsigned chosen) { (void)flags, (void)chosen; return cudaSetDevice(device); }
cudaError_t cudaDeviceReset(void) { CHECKED(0); }
cudaError_t cudaDeviceSynchronize(void) { fake_gpu_counts.synchronizations++; CHECKED(fake_forbidden_in_capture(NULL)); }
cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) { (void)device, (void)peer; *can = 0; CHECKED(0); }
cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device) { snprintf(id, length, "0000:%02x:00.0", device + 1); CHECKED(0); }
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int ordinal) {
    fake_device *device = fake_device_at(ordinal, 0);
    if (!device) return kept(fake_ready() ? fake_ready() : cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s", device->name);
    memcpy(p->uuid.bytes, device->uuid + 4, sizeof p->uuid.bytes);
    p->major = device->sm / 10, p->minor = device->sm % 10;
    p->totalGlobalMem = device->memory_bytes;
    p->multiProcessorCount = 58, p->warpSize = 32, p->maxThreadsPerBlock = 1024, p->regsPerBlock = 65536;
    p->maxThreadsPerMultiProcessor = 1536, p->maxBlocksPerMultiProcessor = 24, p->regsPerMultiprocessor = 65536;
    for (int i = 0; i < 3; i++) p->maxThreadsDim[i] = i == 2 ? 64 : 1024, p->maxGridSize[i] = i ? 65535 : 2147483647;
    p->sharedMemPerBlock = 49152, p->sharedMemPerBlockOptin = 101376, p->sharedMemPerMultiprocessor = 102400;
    p->l2CacheSize = 48 << 20, p->unifiedAddressing = 1, p->canMapHostMemory = 1, p->concurrentKernels = 1;
    p->asyncEngineCount = 2, p->ECCEnabled = device->ecc, p->memoryPoolsSupported = 1, p->cooperativeLaunch = 1;
    p->pciBusID = ordinal + 1;
    CHECKED(0);
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int ordinal) {
    struct cudaDeviceProp p;
    cudaError_t error = cudaGetDeviceProperties(&p, ordinal);
    if (error) return error;
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p.sharedMemPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p.sharedMemPerBlockOptin; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = (int)p.sharedMemPerMultiprocessor; break;
    case cudaDevAttrMaxRegistersPerBlock: *value = p.regsPerBlock; break;
    case cudaDevAttrWarpSize: *value = p.warpSize; break;
    case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
    case cudaDevAttrMemoryPoolsSupported: *value = p.memoryPoolsSupported; break;
    default: *value = 0;
    }
    return 0;
}

/* ---- memory */
cudaError_t cudaMalloc(void **pointer, size_t bytes) { return kept(fake_allocate(pointer, bytes, 0)); }
cudaError_t cudaMallocAsync(void **pointer, size_t bytes, cudaStream_t stream) { (void)stream; return cudaMalloc(pointer, bytes); }
cudaError_t cudaMallocFromPoolAsync(void **pointer, size_t bytes, cudaMemPool_t pool, cudaStream_t stream) { (void)pool, (void)stream; return cudaMalloc(pointer, bytes); }
cudaError_t cudaFree(void *pointer) { return kept(fake_release(pointer, 0)); }
cudaError_t cudaFreeAsync(void *pointer, cudaStream_t stream) { (void)stream; return cudaFree(pointer); }
cudaError_t cudaMallocHost(void **pointer, size_t bytes) { return kept(fake_allocate(pointer, bytes, 1)); }
cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned flags) { (void)flags; return cudaMallocHost(pointer, bytes); }
cudaError_t cudaFreeHost(void *pointer) { return kept(fake_release(pointer, 1)); }
cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    fake_device *device = fake_device_at(fake_current_device(), 0);
    if (!device) return kept(fake_ready());
    *total = device->memory_bytes, *available = device->memory_bytes - device->used_bytes - device->allocated_bytes;
    CHECKED(0);
}
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *pointer) {
    const char *kind = fake_last_ptr_kind(pointer);
    memset(attributes, 0, sizeof *attributes);
    attributes->type = *kind == 'd' ? cudaMemoryTypeDevice : !strcmp(kind, "pinned") ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    attributes->device = fake_pointer_device(pointer);
    if (*kind == 'd') attributes->devicePointer = (void *)pointer;
    else attributes->hostPointer = (void *)pointer;
    CHECKED(0);
}
cudaError_t cudaMemcpy(void *target, const void *source, size_t bytes, enum cudaMemcpyKind kind) { (void)kind; return kept(fake_copy(target, source, bytes, NULL, 1)); }
cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) { (void)kind; return kept(fake_copy(target, source, bytes, STREAM(stream), 0)); }
cudaError_t cudaMemcpy2DAsync(void *target, size_t target_pitch, const void *source, size_t pitch, size_t width, size_t height, enum cudaMemcpyKind kind, cudaStream_t stream) {
    (void)kind;
    for (size_t row = 0; row < height; row++) {
        int error = fake_copy((char *)target + row * target_pitch, (const char *)source + row * pitch, width, STREAM(stream), 0);
        if (error) return kept(error);
    }
    return 0;
}
cudaError_t cudaMemcpyFromSymbol(void *target, const void *symbol, size_t bytes, size_t offset, enum cudaMemcpyKind kind) { (void)symbol, (void)offset, (void)kind; memset(target, 0, bytes); CHECKED(0); }
cudaError_t cudaMemset(void *target, int value, size_t bytes) { return kept(fake_set(target, value, bytes, NULL)); }
cudaError_t cudaMemsetAsync(void *target, int value, size_t bytes, cudaStream_t stream) { return kept(fake_set(target, value, bytes, STREAM(stream))); }
cudaError_t cudaMemPoolCreate(cudaMemPool_t *pool, const struct cudaMemPoolProps *props) { (void)props; *pool = malloc(8); CHECKED(0); }
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) { free(pool); return 0; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytes) { (void)pool, (void)bytes; CHECKED(0); }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute, void *value) { (void)pool, (void)attribute, (void)value; CHECKED(0); }
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute, void *value) { (void)pool, (void)attribute; *(uint64_t *)value = 0; CHECKED(0); }

/* ---- streams, events, graphs */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) { *stream = (cudaStream_t)fake_stream_new(!(flags & cudaStreamNonBlocking)); CHECKED(0); }
cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) { (void)priority; return cudaStreamCreateWithFlags(stream, flags); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { fake_stream_delete(STREAM(stream)); CHECKED(0); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { fake_gpu_counts.synchronizations++; CHECKED(stream ? fake_forbidden_in_capture(STREAM(stream)) : 0); }
cudaError_t cudaStreamQuery(cudaStream_t stream) { (void)stream; CHECKED(0); }
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) { *status = fake_capture_status(STREAM(stream)); CHECKED(0); }
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) { CHECKED(fake_capture_begin(STREAM(stream), mode)); }
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) { CHECKED(fake_capture_end(STREAM(stream), (fake_graph **)graph)); }
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags) { (void)flags; fake_graph_hold(GRAPH(graph)); *exec = (cudaGraphExec_t)graph; CHECKED(0); }
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) { CHECKED(fake_graph_launch(GRAPH(exec), STREAM(stream))); }
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { fake_graph_drop(GRAPH(graph)); return 0; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { fake_graph_drop(GRAPH(exec)); return 0; }
cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream) { (void)exec, (void)stream; CHECKED(0); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) { (void)flags; *event = calloc(1, sizeof(fake_event)); fake_gpu_counts.event_creations++; CHECKED(0); }
cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { free(event); return 0; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { fake_event_record((fake_event *)event, STREAM(stream)); CHECKED(0); }
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) { (void)flags; return cudaEventRecord(event, stream); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { (void)event; fake_gpu_counts.synchronizations++; CHECKED(0); }
cudaError_t cudaEventQuery(cudaEvent_t event) { (void)event; CHECKED(0); }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) { *ms = (((fake_event *)end)->recorded_ns - ((fake_event *)start)->recorded_ns) / 1e6f; CHECKED(0); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) { (void)flags; CHECKED(fake_wait_event(STREAM(stream), (fake_event *)event)); }
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
    if (!fake_capture_status(STREAM(stream))) function(data);
    CHECKED(0);
}

/* ---- kernels */
cudaError_t cudaLaunchKernel(const void *f, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) { (void)f, (void)grid, (void)block, (void)arguments, (void)shared; return kept(fake_launch(STREAM(stream))); }
cudaError_t cudaLaunchCooperativeKernel(const void *f, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) { (void)f, (void)grid, (void)block, (void)arguments, (void)shared; return kept(fake_launch(STREAM(stream))); }
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *f, void **arguments) { (void)f, (void)arguments; return kept(fake_launch(STREAM(config->stream))); }
cudaError_t __cudaLaunchKernel(cudaKernel_t f, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) { (void)f, (void)grid, (void)block, (void)arguments, (void)shared; return kept(fake_launch(STREAM(stream))); }
/* The compiler's calls around f<<<...>>>: the configuration goes from the push to the stub, which pops it. */
static __thread struct { dim3 grid, block; size_t shared; void *stream; } pushed;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void *stream) { pushed.grid = grid, pushed.block = block, pushed.shared = shared, pushed.stream = stream; return 0; }
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) { *grid = pushed.grid, *block = pushed.block, *shared = pushed.shared, *(void **)stream = pushed.stream; return 0; }
static void *handle[4];
void **__cudaRegisterFatBinary(void *binary) { (void)binary; return handle; }
void __cudaRegisterFatBinaryEnd(void **h) { (void)h; }
void __cudaUnregisterFatBinary(void **h) { (void)h; }
void __cudaRegisterFunction(void **h, const char *f, char *d, const char *n, int limit, void *t, void *b, void *bd, void *gd, int *w) { (void)h, (void)f, (void)d, (void)n, (void)limit, (void)t, (void)b, (void)bd, (void)gd, (void)w; }
void __cudaRegisterVar(void **h, char *v, char *a, const char *n, int e, size_t s, int c, int g) { (void)h, (void)v, (void)a, (void)n, (void)e, (void)s, (void)c, (void)g; }
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *f) { *kernel = (cudaKernel_t)f; CHECKED(0); }
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *f) {
    (void)f;
    memset(attributes, 0, sizeof *attributes);
    fake_device *device = fake_device_at(fake_current_device(), 0);
    attributes->maxThreadsPerBlock = 1024, attributes->numRegs = 32, attributes->maxDynamicSharedSizeBytes = 101376;
    attributes->ptxVersion = attributes->binaryVersion = device ? device->sm : 0;
    CHECKED(0);
}
cudaError_t cudaFuncSetAttribute(const void *f, enum cudaFuncAttribute attribute, int value) { (void)f, (void)attribute, (void)value; CHECKED(0); }
cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t kernel, enum cudaFuncAttribute attribute, int value, int device) { (void)kernel, (void)attribute, (void)value, (void)device; CHECKED(0); }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *f, int size, size_t shared, unsigned flags) { (void)f, (void)size, (void)shared, (void)flags; *blocks = 1; CHECKED(0); }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *f, int size, size_t shared) { return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, f, size, shared, 0); }
cudaError_t cudaLibraryLoadData(cudaLibrary_t *library, const void *code, enum cudaJitOption *jit, void **jit_values, unsigned jit_count, enum cudaLibraryOption *options, void **values, unsigned count) { (void)code, (void)jit, (void)jit_values, (void)jit_count, (void)options, (void)values, (void)count; *library = (cudaLibrary_t)handle; CHECKED(0); }
cudaError_t cudaLibraryUnload(cudaLibrary_t library) { (void)library; return 0; }
cudaError_t cudaLibraryGetKernel(cudaKernel_t *kernel, cudaLibrary_t library, const char *name) { (void)library, (void)name; *kernel = (cudaKernel_t)handle; CHECKED(0); }
cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version, unsigned long long flags, enum cudaDriverEntryPointQueryResult *result) {
    (void)version, (void)flags;
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY);
    *function = driver ? dlsym(driver, symbol) : NULL;
    if (result) *result = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    CHECKED(*function ? 0 : cudaErrorInvalidValue);
}
