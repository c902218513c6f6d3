/* Memory: all of it is the host's. Mapped host memory has two addresses, as it may have on a device. */
#define _GNU_SOURCE
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096
#define BLOCKS 256
#define UNWRITTEN 0xA5

struct block {
    char *host;   /* NULL for device memory */
    char *device; /* NULL for host memory that is not mapped */
    size_t bytes, mapped;
    const void *context;
};

static struct block blocks[BLOCKS];

static struct block *new_block(void) {
    for (int i = 0; i < BLOCKS; i++)
        if (!blocks[i].host && !blocks[i].device) {
            blocks[i].context = fake_current();
            return &blocks[i];
        }
    abort();
}

static struct block *find(const char *pointer) {
    for (int i = 0; pointer && i < BLOCKS; i++)
        if (blocks[i].host == pointer || blocks[i].device == pointer) return &blocks[i];
    return NULL;
}

static int inside(const char *base, const struct block *block, const char *pointer, size_t bytes) {
    return base && pointer >= base && pointer + bytes <= base + block->bytes;
}

const char *fake_memory_kind(const void *pointer, size_t bytes) {
    for (int i = 0; i < BLOCKS; i++)
        if (inside(blocks[i].host, &blocks[i], pointer, bytes)) return "pinned";
    return "pageable";
}

/* 1: device memory, 2: mapped host memory, 0: nothing that a kernel could reach. */
int fakecuda_is_device_address(unsigned long long address, size_t bytes) {
    for (int i = 0; i < BLOCKS; i++)
        if (inside(blocks[i].device, &blocks[i], (const char *)address, bytes))
            return blocks[i].host ? 2 : 1;
    return 0;
}

static void release(struct block *block) {
    fake_count(block->host ? HOST : DEVICE, -1);
    if (block->mapped) {
        munmap(block->host, block->mapped);
        munmap(block->device, block->mapped);
    } else {
        free(block->host ? block->host : block->device);
    }
    memset(block, 0, sizeof *block);
}

void fake_free_all(const void *context) {
    for (int i = 0; i < BLOCKS; i++)
        if (blocks[i].context == context) release(&blocks[i]);
}

static size_t whole_pages(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

CUresult CUDAAPI cuMemAlloc(CUdeviceptr *address, size_t bytes) {
    ENTER("%zu", bytes);
    NEED_CONTEXT;
    CUresult forbidden = fake_forbidden_in_capture();
    if (forbidden) return forbidden;
    struct block *block = new_block();
    block->device = aligned_alloc(PAGE, whole_pages(bytes));
    if (!block->device) return CUDA_ERROR_OUT_OF_MEMORY;
    memset(block->device, UNWRITTEN, bytes);
    block->bytes = bytes;
    fake_count(DEVICE, 1);
    *address = (CUdeviceptr)block->device;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemFree(CUdeviceptr address) {
    ENTER("%s", "");
    NEED_CONTEXT;
    struct block *block = find((const char *)address);
    if (!block || block->host) return CUDA_ERROR_INVALID_VALUE;
    fake_drain_all();
    release(block);
    return CUDA_SUCCESS;
}

/* Two mappings of the same pages: the host's address is not the device's. */
static int map_twice(struct block *block, size_t bytes) {
    int file = memfd_create("mapped", 0);
    size_t size = whole_pages(bytes);
    if (file < 0 || ftruncate(file, (off_t)size)) return 0;
    block->host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    block->device = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    block->mapped = size;
    close(file);
    return block->host != MAP_FAILED && block->device != MAP_FAILED;
}

CUresult CUDAAPI cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) {
    ENTER("%zu%s", bytes, flags & CU_MEMHOSTALLOC_DEVICEMAP ? " mapped" : "");
    NEED_CONTEXT;
    struct block *block = new_block();
    if (flags & CU_MEMHOSTALLOC_DEVICEMAP) {
        if (!map_twice(block, bytes)) abort();
    } else {
        block->host = aligned_alloc(PAGE, whole_pages(bytes));
    }
    memset(block->host, UNWRITTEN, bytes);
    block->bytes = bytes;
    fake_count(HOST, 1);
    *pointer = block->host;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemAllocHost(void **pointer, size_t bytes) {
    return cuMemHostAlloc(pointer, bytes, 0);
}

CUresult CUDAAPI cuMemFreeHost(void *pointer) {
    ENTER("%s", "");
    NEED_CONTEXT;
    struct block *block = find(pointer);
    if (!block || !block->host) return CUDA_ERROR_INVALID_VALUE;
    fake_drain_all();
    release(block);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemHostGetDevicePointer(CUdeviceptr *address, void *pointer, unsigned flags) {
    (void)flags;
    struct block *block = find(pointer);
    if (!block || !block->mapped) return CUDA_ERROR_INVALID_VALUE;
    *address = (CUdeviceptr)block->device;
    return CUDA_SUCCESS;
}

/* Synchronous copies do not wait for a non-blocking stream, here as on a device. */

CUresult CUDAAPI cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) {
    ENTER("%zu", bytes);
    NEED_CONTEXT;
    if (!fakecuda_is_device_address(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
    memcpy((void *)to, from, bytes);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes) {
    ENTER("%zu", bytes);
    NEED_CONTEXT;
    if (!fakecuda_is_device_address(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
    memcpy(to, (const void *)from, bytes);
    return CUDA_SUCCESS;
}
