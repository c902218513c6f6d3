/* What examples/cpp/score.cpp uses of TensorRT, for tests on machines without its headers.
 *
 * Names, values and signatures are those of NvInferRuntime.h and NvInferRuntimeBase.h of TensorRT
 * 10 (https://github.com/NVIDIA/TensorRT, include/); signatures.cpp holds both to them. Everything
 * else is our own, and `standin.cpp` implements it.
 */
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <memory>

typedef struct CUstream_st *cudaStream_t;

struct StandInPlan;
struct StandInContext;

namespace nvinfer1 {

enum class DataType : int32_t { kFLOAT = 0, kHALF = 1, kUINT8 = 5 };
enum class TensorIOMode : int32_t { kNONE = 0, kINPUT = 1, kOUTPUT = 2 };

class Dims64 {
   public:
    static constexpr int32_t MAX_DIMS{8};
    int32_t nbDims;
    int64_t d[MAX_DIMS];
};
using Dims = Dims64;

class ILogger {
   public:
    enum class Severity : int32_t {
        kINTERNAL_ERROR = 0,
        kERROR = 1,
        kWARNING = 2,
        kINFO = 3,
        kVERBOSE = 4,
    };
    virtual void log(Severity severity, char const *msg) noexcept = 0;
    ILogger() = default;
    virtual ~ILogger() = default;
};

class IExecutionContext {
   public:
    virtual ~IExecutionContext() noexcept;
    bool setInputShape(char const *tensorName, Dims const &dims) noexcept;
    Dims getTensorShape(char const *tensorName) const noexcept;
    bool setTensorAddress(char const *tensorName, void *data) noexcept;
    bool enqueueV3(cudaStream_t stream) noexcept;

    std::unique_ptr<StandInContext> standIn;
};

class ICudaEngine {
   public:
    virtual ~ICudaEngine() noexcept;
    Dims getTensorShape(char const *tensorName) const noexcept;
    DataType getTensorDataType(char const *tensorName) const noexcept;
    TensorIOMode getTensorIOMode(char const *tensorName) const noexcept;
    int32_t getNbIOTensors() const noexcept;
    char const *getIOTensorName(int32_t index) const noexcept;
    IExecutionContext *createExecutionContext() noexcept;

    std::unique_ptr<StandInPlan> standIn;
};

class IRuntime {
   public:
    virtual ~IRuntime() noexcept = default;
    ICudaEngine *deserializeCudaEngine(void const *blob, std::size_t size) noexcept;

    ILogger *standInLogger;
};

IRuntime *createInferRuntime(ILogger &logger) noexcept;

}  // namespace nvinfer1
