// Scores one picture with an engine of `differnet engine`; prints value, threshold and verdict.
//
//   differnet engine part.onnx && differnet info part.onnx --json > part.json
//   CUDA=/usr/local/cuda
//   g++ -std=c++17 -O2 score.cpp -o score -I$CUDA/include -L$CUDA/lib64/stubs -lnvinfer -lcuda
//   ./score part.onnx.engines/KEY.json part.json picture.ppm
//
// The picture is a binary PPM (P6, 8 bits) that already has the size of the model's input. Exit
// status: 0 for GOOD, 1 for DEFECT and NO_DECISION, 2 for an error. For TensorRT 8.6 to 11.
#include <NvInfer.h>
#include <cuda.h>

#include <cstdio>
#include <memory>
#include <vector>

#include "reading.hpp"

namespace trt = nvinfer1;

void check(CUresult result, const std::string& doing) {
    const char* text = nullptr;
    if (result != CUDA_SUCCESS) cuGetErrorString(result, &text);
    require(result == CUDA_SUCCESS, doing + ": CUDA failed (" + (text ? text : "unknown") + ")");
}

struct Logger : trt::ILogger {
    void log(Severity severity, const char* text) noexcept override {
        if (severity <= Severity::kWARNING) std::fprintf(stderr, "TensorRT: %s\n", text);
    }
};

// Make it once, and use it in the thread that made it. Its device memory stays until the end.
class Engine {
   public:
    Engine(const std::string& plan, long height, long width, long channels) {
        CUdevice device = 0;
        CUcontext cuda = nullptr;
        check(cuInit(0), "starting CUDA");
        check(cuDeviceGet(&device, 0), "finding the GPU");
        check(cuDevicePrimaryCtxRetain(&cuda, device), "opening the GPU");
        check(cuCtxSetCurrent(cuda), "opening the GPU");
        check(cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING), "making a stream");
        runtime_.reset(trt::createInferRuntime(logger_));
        if (runtime_) engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
        if (engine_) context_.reset(engine_->createExecutionContext());
        require(context_ != nullptr, "TensorRT can't open the plan: see its message above");
        trt::Dims image = engine_->getTensorShape("image");
        require(image.nbDims == 4 && image.d[1] == height && image.d[2] == width &&
                    image.d[3] == channels,
                "the plan's input \"image\" does not have the shape in the metadata");
        image.d[0] = 1;
        require(context_->setInputShape("image", image),
                "the plan does not take one picture at a time");
        for (int i = 0; i < engine_->getNbIOTensors(); ++i) add(engine_->getIOTensorName(i));
        require(tensors_["score"].bytes == sizeof(float), "the plan has no output \"score\"");
    }

    // Returns the score and, where the model has heads, one score of each after it.
    std::vector<float> run(const std::string& picture) {
        const Tensor image = tensors_["image"], score = tensors_["score"];
        const Tensor heads = tensors_["heads"];
        std::vector<float> scores(1 + heads.bytes / sizeof(float));
        check(cuMemcpyHtoDAsync(image.address, picture.data(), image.bytes, stream_), "upload");
        require(context_->enqueueV3(stream_), "TensorRT did not run the engine");
        check(cuMemcpyDtoHAsync(&scores[0], score.address, score.bytes, stream_), "download");
        if (heads.bytes > 0)
            check(cuMemcpyDtoHAsync(&scores[1], heads.address, heads.bytes, stream_), "download");
        check(cuStreamSynchronize(stream_), "running the engine");
        return scores;
    }

   private:
    struct Tensor {
        CUdeviceptr address = 0;
        std::size_t bytes = 0;
    };

    void add(const std::string& name) {
        const bool input = name == "image";
        const auto mode = input ? trt::TensorIOMode::kINPUT : trt::TensorIOMode::kOUTPUT;
        const auto type = input ? trt::DataType::kUINT8 : trt::DataType::kFLOAT;
        require(engine_->getTensorIOMode(name.c_str()) == mode &&
                    engine_->getTensorDataType(name.c_str()) == type,
                "the plan's tensor \"" + name + "\" is not one of a differnet model");
        Tensor tensor{0, input ? sizeof(char) : sizeof(float)};
        const trt::Dims shape = context_->getTensorShape(name.c_str());
        for (int i = 0; i < shape.nbDims; ++i) tensor.bytes *= static_cast<std::size_t>(shape.d[i]);
        check(cuMemAlloc(&tensor.address, tensor.bytes), "allocating device memory");
        require(context_->setTensorAddress(name.c_str(), reinterpret_cast<void*>(tensor.address)),
                "TensorRT refuses the memory of \"" + name + "\"");
        tensors_[name] = tensor;
    }

    Logger logger_;
    CUstream stream_ = nullptr;
    std::unique_ptr<trt::IRuntime> runtime_;
    std::unique_ptr<trt::ICudaEngine> engine_;
    std::unique_ptr<trt::IExecutionContext> context_;
    std::map<std::string, Tensor> tensors_;
};

// Returns the score below which no part lies; Calibration.lowest_plausible in metadata.py.
double lowestPlausible(const Values& model) {
    const std::string path = "metadata.calibration.good_scores.";
    std::vector<double> scores;
    while (!text(model, path + std::to_string(scores.size())).empty())
        scores.push_back(number(model, path + std::to_string(scores.size())));
    const auto quantile = [&](double share) {
        const double place = share * static_cast<double>(scores.size() - 1);
        const auto low = static_cast<std::size_t>(place);
        const double above = scores[std::min(low + 1, scores.size() - 1)];
        return scores[low] + (place - static_cast<double>(low)) * (above - scores[low]);
    };
    if (scores.empty()) return std::nan("");
    const double median = quantile(0.5), tenth = quantile(0.1);
    if (tenth > 0) return median * std::pow(tenth / median, 5) - 0.01 * median;
    return median - 5 * (median - tenth) - 0.01 * std::abs(median);
}

// Says why there is no decision, as `decide` in decision.py; nothing where there is one.
std::string undecided(const std::vector<float>& scores, double threshold, const Values& model) {
    for (const float score : scores)
        if (!std::isfinite(score)) return "not_finite";
    if (!std::isfinite(threshold)) return "no_threshold";
    return scores[0] >= lowestPlausible(model) ? "" : "implausible";
}

std::string json(double number) {
    char text[32];
    std::snprintf(text, sizeof text, "%.9g", number);
    return std::isfinite(number) ? text : "null";
}

int main(int count, char** arguments) try {
    require(count == 4, "usage: score part.onnx.engines/KEY.json part.json picture.ppm");
    const std::filesystem::path path = arguments[1];
    const Values record = readJson(arguments[1]), model = readJson(arguments[2]);
    const std::string graph = text(model, "file.graph_sha256");
    require(!graph.empty() && text(record, "identity.graph_sha256") == graph,
            path.string() + " is not the record of an engine of the model in " + arguments[2]);
    const std::filesystem::path name = text(record, "plan");
    const std::string plan = readFile(path.parent_path() / name.filename());
    require(static_cast<double>(plan.size()) == number(record, "plan_bytes"),
            "the plan is damaged: build it again with `differnet engine`");

    const long height = std::lround(number(model, "metadata.input.height"));
    const long width = std::lround(number(model, "metadata.input.width"));
    const long channels = text(model, "metadata.input.pixel") == "bgrx" ? 4 : 3;
    const std::string picture = readPicture(arguments[3], height, width, channels);
    const std::vector<float> scores = Engine(plan, height, width, channels).run(picture);

    const double threshold = number(model, "metadata.calibration.threshold");
    const std::string code = undecided(scores, threshold, model);
    const std::string verdict = !code.empty()             ? "NO_DECISION"
                                : scores[0] > threshold ? "DEFECT"
                                                          : "GOOD";
    std::printf("{\"value\": %s, \"threshold\": %s, \"verdict\": \"%s\", \"code\": %s}\n",
                json(scores[0]).c_str(), json(threshold).c_str(), verdict.c_str(),
                code.empty() ? "null" : ('"' + code + '"').c_str());
    return verdict == "GOOD" ? 0 : 1;
} catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
}
