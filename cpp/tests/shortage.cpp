// shortage ARTIFACT libonnxruntime.so: where memory runs out once, a session is as good as before.
//
// The artifact takes any size and leaves its labels to the session. Memory fails where the session
// wants its last piece for a larger image: room for the labels of one, 150x170.
#include <cstdlib>
#include <new>
#include <vector>

#include "check.hpp"

namespace {
std::size_t refused_once = 0;  // bytes; 0: nothing is refused
}

// All other forms of new and delete call these two.
void* operator new(std::size_t size) {
  const bool is_refused = refused_once != 0 && size == refused_once;
  if (is_refused) refused_once = 0;
  void* memory = is_refused ? nullptr : std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr segdeploy::Size SMALL{40, 48}, LARGE{150, 170};
constexpr std::uint8_t UNTOUCHED = 254;  // no class

std::size_t area(segdeploy::Size size) {
  return static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width);
}

// Into the first bytes of `labels`, which has room for the large image.
void run(segdeploy::Session& session, const Bytes& pixels, segdeploy::Size size, Bytes& labels) {
  session.run({pixels.data(), size.height, size.width}, {labels.data(), size.height, size.width});
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) return 2;
  segdeploy::RunOptions options;
  options.threads = 1;
  options.onnxruntime_library = arguments[2];
  auto session = segdeploy::Engine::open(arguments[1], options).session();
  CHECK(session.manifest().mask_on_host && !session.manifest().size);
  Bytes pixels(3 * area(LARGE)), first(area(LARGE), UNTOUCHED), again = first, large = first;
  for (std::size_t k = 0; k < pixels.size(); ++k) {
    pixels[k] = static_cast<std::uint8_t>(k / 90 % 61 * 4);
  }
  run(session, pixels, SMALL, first);

  bool has_failed = false;
  refused_once = area(LARGE);
  try {
    run(session, pixels, LARGE, large);
  } catch (const std::bad_alloc&) {
    has_failed = true;
  }
  CHECK(has_failed && refused_once == 0);

  run(session, pixels, SMALL, again);
  CHECK(again == first);  // what lies behind its labels, too
  run(session, pixels, LARGE, large);
  CHECK(large.back() != UNTOUCHED);
}
