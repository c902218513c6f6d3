/* A CUDA driver in host memory, for tests on machines without a GPU.
 *
 * The real pycuda runs over it. No kernel ever runs: work in a stream is copies and host functions,
 * and it waits until somebody waits for it, so that a missing wait shows as a wrong result. It is
 * compiled against the real cuda.h, so the compiler checks every signature.
 *
 * Environment: FAKECUDA_TRACE (a file that gets a line for each call), FAKECUDA_DEVICES (0 or 1),
 * FAKECUDA_INTEGRATED (1 for a Jetson), FAKECUDA_FAIL (see fakecuda_fail; "cuInit=100").
 */
#pragma once

#include <cuda.h>
#include <stddef.h>

/* Traces a call and returns the failure that a test has ordered for it. */
#define ENTER(...)                                        \
    do {                                                  \
        CUresult ordered = fake_enter(__func__, __VA_ARGS__); \
        if (ordered != CUDA_SUCCESS) return ordered;      \
    } while (0)

#define NEED_CONTEXT                                          \
    do {                                                      \
        if (fakecuda_depth() == 0) return CUDA_ERROR_INVALID_CONTEXT; \
    } while (0)

/* What a test counts: allocations and handles that were made and not given back. */
enum kind { DEVICE, HOST, STREAM, EVENT, GRAPH, EXEC, PRIMARY, KINDS };

CUresult fake_enter(const char *function, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
CUresult fake_ordered(const char *function); /* the same, untraced */
void *fake_current(void);
void fake_count(enum kind kind, long change);

/* memory.c */
const char *fake_memory_kind(const void *pointer, size_t bytes);
void fake_free_all(const void *context);

/* stream.c */
void fake_drain_all(void);
CUresult fake_forbidden_in_capture(void);

/* For the tests, by ctypes. */
void fakecuda_fail(const char *function, int code, int skip);
long fakecuda_live(const char *kind);
int fakecuda_depth(void);
void fakecuda_note(const char *text);
int fakecuda_is_device_address(unsigned long long address, size_t bytes);
