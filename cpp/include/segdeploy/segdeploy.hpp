// segdeploy: segmentation engines in a C++ service. docs/embedding-cpp.md begins at nothing.
//
//   auto engine = segdeploy::Engine::open("model.ort");        // once; shared by all threads
//   auto session = engine.session();                           // one for each thread
//   session.run({pixels, height, width}, {labels, height, width});
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#define SEGDEPLOY_API __attribute__((visibility("default")))

namespace segdeploy {

// What a user can put right: one problem, one hint. The sentences are those of the Python package.
class SEGDEPLOY_API Error : public std::runtime_error {
 public:
  explicit Error(const std::string& problem, std::string hint = "");
  ~Error() override;
  const std::string& hint() const noexcept { return hint_; }
  std::string to_lines() const;  // "error: ...", and below it "hint: ..." if there is one

 private:
  std::string hint_;
};

// An engine that does not fit this machine, or is damaged; building it again helps.
class SEGDEPLOY_API MisfitError : public Error {
 public:
  using Error::Error;
  ~MisfitError() override;
};

struct Size {
  int height = 0;
  int width = 0;
};

using Rgb = std::array<std::uint8_t, 3>;

struct ClassSet {  // index = class id
  std::vector<std::string> names;
  std::vector<Rgb> palette;
};

enum class Output { labels, logits };

// What an artifact is, takes and returns: the part of the manifest that a service asks for.
struct Manifest {
  std::string model;
  std::string method;     // fcn, pspnet, deeplabv3 or deeplabv3plus
  std::string precision;  // fp32, fp16 or int8
  Output output = Output::labels;
  bool mask_on_host = false;  // the file returns logits, the session makes labels of them
  ClassSet classes;
  std::optional<Size> size;  // none: any height and width
  std::optional<int> batch;  // none: any
  std::string dataset;       // "" where none is known
  std::string runtime;       // onnxruntime, tensorrt or tensorrt-rtx; "" for a graph
  std::string runtime_version;
  std::string machine;  // what an engine is tied to
  std::string source_sha256;
  std::string sha256;

  int logits_stride() const { return method == "deeplabv3plus" ? 4 : 8; }  // pixels per logit
};

enum class ColorOrder { rgb, bgr };

// The caller's pixels, which are only read. A fourth channel is not looked at.
struct Image {
  const std::uint8_t* data = nullptr;
  int height = 0;
  int width = 0;
  int channels = 3;                    // 3 or 4
  ColorOrder order = ColorOrder::rgb;  // OpenCV reads BGR
  std::ptrdiff_t stride = 0;           // bytes from one row to the next; 0: rows without gaps
};

// Where class ids are written: the caller's memory, one byte or four for each pixel.
struct LabelMap {
  enum class Type { u8, i32 };

  LabelMap() = default;
  LabelMap(std::uint8_t* pixels, int rows, int columns, std::ptrdiff_t row_bytes = 0)
      : data(pixels), height(rows), width(columns), stride(row_bytes) {}
  LabelMap(std::int32_t* pixels, int rows, int columns, std::ptrdiff_t row_bytes = 0)
      : data(pixels), height(rows), width(columns), type(Type::i32), stride(row_bytes) {}

  void* data = nullptr;
  int height = 0;
  int width = 0;
  Type type = Type::u8;
  std::ptrdiff_t stride = 0;  // bytes from one row to the next; 0: rows without gaps
};

struct RunOptions {
  int threads = 0;     // of ONNX Runtime, up to 1024 for all sessions; 0: as suits the cores
  std::string device;  // "cpu" or "cuda:0"; "": what the artifact is made for
  std::string onnxruntime_library;  // file to load; "": libonnxruntime.so.1, as the loader finds it
  std::string lean_runtime;  // libnvinfer_lean of the TensorRT that built a version-compatible plan
};

// Wall-clock milliseconds of one call.
struct Timing {
  double copy_in_ms = 0;
  double network_ms = 0;
  double labels_ms = 0;  // the mask, where the session makes it, and the copy to the caller
  double total_ms() const { return copy_in_ms + network_ms + labels_ms; }
};

namespace detail {
class Model;
struct SessionState;
}  // namespace detail

// Runs a loaded model, in one thread at a time; it keeps the model alive.
//
// Used by two threads at once, or in a forked process, it throws an Error. For as many images as in
// the call before, of the same size, `run` allocates nothing of its own.
class SEGDEPLOY_API Session {
 public:
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  // Host memory to host memory; the result is there on return.
  Timing run(const Image& image, const LabelMap& labels);
  Timing run(const Image* images, std::size_t count, const LabelMap* labels);

  // Of an artifact that returns logits: (count, classes, h, w), `size` floats in all.
  Timing run_logits(const Image* images, std::size_t count, float* logits, std::size_t size);

  // (count, height, width, 3) RGB without gaps, to what the artifact returns, both in the memory of
  // the session's device. On a GPU both begin at multiples of 256 bytes, the work is put on the
  // caller's stream, and this returns at once; on a CPU there is no stream, and the result is there
  // on return.
  void enqueue(const void* images, std::size_t count, Size size, void* result, void* stream);

  const Manifest& manifest() const;

 private:
  friend class Engine;
  explicit Session(std::unique_ptr<detail::SessionState> state);
  std::unique_ptr<detail::SessionState> state_;
};

// A loaded model: never changed after it is opened, shared by all threads, cheap to copy.
class SEGDEPLOY_API Engine {
 public:
  // Load a .onnx, .ort or .plan file. Its manifest is checked before anything else is read:
  // sha256, flavour, version, processor or GPU.
  static Engine open(const std::filesystem::path& path, const RunOptions& options = {});

  static std::vector<std::string> backends();  // that are built in: "onnxruntime", "tensorrt"

  const Manifest& manifest() const;
  const std::string& device() const;  // "cpu" or "cuda:0"
  Session session() const;            // a new one, for one thread

 private:
  explicit Engine(std::shared_ptr<const detail::Model> model);
  std::shared_ptr<const detail::Model> model_;
};

// The image with its label map laid over it: height * width * 3 bytes of RGB.
SEGDEPLOY_API void overlay(const Image& image, const LabelMap& labels, const ClassSet& classes,
                           std::uint8_t* rgb, double opacity = 0.5);

SEGDEPLOY_API const char* version() noexcept;

}  // namespace segdeploy
