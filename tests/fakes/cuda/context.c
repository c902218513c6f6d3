/* The device, the context stack, and what tests control and count. */
#include "fake.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACK 64
#define FAULTS 8
#define TOTAL_MEMORY (8ull << 30)

struct context {
    int alive;
};

struct fault {
    char function[48];
    int code, skip;
};

static struct context primary;
static __thread struct context *stack[STACK];
static __thread int depth;
static long live[KINDS];
static struct fault faults[FAULTS];
static FILE *trace;

static int setting(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("FAKECUDA_TRACE"), *fail = getenv("FAKECUDA_FAIL");
    char function[48];
    int code;
    if (path) trace = fopen(path, "a");
    if (trace) setvbuf(trace, NULL, _IOLBF, 0);
    if (fail && sscanf(fail, "%47[^=]=%d", function, &code) == 2) fakecuda_fail(function, code, 0);
}

/* From its `skip`-th next call on, `function` does nothing and returns `code`; 0 ends that. */
void fakecuda_fail(const char *function, int code, int skip) {
    struct fault *place = NULL;
    for (int i = 0; i < FAULTS; i++) {
        if (strcmp(faults[i].function, function) == 0) place = &faults[i];
        if (!place && !faults[i].function[0]) place = &faults[i];
    }
    if (!place) abort();
    snprintf(place->function, sizeof place->function, "%s", function);
    place->code = code;
    place->skip = skip;
}

/* Copies a function's name as tests say it: cuMemAlloc for cuMemAlloc_v2. */
static void plain_name(char *name, size_t size, const char *function) {
    snprintf(name, size, "%s", function);
    char *version = strstr(name, "_v");
    if (version) *version = 0;
}

CUresult fake_ordered(const char *function) {
    char name[64];
    plain_name(name, sizeof name, function);
    for (int i = 0; i < FAULTS; i++)
        if (faults[i].code && strcmp(faults[i].function, name) == 0 && faults[i].skip-- <= 0)
            return (CUresult)faults[i].code;
    return CUDA_SUCCESS;
}

CUresult fake_enter(const char *function, const char *format, ...) {
    if (trace) {
        char name[64];
        char detail[128];
        va_list arguments;
        plain_name(name, sizeof name, function);
        va_start(arguments, format);
        vsnprintf(detail, sizeof detail, format, arguments);
        va_end(arguments);
        fprintf(trace, "%s%s%s\n", name, *detail ? " " : "", detail);
    }
    return fake_ordered(function);
}

void fakecuda_note(const char *text) {
    if (trace) fprintf(trace, "%s\n", text);
}

void fake_count(enum kind kind, long change) {
    __atomic_add_fetch(&live[kind], change, __ATOMIC_SEQ_CST);
}

long fakecuda_live(const char *kind) {
    static const char *const names[KINDS] = {"device", "host", "stream", "event",
                                             "graph",  "exec", "primary"};
    for (int i = 0; i < KINDS; i++)
        if (strcmp(names[i], kind) == 0) return live[i];
    return -1;
}

int fakecuda_depth(void) { return depth; }

void *fake_current(void) { return depth ? stack[depth - 1] : NULL; }

/* Errors */

CUresult CUDAAPI cuGetErrorString(CUresult code, const char **text) {
    switch (code) {
    case CUDA_SUCCESS: *text = "no error"; break;
    case CUDA_ERROR_INVALID_VALUE: *text = "invalid argument"; break;
    case CUDA_ERROR_OUT_OF_MEMORY: *text = "out of memory"; break;
    case CUDA_ERROR_NO_DEVICE: *text = "no CUDA-capable device is detected"; break;
    case CUDA_ERROR_INVALID_DEVICE: *text = "invalid device ordinal"; break;
    case CUDA_ERROR_INVALID_CONTEXT: *text = "invalid device context"; break;
    case CUDA_ERROR_CONTEXT_IS_DESTROYED: *text = "context is destroyed"; break;
    case CUDA_ERROR_ILLEGAL_ADDRESS: *text = "an illegal memory access was encountered"; break;
    case CUDA_ERROR_NOT_SUPPORTED: *text = "operation not supported"; break;
    case CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED:
        *text = "operation not permitted when stream is capturing";
        break;
    case CUDA_ERROR_STREAM_CAPTURE_INVALIDATED:
        *text = "operation failed due to a previous error during capture";
        break;
    default: *text = "an error of the test's driver"; break;
    }
    return CUDA_SUCCESS;
}

/* The device: a small Jetson, or a discrete GPU of the same size */

CUresult CUDAAPI cuInit(unsigned flags) {
    ENTER("%u", flags);
    return setting("FAKECUDA_DEVICES", 1) ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

CUresult CUDAAPI cuDriverGetVersion(int *version) {
    *version = setting("FAKECUDA_DRIVER", 13000);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGetCount(int *count) {
    *count = setting("FAKECUDA_DEVICES", 1);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGet(CUdevice *device, int ordinal) {
    if (ordinal != 0) return CUDA_ERROR_INVALID_DEVICE;
    *device = 0;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGetName(char *name, int length, CUdevice device) {
    (void)device;
    snprintf(name, (size_t)length, "Host Memory GPU");
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
    (void)device;
    *major = 8;
    *minor = 7;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceTotalMem(size_t *bytes, CUdevice device) {
    (void)device;
    *bytes = TOTAL_MEMORY;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    (void)device;
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = 8; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = 7; break;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED: *value = setting("FAKECUDA_INTEGRATED", 0); break;
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY: *value = 1; break;
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: *value = 1; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 8; break;
    default: *value = 0; break;
    }
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    NEED_CONTEXT;
    *total_bytes = TOTAL_MEMORY;
    *free_bytes = TOTAL_MEMORY / 2;
    return CUDA_SUCCESS;
}

/* Contexts */

CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    ENTER("%d", device);
    fake_count(PRIMARY, 1);
    primary.alive = 1;
    *context = (CUcontext)&primary;
    return CUDA_SUCCESS;
}

/* As the real one: it pops nothing from any stack, and the last release frees what is left. */
CUresult CUDAAPI cuDevicePrimaryCtxRelease(CUdevice device) {
    ENTER("%d", device);
    if (live[PRIMARY] == 0) return CUDA_ERROR_INVALID_CONTEXT;
    fake_count(PRIMARY, -1);
    if (live[PRIMARY] == 0) {
        primary.alive = 0;
        fake_free_all(&primary);
    }
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxPushCurrent(CUcontext context) {
    struct context *pushed = (struct context *)context;
    if (!pushed->alive) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    if (depth == STACK) abort();
    stack[depth++] = pushed;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxPopCurrent(CUcontext *context) {
    CUresult ordered = fake_ordered(__func__);
    if (ordered) return ordered;
    NEED_CONTEXT;
    CUcontext popped = (CUcontext)stack[--depth];
    if (context) *context = popped;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxSetCurrent(CUcontext context) {
    if (depth) depth--;
    if (context) stack[depth++] = (struct context *)context;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxGetCurrent(CUcontext *context) {
    *context = depth ? (CUcontext)stack[depth - 1] : NULL;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxGetDevice(CUdevice *device) {
    NEED_CONTEXT;
    *device = 0;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxSynchronize(void) {
    NEED_CONTEXT;
    fake_drain_all();
    return CUDA_SUCCESS;
}

static CUresult create(CUcontext *context) {
    struct context *made = calloc(1, sizeof *made);
    if (!made || depth == STACK) abort();
    made->alive = 1;
    stack[depth++] = made;
    *context = (CUcontext)made;
    return CUDA_SUCCESS;
}

#if CUDA_VERSION >= 13000
CUresult CUDAAPI cuCtxCreate(CUcontext *context, CUctxCreateParams *parameters, unsigned flags,
                             CUdevice device) {
    (void)parameters;
#else
CUresult CUDAAPI cuCtxCreate(CUcontext *context, unsigned flags, CUdevice device) {
#endif
    ENTER("%u %d", flags, device);
    return create(context);
}

/* The memory is kept, so that a later use of the handle is an error and not a crash. */
CUresult CUDAAPI cuCtxDetach(CUcontext context) {
    ((struct context *)context)->alive = 0;
    if (depth && stack[depth - 1] == (struct context *)context) depth--;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxDestroy(CUcontext context) { return cuCtxDetach(context); }
