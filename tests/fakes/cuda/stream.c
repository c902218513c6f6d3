/* Streams, events and graphs. Work is queued, and runs when somebody waits for it. */
#include "fake.h"

#include <stdlib.h>
#include <string.h>

struct event {
    struct stream *stream;
    long recorded, done;
};

struct step {
    CUhostFn call; /* NULL for a copy or a record */
    void *data;
    struct event *event; /* NULL for a copy or a call */
    char *to;
    const char *from;
    size_t bytes;
};

struct queue {
    struct step *steps;
    size_t count, capacity;
};

struct stream {
    struct queue queue;
    struct queue *capture; /* NULL when not capturing */
    int invalidated;
    struct stream *next;
};

static struct stream *streams;
static __thread struct stream *capturing;

static void append(struct queue *queue, struct step step) {
    if (queue->count == queue->capacity) {
        queue->capacity = queue->capacity ? 2 * queue->capacity : 8;
        queue->steps = realloc(queue->steps, queue->capacity * sizeof step);
        if (!queue->steps) abort();
    }
    queue->steps[queue->count++] = step;
}

static void drain(struct stream *stream) {
    for (size_t i = 0; i < stream->queue.count; i++) {
        struct step *step = &stream->queue.steps[i];
        if (step->call) step->call(step->data);
        else if (step->event) step->event->done++;
        else memcpy(step->to, step->from, step->bytes);
    }
    stream->queue.count = 0;
}

void fake_drain_all(void) {
    for (struct stream *stream = streams; stream; stream = stream->next) drain(stream);
}

static void enqueue(CUstream handle, struct step step) {
    struct stream *stream = (struct stream *)handle;
    append(stream->capture ? stream->capture : &stream->queue, step);
}

/* What waits or allocates may not be called while this thread captures; it spoils the capture. */
CUresult fake_forbidden_in_capture(void) {
    if (!capturing) return CUDA_SUCCESS;
    capturing->invalidated = 1;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

/* Streams */

CUresult CUDAAPI cuStreamCreate(CUstream *handle, unsigned flags) {
    ENTER("%u", flags);
    NEED_CONTEXT;
    struct stream *stream = calloc(1, sizeof *stream);
    if (!stream) abort();
    stream->next = streams;
    streams = stream;
    fake_count(STREAM, 1);
    *handle = (CUstream)stream;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamDestroy(CUstream handle) {
    ENTER("%s", "");
    NEED_CONTEXT;
    struct stream *stream = (struct stream *)handle, **link = &streams;
    drain(stream);
    while (*link != stream) link = &(*link)->next;
    *link = stream->next;
    free(stream->queue.steps);
    free(stream);
    fake_count(STREAM, -1);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamSynchronize(CUstream handle) {
    ENTER("%s", "");
    NEED_CONTEXT;
    CUresult forbidden = fake_forbidden_in_capture();
    if (forbidden) return forbidden;
    drain((struct stream *)handle);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamQuery(CUstream handle) {
    return ((struct stream *)handle)->queue.count ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes,
                                   CUstream stream) {
    ENTER("%zu %s", bytes, fake_memory_kind(from, bytes));
    NEED_CONTEXT;
    if (!fakecuda_is_device_address(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
    enqueue(stream, (struct step){.to = (char *)to, .from = from, .bytes = bytes});
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
    ENTER("%zu %s", bytes, fake_memory_kind(to, bytes));
    NEED_CONTEXT;
    if (!fakecuda_is_device_address(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
    enqueue(stream, (struct step){.to = to, .from = (const char *)from, .bytes = bytes});
    return CUDA_SUCCESS;
}

/* How the test's engine puts its work into a stream: to the driver it is one node, as a kernel is. */
CUresult CUDAAPI cuLaunchHostFunc(CUstream stream, CUhostFn call, void *data) {
    ENTER("%s", "");
    NEED_CONTEXT;
    enqueue(stream, (struct step){.call = call, .data = data});
    return CUDA_SUCCESS;
}

/* Events */

CUresult CUDAAPI cuEventCreate(CUevent *handle, unsigned flags) {
    ENTER("%u", flags);
    NEED_CONTEXT;
    struct event *event = calloc(1, sizeof *event);
    if (!event) abort();
    fake_count(EVENT, 1);
    *handle = (CUevent)event;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventDestroy(CUevent handle) {
    ENTER("%s", "");
    NEED_CONTEXT;
    fake_drain_all();
    free(handle);
    fake_count(EVENT, -1);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventRecord(CUevent handle, CUstream stream) {
    ENTER("%s", "");
    NEED_CONTEXT;
    struct event *event = (struct event *)handle;
    event->stream = (struct stream *)stream;
    event->recorded++;
    enqueue(stream, (struct step){.event = event});
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventSynchronize(CUevent handle) {
    ENTER("%s", "");
    NEED_CONTEXT;
    CUresult forbidden = fake_forbidden_in_capture();
    if (forbidden) return forbidden;
    struct event *event = (struct event *)handle;
    if (event->recorded != event->done) drain(event->stream);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventQuery(CUevent handle) {
    struct event *event = (struct event *)handle;
    return event->recorded == event->done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

/* Graphs */

CUresult CUDAAPI cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
    ENTER("%d", (int)mode);
    NEED_CONTEXT;
    struct stream *stream = (struct stream *)handle;
    stream->capture = calloc(1, sizeof *stream->capture);
    stream->invalidated = 0;
    capturing = stream;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status) {
    *status = ((struct stream *)handle)->capture ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                                                 : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

static void free_queue(struct queue *queue) {
    free(queue->steps);
    free(queue);
}

/* An ordered failure ends the capture all the same, as a real one does. */
CUresult CUDAAPI cuStreamEndCapture(CUstream handle, CUgraph *graph) {
    struct stream *stream = (struct stream *)handle;
    CUresult ordered = fake_enter(__func__, "%s", "");
    if (!stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    struct queue *captured = stream->capture;
    stream->capture = NULL;
    capturing = NULL;
    *graph = NULL;
    if (!ordered && stream->invalidated) ordered = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (ordered) {
        free_queue(captured);
        return ordered;
    }
    fake_count(GRAPH, 1);
    *graph = (CUgraph)captured;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph,
                                             unsigned long long flags) {
    ENTER("%llu", flags);
    struct queue *source = (struct queue *)graph, *copy = calloc(1, sizeof *copy);
    for (size_t i = 0; i < source->count; i++) append(copy, source->steps[i]);
    fake_count(EXEC, 1);
    *exec = (CUgraphExec)copy;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGraphLaunch(CUgraphExec exec, CUstream stream) {
    ENTER("%s", "");
    NEED_CONTEXT;
    struct queue *queue = (struct queue *)exec;
    for (size_t i = 0; i < queue->count; i++) enqueue(stream, queue->steps[i]);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGraphDestroy(CUgraph graph) {
    ENTER("%s", "");
    free_queue((struct queue *)graph);
    fake_count(GRAPH, -1);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGraphExecDestroy(CUgraphExec exec) {
    ENTER("%s", "");
    free_queue((struct queue *)exec);
    fake_count(EXEC, -1);
    return CUDA_SUCCESS;
}
