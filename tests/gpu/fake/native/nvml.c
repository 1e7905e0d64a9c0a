/* A fake libnvidia-ml. It sees all devices, also those that CUDA_VISIBLE_DEVICES hides, as the real one does. Its layouts
 * are those of the ctypes structures in nvidia-ml-py, which tests/gpu/fake/test_nvml.py reads it with. */
#include "state.h"
#include <stdio.h>
#include <string.h>

enum { UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9 };
typedef fake_device *device;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { char bus_id_legacy[16]; unsigned domain, bus, device, device_id, subsystem; char bus_id[32]; } pci;

static int started;
#define CHECK(condition, code) do { if (!started) return UNINITIALIZED; if (!(condition)) return (code); } while (0)

int nvmlInit_v2(void) { if (!*fake_driver_version()) return DRIVER_NOT_LOADED; started++; return 0; }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return nvmlInit_v2(); }
int nvmlShutdown(void) { CHECK(1, 0); started--; return 0; }
const char *nvmlErrorString(int code) {
    return code == 0 ? "Success" : code == UNINITIALIZED ? "Uninitialized" : code == INVALID_ARGUMENT ? "Invalid Argument"
         : code == NOT_SUPPORTED ? "Not Supported" : code == NOT_FOUND ? "Not Found"
         : code == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "Unknown Error";
}
int nvmlSystemGetDriverVersion(char *text, unsigned length) { CHECK(1, 0); snprintf(text, length, "%s", fake_driver_version()); return 0; }
int nvmlSystemGetNVMLVersion(char *text, unsigned length) { CHECK(1, 0); snprintf(text, length, "13.%s", fake_driver_version()); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { CHECK(1, 0); *version = fake_driver_cuda(); return 0; }
int nvmlSystemGetCudaDriverVersion(int *version) { return nvmlSystemGetCudaDriverVersion_v2(version); }
int nvmlDeviceGetCount_v2(unsigned *count) { CHECK(1, 0); *count = fake_device_count(1); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device *found) { CHECK(1, 0); *found = fake_device_at((int)index, 1); return *found ? 0 : INVALID_ARGUMENT; }
int nvmlDeviceGetHandleByUUID(const char *uuid, device *found) {
    CHECK(1, 0);
    for (int i = 0; i < fake_device_count(1); i++)
        if (!strcmp(uuid, fake_device_at(i, 1)->uuid)) { *found = fake_device_at(i, 1); return 0; }
    return NOT_FOUND;
}
int nvmlDeviceGetIndex(device d, unsigned *index) {
    for (int i = 0; i < fake_device_count(1); i++)
        if (fake_device_at(i, 1) == d) { *index = i; return 0; }
    return INVALID_ARGUMENT;
}
int nvmlDeviceGetMinorNumber(device d, unsigned *minor) { return nvmlDeviceGetIndex(d, minor); }
int nvmlDeviceGetName(device d, char *text, unsigned length) { CHECK(d, INVALID_ARGUMENT); snprintf(text, length, "%s", d->name); return 0; }
int nvmlDeviceGetUUID(device d, char *text, unsigned length) { CHECK(d, INVALID_ARGUMENT); snprintf(text, length, "%s", d->uuid); return 0; }
int nvmlDeviceGetPciInfo_v3(device d, pci *info) {
    unsigned index = 0;
    CHECK(!nvmlDeviceGetIndex(d, &index), INVALID_ARGUMENT);
    memset(info, 0, sizeof *info);
    info->bus = index + 1;
    snprintf(info->bus_id, sizeof info->bus_id, "00000000:%02X:00.0", info->bus);
    snprintf(info->bus_id_legacy, sizeof info->bus_id_legacy, "0000:%02X:00.0", info->bus);
    return 0;
}
int nvmlDeviceGetCudaComputeCapability(device d, int *major, int *minor) { CHECK(d, INVALID_ARGUMENT); *major = d->sm / 10, *minor = d->sm % 10; return 0; }
int nvmlDeviceGetMemoryInfo(device d, memory *m) {
    CHECK(d, INVALID_ARGUMENT);
    *m = (memory){d->memory_bytes, d->memory_bytes - d->used_bytes - d->allocated_bytes, d->used_bytes + d->allocated_bytes};
    return 0;
}
int nvmlDeviceGetMemoryInfo_v2(device d, memory_v2 *m) {
    CHECK(d, INVALID_ARGUMENT);
    *m = (memory_v2){m->version, d->memory_bytes, 0, d->memory_bytes - d->used_bytes - d->allocated_bytes, d->used_bytes + d->allocated_bytes};
    return 0;
}
int nvmlDeviceGetUtilizationRates(device d, utilization *u) { CHECK(d, INVALID_ARGUMENT); if (d->mig) return NOT_SUPPORTED; *u = (utilization){d->utilization, 0}; return 0; }
int nvmlDeviceGetMigMode(device d, unsigned *now, unsigned *pending) { CHECK(d, INVALID_ARGUMENT); if (d->sm != 80 && d->sm < 90) return NOT_SUPPORTED; *now = *pending = d->mig; return 0; }
int nvmlDeviceGetEccMode(device d, unsigned *now, unsigned *pending) { CHECK(d, INVALID_ARGUMENT); *now = *pending = d->ecc; return 0; }
int nvmlDeviceGetTotalEccErrors(device d, int kind, int counter, unsigned long long *errors) { (void)counter; CHECK(d, INVALID_ARGUMENT); if (!d->ecc) return NOT_SUPPORTED; *errors = kind == 1 ? d->ecc_errors : 0; return 0; }
int nvmlDeviceGetPersistenceMode(device d, unsigned *mode) { CHECK(d, INVALID_ARGUMENT); *mode = 1; return 0; }
int nvmlDeviceGetComputeMode(device d, unsigned *mode) { CHECK(d, INVALID_ARGUMENT); *mode = 0; return 0; }
int nvmlDeviceGetPowerUsage(device d, unsigned *milliwatts) { CHECK(d, INVALID_ARGUMENT); *milliwatts = 30000; return 0; }
int nvmlDeviceGetTemperature(device d, unsigned sensor, unsigned *celsius) { (void)sensor; CHECK(d, INVALID_ARGUMENT); *celsius = 40; return 0; }
int nvmlDeviceGetMaxMigDeviceCount(device d, unsigned *count) { CHECK(d, INVALID_ARGUMENT); *count = d->mig ? 7 : 0; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(device d, unsigned index, device *found) { (void)index, (void)found; CHECK(d, INVALID_ARGUMENT); return NOT_FOUND; }
