// The seam between the public classes and a runtime.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "artifact.hpp"
#include "images.hpp"
#include "lease.hpp"

namespace segdeploy::detail {

// One context with its buffers, used by one thread at a time.
class Runner {
 public:
  virtual ~Runner() = default;
  virtual void prepare(const Batch& batch) = 0;  // buffers for it; nothing if it came before
  virtual std::uint8_t* images() = 0;            // host memory of the prepared batch, to be filled
  virtual void execute() = 0;                    // images() -> result()
  virtual void* result() = 0;  // host memory: labels or logits, as the file returns
  virtual void enqueue(const void* images, const Batch& batch, void* result, void* stream) = 0;
};

// A loaded artifact, shared by its sessions.
class Model : public std::enable_shared_from_this<Model> {
 public:
  Model(FullManifest manifest, std::string device)
      : manifest_(std::move(manifest)), device_(std::move(device)) {}
  virtual ~Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  virtual std::unique_ptr<Runner> runner() const = 0;

  const Manifest& facts() const { return manifest_.facts; }
  const FullManifest& manifest() const { return manifest_; }
  const std::string& device() const { return device_; }
  const Process& process() const { return process_; }

  bool returns_labels() const;  // the file does; otherwise logits
  Size logits_size(Size image) const;
  std::vector<std::int64_t> result_shape(const Batch& batch) const;  // of what the file returns
  std::size_t result_elements(const Batch& batch) const;
  std::size_t result_bytes(const Batch& batch) const;
  void check_batch(const Batch& batch) const;  // throws an Error: it does not take such a batch

 private:
  FullManifest manifest_;
  std::string device_;
  Process process_;
};

int gpu_number(const std::string& device);  // of "cuda:1"

std::shared_ptr<const Model> open_onnxruntime(Artifact artifact, const RunOptions& options);
std::shared_ptr<const Model> open_tensorrt(const Artifact& artifact, const std::string& device,
                                           const std::string& lean_runtime);

}  // namespace segdeploy::detail
