// stress ARTIFACT libonnxruntime.so [ROUNDS]: for the sanitizers, all that threads may do at once.
//
// Eight threads open sessions, label, move sessions and provoke errors, while engines are opened
// and closed beside them; every label map has to be the first one.
#include <cstdlib>
#include <thread>
#include <vector>

#include "check.hpp"

using segdeploy::Engine;
using segdeploy::Image;
using segdeploy::LabelMap;

namespace {

constexpr int THREADS = 8;

struct Frame {
  segdeploy::Size size;
  std::vector<std::uint8_t> pixels;

  explicit Frame(segdeploy::Size of)
      : size(of),
        pixels(static_cast<std::size_t>(of.height) * static_cast<std::size_t>(of.width) * 3) {
    for (std::size_t k = 0; k < pixels.size(); ++k) {
      pixels[k] = static_cast<std::uint8_t>(k / 3 % 61 * 3 + k / 700 % 50);
    }
  }
  Image view() const { return {pixels.data(), size.height, size.width}; }
};

std::vector<std::uint8_t> label(segdeploy::Session& session, const Frame& frame) {
  std::vector<std::uint8_t> labels(frame.pixels.size() / 3);
  session.run(frame.view(), {labels.data(), frame.size.height, frame.size.width});
  return labels;
}

void work(const Engine& engine, const Frame& frame, const std::vector<std::uint8_t>& wanted,
          int rounds) {
  auto session = engine.session();
  for (int k = 0; k < rounds; ++k) {
    CHECK(label(session, frame) == wanted);
    Image wrong = frame.view();
    wrong.channels = 1;
    std::vector<std::uint8_t> labels(wanted.size());
    const LabelMap to(labels.data(), frame.size.height, frame.size.width);
    CHECK_EQUAL(check::problem_of([&] { session.run(wrong, to); }),
                "image: has 1 channels; wanted 3 or 4");
    auto moved = std::move(session);
    session = engine.session();
    session = std::move(moved);
  }
}

void open_beside(const char* path, const segdeploy::RunOptions& options, int rounds) {
  for (int k = 0; k < rounds; ++k) {
    auto session = Engine::open(path, options).session();  // outlives its engine
    CHECK(!session.manifest().model.empty());
    CHECK(!check::problem_of([&] { Engine::open("no.ort", options); }).empty());
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) return 2;
  const int rounds = count > 3 ? std::atoi(arguments[3]) : 5;
  segdeploy::RunOptions options;
  options.threads = 1;
  options.onnxruntime_library = arguments[2];
  const auto engine = Engine::open(arguments[1], options);
  const Frame frame(engine.manifest().size.value_or(segdeploy::Size{64, 96}));
  auto quiet = engine.session();
  const auto wanted = label(quiet, frame);
  std::vector<std::thread> threads;
  for (int k = 0; k < THREADS; ++k) {
    threads.emplace_back([&] { work(engine, frame, wanted, rounds); });
  }
  threads.emplace_back([&] { open_beside(arguments[1], options, rounds); });
  for (auto& thread : threads) thread.join();
}
