/* State of the fake GPUs of this process: devices, memory, streams, captured graphs, counters, planned faults.
 * libfakegpu.so owns it. The fake libcudart, libcublas, libcublasLt, libcudnn, libcuda and libnvidia-ml share it. */
#ifndef FAKE_STATE_H
#define FAKE_STATE_H
#include <stddef.h>
#include <stdint.h>

#define FAKE_MAX_DEVICES 16
#define MIB ((size_t)1 << 20)

typedef struct {
    char name[96], uuid[48];
    int sm;              /* compute capability, for example 89 */
    int mig;             /* MIG mode: 0 or 1 */
    int ecc;             /* ECC mode: 0 or 1 */
    int ecc_errors;      /* uncorrected ECC errors since start */
    int utilization;     /* percent, as NVML reports it */
    size_t memory_bytes; /* all memory of the device */
    size_t used_bytes;   /* memory that other processes hold */
    size_t allocated_bytes; /* memory that this process holds */
} fake_device;

/* In the order of the ctypes structure in tests/gpu/fake/counters.py. */
typedef struct {
    uint64_t kernel_launches;   /* kernels and library calls that were launched outside of a capture */
    uint64_t captured_launches; /* kernels and library calls that a capture recorded */
    uint64_t graph_launches, captures;
    uint64_t copies_to_device, copies_to_host, copies_on_device; /* outside of graphs */
    uint64_t bytes_to_device, bytes_to_host, bytes_on_device;
    uint64_t device_allocations, device_frees, host_allocations, host_frees;
    uint64_t allocated_bytes, peak_allocated_bytes, pinned_bytes;
    uint64_t synchronizations, stream_creations, event_creations, refused_in_capture;
    uint64_t pageable_async_copies; /* asynchronous copies from or to host memory that is not pinned */
} fake_counters;

typedef struct fake_stream fake_stream;
typedef struct fake_graph fake_graph;
typedef struct { int64_t recorded_ns; fake_graph *graph; } fake_event;

extern fake_counters fake_gpu_counts;

/* NULL for an ordinal that is not there. Hidden devices (CUDA_VISIBLE_DEVICES) are counted only where `hidden_too`. */
fake_device *fake_device_at(int ordinal, int hidden_too);
int fake_device_count(int hidden_too);
int fake_current_device(void);
int fake_set_device(int ordinal);
const char *fake_driver_version(void);
int fake_driver_cuda(void); /* 13000 for CUDA 13.0 */
const char *fake_last_ptr_kind(const void *pointer); /* "device", "pinned" or "pageable" */
int fake_pointer_device(const void *pointer);

/* All return a cudaError_t. */
int fake_fault(void); /* the sticky error, or 0 */
int fake_ready(void); /* 35 for a driver that is too old, 100 without a device, else the sticky error or 0 */
int fake_allocate(void **out, size_t bytes, int pinned);
int fake_release(void *pointer, int pinned);
int fake_launch(fake_stream *stream);
int fake_copy(void *target, const void *source, size_t bytes, fake_stream *stream, int waits);
int fake_set(void *target, int value, size_t bytes, fake_stream *stream);
int fake_forbidden_in_capture(fake_stream *stream); /* error of a call that waits for, or allocates on, the device */

fake_stream *fake_stream_new(int blocking);
void fake_stream_delete(fake_stream *stream);
int fake_capture_begin(fake_stream *stream, int mode);
int fake_capture_end(fake_stream *stream, fake_graph **graph);
int fake_capture_status(fake_stream *stream);
int fake_graph_launch(fake_graph *graph, fake_stream *stream);
void fake_graph_hold(fake_graph *graph);
void fake_graph_drop(fake_graph *graph);
void fake_event_record(fake_event *event, fake_stream *stream);
int fake_wait_event(fake_stream *stream, fake_event *event);

/* For tests, through ctypes. */
int fake_gpu_configure(const char *text);
void fake_gpu_reset_counts(void);
void fake_gpu_fail(int code, long after_launches);
#endif
