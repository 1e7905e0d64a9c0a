/* libfakegpu.so: see state.h. */
#define _GNU_SOURCE
#include "state.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { OUT_OF_MEMORY = 2, INVALID_VALUE = 1, INSUFFICIENT_DRIVER = 35, NO_DEVICE = 100, INVALID_DEVICE = 101,
       CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, CAPTURE_IMPLICIT = 906, INVALID_HANDLE = 400, ILLEGAL_STATE = 401 };

typedef struct block { struct block *next; char *start; size_t bytes; int device, pinned; } block;
typedef struct copy { struct copy *next; void *target; const void *source; size_t bytes; int value; } copy;
struct fake_graph { long holders, launches; int broken; copy *first, **last; };
struct fake_stream { fake_graph *graph; int owner, blocking, mode, ended; pthread_t thread; fake_stream *next; };

fake_counters fake_gpu_counts;
static fake_device devices[FAKE_MAX_DEVICES];
static int device_count, visible[FAKE_MAX_DEVICES], visible_count;
static char driver[32];
static int driver_cuda;
static block *blocks;
static fake_stream *streams, default_stream;
static int sticky, planned;
static long planned_after;
static __thread int current;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define LOCKED(type, expression) \
    do { pthread_mutex_lock(&lock); type result_ = (expression); pthread_mutex_unlock(&lock); return result_; } while (0)

/* ---- devices ---------------------------------------------------------------------------------------------------- */

static int cuda_of_driver(int major) {
    static const int rows[][2] = {{590, 13010}, {580, 13000}, {575, 12090}, {570, 12080}, {560, 12060}, {555, 12050},
                                  {550, 12040}, {545, 12030}, {535, 12020}, {530, 12010}, {525, 12000}, {470, 11040}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (major >= rows[i][0]) return rows[i][1];
    return 11000;
}

static int take(fake_device *device, const char *key, const char *value) {
    if (!strcmp(key, "name")) snprintf(device->name, sizeof device->name, "%s", value);
    else if (!strcmp(key, "uuid")) snprintf(device->uuid, sizeof device->uuid, "%s", value);
    else if (!strcmp(key, "sm")) device->sm = atoi(value);
    else if (!strcmp(key, "mig")) device->mig = atoi(value);
    else if (!strcmp(key, "ecc")) device->ecc = atoi(value);
    else if (!strcmp(key, "ecc_errors")) device->ecc_errors = atoi(value);
    else if (!strcmp(key, "utilization")) device->utilization = atoi(value);
    else if (!strcmp(key, "memory_mib")) device->memory_bytes = (size_t)atol(value) * MIB;
    else if (!strcmp(key, "used_mib")) device->used_bytes = (size_t)atol(value) * MIB;
    else if (!strcmp(key, "driver")) snprintf(driver, sizeof driver, "%s", value);
    else return -1;
    return 0;
}

static void read_visible(void) {
    const char *given = getenv("CUDA_VISIBLE_DEVICES");
    visible_count = 0;
    if (!given) {
        for (int i = 0; i < device_count; i++) visible[visible_count++] = i;
        return;
    }
    char text[512], *rest = NULL;
    snprintf(text, sizeof text, "%s", given);
    for (char *one = strtok_r(text, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
        int found = -1;
        for (int i = 0; i < device_count; i++)
            if (!strncmp(one, devices[i].uuid, strlen(one)) || (*one >= '0' && *one <= '9' && atoi(one) == i)) found = i;
        if (found < 0) return; /* CUDA ignores all entries after the first wrong one */
        visible[visible_count++] = found;
    }
}

/* "sm=89,name=NVIDIA L4;sm=90,..." : devices are separated by ';', fields by ','. "none": no device.
 * Returns -1 for an unknown field. */
int fake_gpu_configure(const char *given) {
    char text[4096], *rest = NULL;
    snprintf(text, sizeof text, "%s", given && *given ? given : "sm=89");
    snprintf(driver, sizeof driver, "580.95.05");
    device_count = 0;
    for (char *one = strtok_r(text, ";", &rest); one && device_count < FAKE_MAX_DEVICES; one = strtok_r(NULL, ";", &rest)) {
        if (!strcmp(one, "none")) continue;
        if (!strncmp(one, "none,", 5)) { if (!strncmp(one + 5, "driver=", 7)) take(NULL, "driver", one + 12); continue; }
        fake_device *device = &devices[device_count];
        memset(device, 0, sizeof *device);
        *device = (fake_device){.name = "NVIDIA L4", .sm = 89, .ecc = 1, .memory_bytes = 23034 * MIB, .used_bytes = 512 * MIB};
        snprintf(device->uuid, sizeof device->uuid, "GPU-00000000-0000-4000-8000-%012d", device_count);
        char *fields = NULL;
        for (char *field = strtok_r(one, ",", &fields); field; field = strtok_r(NULL, ",", &fields)) {
            char *equals = strchr(field, '=');
            if (!equals) return -1;
            *equals = 0;
            if (take(device, field, equals + 1)) return -1;
        }
        device_count++;
    }
    driver_cuda = cuda_of_driver(atoi(driver));
    read_visible();
    return 0;
}

__attribute__((constructor)) static void start(void) {
    default_stream.blocking = 1;
    if (fake_gpu_configure(getenv("FAKE_GPUS"))) {
        fprintf(stderr, "FAKE_GPUS has an unknown field: %s\n", getenv("FAKE_GPUS"));
        abort();
    }
    const char *fault = getenv("FAKE_GPU_FAULT"); /* CODE@LAUNCHES */
    const char *at = fault ? strchr(fault, '@') : NULL;
    if (fault) fake_gpu_fail(atoi(fault), at ? atol(at + 1) : 0);
}

fake_device *fake_device_at(int ordinal, int hidden_too) {
    if (ordinal < 0 || ordinal >= fake_device_count(hidden_too)) return NULL;
    return &devices[hidden_too ? ordinal : visible[ordinal]];
}
int fake_device_count(int hidden_too) { return hidden_too ? device_count : visible_count; }
int fake_current_device(void) { return current; }
int fake_set_device(int ordinal) {
    if (!fake_device_at(ordinal, 0)) return INVALID_DEVICE;
    current = ordinal;
    return 0;
}
const char *fake_driver_version(void) { return driver; }
int fake_driver_cuda(void) { return driver_cuda; }

/* ---- faults ------------------------------------------------------------------------------------------------------ */

int fake_fault(void) { return sticky; }
int fake_ready(void) {
    if (!visible_count) return NO_DEVICE;
    if (driver_cuda / 1000 < FAKE_CUDA_MAJOR) return INSUFFICIENT_DRIVER;
    return sticky;
}
void fake_gpu_fail(int code, long after_launches) {
    planned = code, planned_after = after_launches;
    sticky = code && after_launches <= 0 ? code : 0;
}
static void count_towards_fault(void) {
    if (planned && --planned_after <= 0) sticky = planned;
}
void fake_gpu_reset_counts(void) {
    uint64_t allocated = fake_gpu_counts.allocated_bytes, pinned = fake_gpu_counts.pinned_bytes;
    memset(&fake_gpu_counts, 0, sizeof fake_gpu_counts);
    fake_gpu_counts.allocated_bytes = fake_gpu_counts.peak_allocated_bytes = allocated;
    fake_gpu_counts.pinned_bytes = pinned;
}

/* ---- capture ----------------------------------------------------------------------------------------------------- */

static fake_stream *of(fake_stream *stream) { return (uintptr_t)stream <= 2 ? &default_stream : stream; }

/* The capture that forbids an allocation or a wait to this thread: mode 0 forbids it to every thread, mode 1 to its own. */
static fake_stream *forbidding(void) {
    for (fake_stream *one = streams; one; one = one->next)
        if (one->graph && one->owner && (one->mode == 0 || (one->mode == 1 && pthread_equal(one->thread, pthread_self()))))
            return one;
    return NULL;
}

static int refuse(fake_stream *capturing, int code) {
    capturing->graph->broken = 1;
    fake_gpu_counts.refused_in_capture++;
    return code;
}

int fake_forbidden_in_capture(fake_stream *stream) {
    fake_stream *capturing = stream && of(stream)->graph ? of(stream) : NULL;
    if (!capturing && !stream) capturing = forbidding();
    return capturing ? refuse(capturing, CAPTURE_UNSUPPORTED) : 0;
}

fake_stream *fake_stream_new(int blocking) {
    fake_stream *stream = calloc(1, sizeof *stream);
    stream->blocking = blocking;
    pthread_mutex_lock(&lock);
    stream->next = streams, streams = stream;
    fake_gpu_counts.stream_creations++;
    pthread_mutex_unlock(&lock);
    return stream;
}
void fake_stream_delete(fake_stream *stream) {
    if (of(stream) == &default_stream) return;
    pthread_mutex_lock(&lock);
    for (fake_stream **at = &streams; *at; at = &(*at)->next)
        if (*at == stream) { *at = stream->next; break; }
    stream->ended = 1; /* not freed: a later use is refused */
    pthread_mutex_unlock(&lock);
}
int fake_capture_begin(fake_stream *stream, int mode) {
    if (of(stream) == &default_stream) return CAPTURE_UNSUPPORTED;
    if (stream->graph) return ILLEGAL_STATE;
    fake_graph *graph = calloc(1, sizeof *graph);
    graph->last = &graph->first, graph->holders = 1;
    stream->owner = 1, stream->mode = mode, stream->thread = pthread_self();
    stream->graph = graph;
    fake_gpu_counts.captures++;
    return 0;
}
int fake_capture_end(fake_stream *stream, fake_graph **out) {
    fake_graph *graph = of(stream)->graph;
    *out = NULL;
    if (!graph || !stream->owner) return ILLEGAL_STATE;
    pthread_mutex_lock(&lock);
    for (fake_stream *one = streams; one; one = one->next)
        if (one->graph == graph) one->graph = NULL, one->owner = 0;
    pthread_mutex_unlock(&lock);
    if (graph->broken) { fake_graph_drop(graph); return CAPTURE_INVALIDATED; }
    *out = graph;
    return 0;
}
int fake_capture_status(fake_stream *stream) {
    fake_graph *graph = of(stream)->graph;
    return graph ? (graph->broken ? 2 : 1) : 0;
}
void fake_graph_hold(fake_graph *graph) { graph->holders++; }
void fake_graph_drop(fake_graph *graph) {
    if (--graph->holders) return;
    for (copy *one = graph->first, *next; one; one = next) next = one->next, free(one);
    free(graph);
}
void fake_event_record(fake_event *event, fake_stream *stream) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    event->recorded_ns = now.tv_sec * 1000000000LL + now.tv_nsec;
    event->graph = of(stream)->graph;
}
int fake_wait_event(fake_stream *stream, fake_event *event) {
    if (event->graph && of(stream) != &default_stream && !stream->graph) stream->graph = event->graph;
    return 0;
}
static void record(fake_graph *graph, void *target, const void *source, int value, size_t bytes) {
    copy *one = malloc(sizeof *one);
    *one = (copy){NULL, target, source, bytes, value};
    *graph->last = one, graph->last = &one->next;
}
static void apply(const copy *one) {
    if (one->source) memmove(one->target, one->source, one->bytes);
    else memset(one->target, one->value, one->bytes);
}
int fake_graph_launch(fake_graph *graph, fake_stream *stream) {
    if (fake_fault()) return fake_fault();
    if (of(stream)->graph) of(stream)->graph->launches += graph->launches;
    for (const copy *one = graph->first; one; one = one->next) apply(one);
    __atomic_add_fetch(&fake_gpu_counts.graph_launches, 1, __ATOMIC_RELAXED);
    count_towards_fault();
    return 0;
}
int fake_launch(fake_stream *stream) {
    if (fake_ready()) return fake_ready();
    if (of(stream)->ended) return INVALID_HANDLE;
    fake_graph *graph = of(stream)->graph;
    if (!graph && of(stream)->blocking && forbidding() && of(stream) == &default_stream)
        return refuse(forbidding(), CAPTURE_IMPLICIT);
    if (graph) graph->launches++;
    __atomic_add_fetch(graph ? &fake_gpu_counts.captured_launches : &fake_gpu_counts.kernel_launches, 1, __ATOMIC_RELAXED);
    if (!graph) count_towards_fault();
    return 0;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static block *holding(const void *pointer) {
    for (block *one = blocks; one; one = one->next)
        if ((const char *)pointer >= one->start && (const char *)pointer < one->start + one->bytes) return one;
    return NULL;
}
static const char *kind(const void *pointer) {
    block *one = holding(pointer);
    return one ? (one->pinned ? "pinned" : "device") : "pageable";
}
const char *fake_last_ptr_kind(const void *pointer) { pthread_mutex_lock(&lock); const char *k = kind(pointer); pthread_mutex_unlock(&lock); return k; }
static int device_of(const void *pointer) { block *one = holding(pointer); return one ? one->device : -2; }
int fake_pointer_device(const void *pointer) { LOCKED(int, device_of(pointer)); }

static int allocate(void **out, size_t bytes, int pinned) {
    fake_device *device = fake_device_at(current, 0);
    size_t whole = (bytes ? bytes : 1);
    whole = (whole + 511) / 512 * 512;
    if (!pinned && device->used_bytes + device->allocated_bytes + whole > device->memory_bytes) return OUT_OF_MEMORY;
    void *start = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) return OUT_OF_MEMORY;
    block *one = malloc(sizeof *one);
    *one = (block){blocks, start, whole, current, pinned};
    blocks = one;
    *out = start;
    if (pinned) {
        fake_gpu_counts.host_allocations++, fake_gpu_counts.pinned_bytes += whole;
        return 0;
    }
    device->allocated_bytes += whole;
    fake_gpu_counts.device_allocations++;
    fake_gpu_counts.allocated_bytes += whole;
    if (fake_gpu_counts.allocated_bytes > fake_gpu_counts.peak_allocated_bytes)
        fake_gpu_counts.peak_allocated_bytes = fake_gpu_counts.allocated_bytes;
    return 0;
}
int fake_allocate(void **out, size_t bytes, int pinned) {
    *out = NULL;
    int error = fake_ready();
    if (!error) error = fake_forbidden_in_capture(NULL);
    if (error) return error;
    LOCKED(int, allocate(out, bytes, pinned));
}
static int release(void *pointer, int pinned) {
    for (block **at = &blocks; *at; at = &(*at)->next) {
        block *one = *at;
        if (one->start != pointer || one->pinned != pinned) continue;
        *at = one->next;
        fake_device *device = fake_device_at(one->device, 0);
        if (pinned) fake_gpu_counts.host_frees++, fake_gpu_counts.pinned_bytes -= one->bytes;
        else {
            fake_gpu_counts.device_frees++, fake_gpu_counts.allocated_bytes -= one->bytes;
            if (device) device->allocated_bytes -= one->bytes;
        }
        munmap(one->start, one->bytes);
        free(one);
        return 0;
    }
    return INVALID_VALUE;
}
int fake_release(void *pointer, int pinned) {
    if (!pointer) return 0;
    int error = fake_forbidden_in_capture(NULL);
    if (error) return error;
    LOCKED(int, release(pointer, pinned));
}

static void count_copy(const char *target, const char *source, size_t bytes, int waits) {
    int to_device = *target == 'd', from_device = *source == 'd';
    uint64_t *counts = &fake_gpu_counts.copies_to_device, *sizes = &fake_gpu_counts.bytes_to_device;
    int way = to_device && from_device ? 2 : to_device ? 0 : 1;
    if (!to_device && !from_device) return;
    counts[way]++, sizes[way] += bytes;
    if (!waits && (!strcmp(target, "pageable") || !strcmp(source, "pageable"))) fake_gpu_counts.pageable_async_copies++;
}
int fake_copy(void *target, const void *source, size_t bytes, fake_stream *stream, int waits) {
    if (fake_ready()) return fake_ready();
    if (of(stream)->ended) return INVALID_HANDLE;
    fake_graph *graph = of(stream)->graph;
    if (!graph && of(stream) == &default_stream && forbidding()) return refuse(forbidding(), CAPTURE_IMPLICIT);
    if (graph && waits) return refuse(of(stream), CAPTURE_UNSUPPORTED);
    pthread_mutex_lock(&lock);
    if (graph) record(graph, target, source, 0, bytes);
    else count_copy(kind(target), kind(source), bytes, waits);
    pthread_mutex_unlock(&lock);
    if (!graph) memmove(target, source, bytes);
    return 0;
}
int fake_set(void *target, int value, size_t bytes, fake_stream *stream) {
    if (fake_ready()) return fake_ready();
    fake_graph *graph = of(stream)->graph;
    if (graph) record(graph, target, NULL, value, bytes);
    else memset(target, value, bytes);
    return 0;
}
