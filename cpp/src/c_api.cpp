#include <algorithm>
#include <array>
#include <cstring>
#include <exception>

#include "images.hpp"
#include "segdeploy.h"
#include "segdeploy/segdeploy.hpp"

struct segdeploy_engine {
  segdeploy::Engine engine;
};

struct segdeploy_session {
  segdeploy::Session session;
};

namespace {

using segdeploy::Error;

// Whole code points: half of one at the end would be no UTF-8.
template <std::size_t N>
void copy_text(const char* from, char (&to)[N]) {
  std::size_t size = std::min(std::strlen(from), N - 1);
  while (size > 0 && from[size] != '\0' && (from[size] & 0xC0) == 0x80) --size;
  std::memcpy(to, from, size);
  to[size] = '\0';
}

segdeploy_status failed(segdeploy_status status, const char* problem, const char* hint,
                        segdeploy_error* error) {
  if (error != nullptr) {
    copy_text(problem, error->problem);
    copy_text(hint, error->hint);
  }
  return status;
}

// Nothing is thrown into C.
template <class Work>
segdeploy_status guarded(segdeploy_error* error, const Work& work) {
  try {
    work();
    return SEGDEPLOY_OK;
  } catch (const segdeploy::MisfitError& caught) {
    return failed(SEGDEPLOY_MISFIT, caught.what(), caught.hint().c_str(), error);
  } catch (const Error& caught) {
    return failed(SEGDEPLOY_ERROR, caught.what(), caught.hint().c_str(), error);
  } catch (const std::exception& caught) {
    return failed(SEGDEPLOY_BUG, caught.what(), "", error);
  } catch (...) {
    return failed(SEGDEPLOY_BUG, "an unknown exception", "", error);
  }
}

template <class T>
T& given(T* pointer, const char* what) {
  if (pointer == nullptr) throw Error(std::string(what) + ": is NULL");
  return *pointer;
}

segdeploy::Image image_of(const segdeploy_image& image) {
  const auto order = image.is_bgr ? segdeploy::ColorOrder::bgr : segdeploy::ColorOrder::rgb;
  return {image.data,     image.height, image.width,
          image.channels, order,        static_cast<std::ptrdiff_t>(image.stride)};
}

segdeploy::LabelMap labels_of(const segdeploy_labels& labels) {
  const auto stride = static_cast<std::ptrdiff_t>(labels.stride);
  if (labels.bytes == 1) {
    return {static_cast<std::uint8_t*>(labels.data), labels.height, labels.width, stride};
  }
  if (labels.bytes == 4) {
    return {static_cast<std::int32_t*>(labels.data), labels.height, labels.width, stride};
  }
  throw Error("result: has labels of " + std::to_string(labels.bytes) + " bytes; wanted 1 or 4");
}

// The views of a batch, on the stack: a call allocates nothing.
template <class From, class Convert>
auto all_of(const From* from, std::size_t count, const char* what, const Convert& convert) {
  segdeploy::detail::check_count(count);  // which is the caller's: anything
  std::array<decltype(convert(*from)), segdeploy::detail::MAX_BATCH> converted;
  for (std::size_t k = 0; k < count; ++k) converted[k] = convert(given(from + k, what));
  return converted;
}

void tell(const segdeploy::Timing& timing, segdeploy_timing* to) {
  if (to != nullptr) *to = {timing.copy_in_ms, timing.network_ms, timing.labels_ms};
}

segdeploy::RunOptions options_of(const segdeploy_options* options) {
  segdeploy::RunOptions converted;
  if (options == nullptr) return converted;
  converted.threads = options->threads;
  if (options->device != nullptr) converted.device = options->device;
  if (options->onnxruntime_library != nullptr) {
    converted.onnxruntime_library = options->onnxruntime_library;
  }
  if (options->lean_runtime != nullptr) converted.lean_runtime = options->lean_runtime;
  return converted;
}

}  // namespace

int32_t segdeploy_abi(void) { return SEGDEPLOY_ABI; }

const char* segdeploy_version(void) { return segdeploy::version(); }

segdeploy_status segdeploy_engine_open(const char* path, const segdeploy_options* options,
                                       segdeploy_engine** engine, segdeploy_error* error) {
  return guarded(error, [&] {
    segdeploy_engine*& made = given(engine, "engine");
    made = nullptr;
    made = new segdeploy_engine{segdeploy::Engine::open(&given(path, "path"), options_of(options))};
  });
}

void segdeploy_engine_close(segdeploy_engine* engine) { delete engine; }

segdeploy_facts segdeploy_engine_facts(const segdeploy_engine* engine) {
  if (engine == nullptr) return {};
  const segdeploy::Manifest& manifest = engine->engine.manifest();
  const segdeploy::Size size = manifest.size.value_or(segdeploy::Size{});
  return {manifest.model.c_str(),
          manifest.precision.c_str(),
          manifest.runtime.c_str(),
          engine->engine.device().c_str(),
          manifest.output == segdeploy::Output::logits,
          static_cast<int32_t>(manifest.classes.names.size()),
          size.height,
          size.width,
          manifest.batch.value_or(0),
          manifest.logits_stride()};
}

const char* segdeploy_class_name(const segdeploy_engine* engine, int32_t index) {
  if (engine == nullptr) return nullptr;
  const auto& names = engine->engine.manifest().classes.names;
  const bool is_known = index >= 0 && static_cast<std::size_t>(index) < names.size();
  return is_known ? names[static_cast<std::size_t>(index)].c_str() : nullptr;
}

int32_t segdeploy_class_color(const segdeploy_engine* engine, int32_t index) {
  if (engine == nullptr) return -1;
  const auto& palette = engine->engine.manifest().classes.palette;
  if (index < 0 || static_cast<std::size_t>(index) >= palette.size()) return -1;
  const segdeploy::Rgb& color = palette[static_cast<std::size_t>(index)];
  return color[0] << 16 | color[1] << 8 | color[2];
}

segdeploy_status segdeploy_session_open(const segdeploy_engine* engine, segdeploy_session** session,
                                        segdeploy_error* error) {
  return guarded(error, [&] {
    segdeploy_session*& made = given(session, "session");
    made = nullptr;
    made = new segdeploy_session{given(engine, "engine").engine.session()};
  });
}

void segdeploy_session_close(segdeploy_session* session) { delete session; }

segdeploy_status segdeploy_run(segdeploy_session* session, const segdeploy_image* images,
                               size_t count, const segdeploy_labels* labels,
                               segdeploy_timing* timing, segdeploy_error* error) {
  return guarded(error, [&] {
    const auto from = all_of(images, count, "images", image_of);
    const auto to = all_of(labels, count, "labels", labels_of);
    tell(given(session, "session").session.run(from.data(), count, to.data()), timing);
  });
}

segdeploy_status segdeploy_run_logits(segdeploy_session* session, const segdeploy_image* images,
                                      size_t count, float* logits, size_t size,
                                      segdeploy_timing* timing, segdeploy_error* error) {
  return guarded(error, [&] {
    const auto from = all_of(images, count, "images", image_of);
    tell(given(session, "session").session.run_logits(from.data(), count, logits, size), timing);
  });
}

segdeploy_status segdeploy_enqueue(segdeploy_session* session, const void* images, size_t count,
                                   int32_t height, int32_t width, void* result, void* stream,
                                   segdeploy_error* error) {
  return guarded(error, [&] {
    given(session, "session").session.enqueue(images, count, {height, width}, result, stream);
  });
}

segdeploy_status segdeploy_overlay(const segdeploy_engine* engine, const segdeploy_image* image,
                                   const segdeploy_labels* labels, double opacity, uint8_t* rgb,
                                   segdeploy_error* error) {
  return guarded(error, [&] {
    const auto& classes = given(engine, "engine").engine.manifest().classes;
    const auto from = image_of(given(image, "image"));
    segdeploy::overlay(from, labels_of(given(labels, "labels")), classes, rgb, opacity);
  });
}
