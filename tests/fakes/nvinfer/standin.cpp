/* A TensorRT that runs one known model over the driver in host memory (tests/fakes/cuda).
 *
 * A plan is the text `STANDIN least=1 most=1 height=8 width=16 channels=3 heads=0 half=0 offset=0`:
 * the batches that it takes, the shape of the input, the number of heads (0: neither heads nor
 * heatmap), whether its outputs are declared as FP16, and what is added to the score. The score is
 * (B + 2 G + 4 R) / (B + G + R) of the sums of the picture's bytes: 1 for blue, 2 for green, 4 for
 * red and NaN for black. Each head has the score, but the last is infinite if the picture's first
 * byte is 255.
 */
#include <NvInfer.h>

#include <cstdio>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

extern "C" int fakecuda_is_device_address(unsigned long long address, size_t bytes);

using namespace nvinfer1;

struct StandInPlan {
    int least, most, height, width, channels, heads, half, offset;

    std::vector<std::string> names() const {
        if (heads > 0) return {"heads", "image", "heatmap", "score"};
        return {"image", "score"};
    }
};

struct StandInContext {
    StandInPlan plan;
    long batch = 0;
    std::map<std::string, void *> addresses;
};

static Dims shape_of(const StandInPlan &plan, const std::string &name, long batch) {
    if (name == "image") return {4, {batch, plan.height, plan.width, plan.channels}};
    if (name == "heads" && plan.heads) return {2, {batch, plan.heads}};
    if (name == "heatmap" && plan.heads) return {3, {batch, 2, 2}};
    return name == "score" ? Dims{1, {batch}} : Dims{-1, {}};
}

static void compute(void *data) {
    const StandInContext &context = *static_cast<StandInContext *>(data);
    const auto *image = static_cast<const unsigned char *>(context.addresses.at("image"));
    const StandInPlan &plan = context.plan;
    double sums[4] = {};
    for (long i = 0; i < 1L * plan.height * plan.width * plan.channels; i++)
        sums[i % plan.channels] += image[i];
    const double weighted = sums[0] + 2 * sums[1] + 4 * sums[2];
    const auto score =
        static_cast<float>(weighted / (sums[0] + sums[1] + sums[2]) + plan.offset);
    *static_cast<float *>(context.addresses.at("score")) = score;
    for (int i = 0; i < plan.heads; i++) {
        const bool broken = i == plan.heads - 1 && image[0] == 255;
        static_cast<float *>(context.addresses.at("heads"))[i] =
            broken ? std::numeric_limits<float>::infinity() : score;
    }
}

namespace nvinfer1 {

IRuntime *createInferRuntime(ILogger &logger) noexcept {
    auto *runtime = new IRuntime;
    runtime->standInLogger = &logger;
    return runtime;
}

ICudaEngine *IRuntime::deserializeCudaEngine(void const *blob, std::size_t size) noexcept {
    const std::string text(static_cast<const char *>(blob), size);
    StandInPlan plan;
    const int found = std::sscanf(
        text.c_str(),
        "STANDIN least=%d most=%d height=%d width=%d channels=%d heads=%d half=%d offset=%d",
        &plan.least, &plan.most, &plan.height, &plan.width, &plan.channels, &plan.heads, &plan.half,
        &plan.offset);
    if (found != 8) {
        standInLogger->log(ILogger::Severity::kERROR, "Serialization assertion magicTag failed");
        return nullptr;
    }
    standInLogger->log(ILogger::Severity::kINFO, "Loaded engine size: 0 MiB");
    auto *engine = new ICudaEngine;
    engine->standIn = std::make_unique<StandInPlan>(plan);
    return engine;
}

ICudaEngine::~ICudaEngine() noexcept = default;

Dims ICudaEngine::getTensorShape(char const *tensorName) const noexcept {
    return shape_of(*standIn, tensorName, standIn->least == standIn->most ? standIn->most : -1);
}

DataType ICudaEngine::getTensorDataType(char const *tensorName) const noexcept {
    if (std::strcmp(tensorName, "image") == 0) return DataType::kUINT8;
    return standIn->half ? DataType::kHALF : DataType::kFLOAT;
}

TensorIOMode ICudaEngine::getTensorIOMode(char const *tensorName) const noexcept {
    const bool input = std::strcmp(tensorName, "image") == 0;
    return input ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
}

int32_t ICudaEngine::getNbIOTensors() const noexcept {
    return static_cast<int32_t>(standIn->names().size());
}

char const *ICudaEngine::getIOTensorName(int32_t index) const noexcept {
    static std::vector<std::string> names;
    names = standIn->names();
    return names.at(static_cast<size_t>(index)).c_str();
}

IExecutionContext *ICudaEngine::createExecutionContext() noexcept {
    auto *context = new IExecutionContext;
    context->standIn = std::make_unique<StandInContext>();
    context->standIn->plan = *standIn;
    return context;
}

IExecutionContext::~IExecutionContext() noexcept = default;

bool IExecutionContext::setInputShape(char const *tensorName, Dims const &dims) noexcept {
    const StandInPlan &plan = standIn->plan;
    standIn->batch = dims.d[0];
    const Dims wanted = shape_of(plan, "image", dims.d[0]);
    return std::strcmp(tensorName, "image") == 0 && dims.nbDims == 4 && dims.d[0] >= plan.least &&
           dims.d[0] <= plan.most && std::memcmp(dims.d, wanted.d, 4 * sizeof wanted.d[0]) == 0;
}

Dims IExecutionContext::getTensorShape(char const *tensorName) const noexcept {
    return shape_of(standIn->plan, tensorName, standIn->batch);
}

bool IExecutionContext::setTensorAddress(char const *tensorName, void *data) noexcept {
    standIn->addresses[tensorName] = data;
    return true;
}

/* The work waits in the stream, as a kernel's does; it needs device memory for every tensor. */
bool IExecutionContext::enqueueV3(cudaStream_t stream) noexcept {
    for (const std::string &name : standIn->plan.names()) {
        const Dims shape = getTensorShape(name.c_str());
        size_t bytes = name == "image" ? 1 : sizeof(float);
        for (int32_t i = 0; i < shape.nbDims; i++) bytes *= static_cast<size_t>(shape.d[i]);
        const auto address = reinterpret_cast<unsigned long long>(standIn->addresses[name]);
        if (!fakecuda_is_device_address(address, bytes)) return false;
    }
    return cuLaunchHostFunc(stream, compute, standIn.get()) == CUDA_SUCCESS;
}

}  // namespace nvinfer1
