/* A fake libcuda, as far as ONNX Runtime and the runtime library ask it. The vendor's header checks the signatures. */
#include "state.h"
#include <cuda.h>
#include <stdio.h>
#include <string.h>

static int context;
#define AT(device) fake_device_at((device), 0)

CUresult cuInit(unsigned flags) { (void)flags; return fake_device_count(0) ? 0 : CUDA_ERROR_NO_DEVICE; }
CUresult cuDriverGetVersion(int *version) { *version = fake_driver_cuda(); return 0; }
CUresult cuDeviceGetCount(int *count) { *count = fake_device_count(0); return 0; }
CUresult cuDeviceGet(CUdevice *device, int ordinal) { *device = ordinal; return AT(ordinal) ? 0 : CUDA_ERROR_INVALID_DEVICE; }
CUresult cuDeviceGetName(char *name, int length, CUdevice device) { if (!AT(device)) return CUDA_ERROR_INVALID_DEVICE; snprintf(name, length, "%s", AT(device)->name); return 0; }
CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) { if (!AT(device)) return CUDA_ERROR_INVALID_DEVICE; *bytes = AT(device)->memory_bytes; return 0; }
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    if (!AT(device)) return CUDA_ERROR_INVALID_DEVICE;
    *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? AT(device)->sm / 10
           : attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? AT(device)->sm % 10
           : attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT ? 58 : 0;
    return 0;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *made, CUdevice device) { *made = (CUcontext)&context; return AT(device) ? 0 : CUDA_ERROR_INVALID_DEVICE; }
CUresult cuDevicePrimaryCtxRelease(CUdevice device) { (void)device; return 0; }
CUresult cuCtxGetCurrent(CUcontext *now) { *now = (CUcontext)&context; return 0; }
CUresult cuCtxSetCurrent(CUcontext one) { (void)one; return 0; }
CUresult cuGetErrorString(CUresult error, const char **text) { *text = error ? "error of the fake driver" : "no error"; return 0; }
CUresult cuGetErrorName(CUresult error, const char **text) { *text = error ? "CUDA_ERROR_UNKNOWN" : "CUDA_SUCCESS"; return 0; }
CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *address, const cuuint64_t *sizes, const cuuint64_t *strides, const cuuint32_t *box, const cuuint32_t *steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
    (void)type, (void)rank, (void)address, (void)sizes, (void)strides, (void)box, (void)steps, (void)interleave, (void)swizzle, (void)promotion, (void)fill;
    memset(map, 0, sizeof *map);
    return 0;
}
