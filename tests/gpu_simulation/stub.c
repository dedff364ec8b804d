/* The parts of CUDA's runtime, driver and NCCL that torch calls around tensors without values.
   Two devices that nothing runs on: every call succeeds, and each pair of events is 1 ms apart. */
#include <stdlib.h>
#include <string.h>

typedef void *Handle;

static __thread int current = 0;

/* as of cudaGetDeviceProperties up to what torch reads */
struct Properties {
    char name[256], uuid[16], luid[8];
    unsigned mask;
    size_t total_memory, shared_memory;
    int registers, warp;
    size_t pitch;
    int threads, threads_dim[3], grid[3];
    size_t constant_memory;
    int major, minor;
    size_t alignment[2];
    int multiprocessors;
    char rest[200];
};

int cudaGetDeviceCount(int *n) { *n = 2; return 0; }
int cudaGetDevice(int *d) { *d = current; return 0; }
int cudaSetDevice(int d) { current = d; return 0; }
int cudaDriverGetVersion(int *v) { *v = 13000; return 0; }
int cudaRuntimeGetVersion(int *v) { *v = 13000; return 0; }
int cudaDeviceGetAttribute(int *v, int a, int d) { *v = 1; return 0; }
int cudaDeviceGetStreamPriorityRange(int *low, int *high) { *low = 0; *high = -5; return 0; }
int cudaDeviceCanAccessPeer(int *can, int a, int b) { *can = 1; return 0; }
int cudaMemGetInfo(size_t *free, size_t *total) { *free = 70L << 30; *total = 80L << 30; return 0; }
int cudaGetDeviceProperties(struct Properties *p, int d) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, "NVIDIA H100 80GB HBM3");
    p->major = 9;
    p->total_memory = 80L << 30;
    p->multiprocessors = 132;
    p->warp = 32;
    p->threads = 1024;
    return 0;
}
int cudaGetDeviceProperties_v2(struct Properties *p, int d) { return cudaGetDeviceProperties(p, d); }
int cudaStreamCreateWithPriority(Handle *s, unsigned f, int p) {
    static long n = 100;
    *s = (Handle)n++;
    return 0;
}
int cudaStreamIsCapturing(Handle s, int *capturing) { *capturing = 0; return 0; }
int cudaEventCreateWithFlags(Handle *e, unsigned f) {
    static long n = 1000;
    *e = (Handle)n++;
    return 0;
}
int cudaEventElapsedTime(float *ms, Handle a, Handle b) { *ms = 1; return 0; }
int cudaEventElapsedTime_v2(float *ms, Handle a, Handle b) { *ms = 1; return 0; }
int cudaHostAlloc(void **p, size_t n, unsigned f) { *p = malloc(n); return 0; }
int cudaFreeHost(void *p) { free(p); return 0; }
int cudaMalloc(void **p, size_t n) { *p = malloc(n); return 0; }
int cudaPointerGetAttributes(int *a, const void *p) { a[0] = a[1] = 0; return 0; }
int cuDevicePrimaryCtxGetState(int d, unsigned *flags, int *active) { *flags = *active = 1; return 0; }

static int nothing(void) { return 0; }
int cudaGetDriverEntryPointByVersion(
    const char *name, void **function, unsigned version, unsigned long long flags, int *found) {
    *function = nothing;
    *found = 0;
    return 0;
}

#define NOTHING(name) int name(void) { return 0; }
NOTHING(cudaGetLastError)
NOTHING(cudaPeekAtLastError)
NOTHING(cudaDeviceEnablePeerAccess)
NOTHING(cudaDeviceSynchronize)
NOTHING(cudaStreamQuery)
NOTHING(cudaStreamSynchronize)
NOTHING(cudaStreamWaitEvent)
NOTHING(cudaEventDestroy)
NOTHING(cudaEventQuery)
NOTHING(cudaEventRecord)
NOTHING(cudaEventRecordWithFlags)
NOTHING(cudaEventSynchronize)
NOTHING(cudaHostRegister)
NOTHING(cudaFree)
NOTHING(cudaMemcpyAsync)
NOTHING(cudaMemcpyPeerAsync)
NOTHING(cudaThreadExchangeStreamCaptureMode)
NOTHING(cudaFuncGetAttributes)
NOTHING(cudaStreamGetCaptureInfo)
NOTHING(cudaStreamGetPriority)
NOTHING(cudaMemsetAsync)
NOTHING(cudaLaunchKernel)
NOTHING(cudaLaunchKernelExC)
NOTHING(cuInit)
