/* Compiles only if the included NvInfer.h, NVIDIA's or the one here, declares what is used so. */
#include <NvInfer.h>

#include <type_traits>
#include <utility>

using namespace nvinfer1;

#define IS(expression, ...) static_assert(std::is_same_v<decltype(expression), __VA_ARGS__>)

IS(&ILogger::log, void (ILogger::*)(ILogger::Severity, char const *) noexcept);
IS(&ICudaEngine::getTensorShape, Dims (ICudaEngine::*)(char const *) const noexcept);
IS(&ICudaEngine::getTensorDataType, DataType (ICudaEngine::*)(char const *) const noexcept);
IS(&ICudaEngine::getTensorIOMode, TensorIOMode (ICudaEngine::*)(char const *) const noexcept);
IS(&ICudaEngine::getNbIOTensors, int32_t (ICudaEngine::*)() const noexcept);
IS(&ICudaEngine::getIOTensorName, char const *(ICudaEngine::*)(int32_t) const noexcept);
IS(&IExecutionContext::setInputShape,
   bool (IExecutionContext::*)(char const *, Dims const &) noexcept);
IS(&IExecutionContext::getTensorShape, Dims (IExecutionContext::*)(char const *) const noexcept);
IS(&IExecutionContext::setTensorAddress,
   bool (IExecutionContext::*)(char const *, void *) noexcept);
IS(&IExecutionContext::enqueueV3, bool (IExecutionContext::*)(cudaStream_t) noexcept);
IS(&createInferRuntime, IRuntime *(*)(ILogger &) noexcept);

/* These have overloads or arguments by default in some versions. */
IS(std::declval<ICudaEngine &>().createExecutionContext(), IExecutionContext *);
IS(std::declval<IRuntime &>().deserializeCudaEngine(nullptr, std::size_t{}), ICudaEngine *);

static_assert(std::is_same_v<decltype(Dims::nbDims), int32_t>);
static_assert(int(DataType::kFLOAT) == 0 && int(DataType::kHALF) == 1);
static_assert(int(DataType::kUINT8) == 5);
static_assert(int(TensorIOMode::kINPUT) == 1 && int(TensorIOMode::kOUTPUT) == 2);
static_assert(int(ILogger::Severity::kERROR) == 1 && int(ILogger::Severity::kWARNING) == 2);
