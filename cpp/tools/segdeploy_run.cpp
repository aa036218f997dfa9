// segdeploy-run ARTIFACT image... -o DIR: label maps of image files, as `segdeploy predict` writes.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "pictures.hpp"
#include "segdeploy/segdeploy.hpp"

namespace {

namespace fs = std::filesystem;

constexpr const char* USAGE =
    "usage: segdeploy-run ARTIFACT IMAGE... -o DIR [--overlay] [--threads N] [--device NAME]\n"
    "Writes DIR/NAME.png, the class ids of each image, and with --overlay NAME-overlay.png.\n"
    "ONNX Runtime is found as the loader finds libonnxruntime.so.1, or by the environment\n"
    "variable SEGDEPLOY_ONNXRUNTIME.\n";

struct WrongUsage : std::exception {};
struct HelpWanted : std::exception {};

struct Request {
  std::string artifact;
  std::vector<fs::path> images;
  fs::path out;
  bool has_overlay = false;
  segdeploy::RunOptions options;
};

int number(const std::string& text) {
  if (text.empty() || text.size() > 4 ||
      text.find_first_not_of("0123456789") != std::string::npos) {
    throw WrongUsage();
  }
  return std::stoi(text);
}

Request parse(const std::vector<std::string>& arguments) {
  Request request;
  std::vector<std::string> places;
  for (std::size_t k = 0; k < arguments.size(); ++k) {
    const std::string& word = arguments[k];
    const auto value = [&]() -> const std::string& {
      if (++k == arguments.size()) throw WrongUsage();
      return arguments[k];
    };
    if (word == "-o")
      request.out = value();
    else if (word == "--overlay")
      request.has_overlay = true;
    else if (word == "--threads")
      request.options.threads = number(value());
    else if (word == "--device")
      request.options.device = value();
    else if (word == "--help" || word == "-h")
      throw HelpWanted();
    else if (word.size() > 1 && word[0] == '-')
      throw WrongUsage();
    else
      places.push_back(word);
  }
  if (places.size() < 2 || request.out.empty()) throw WrongUsage();
  request.artifact = places.front();
  request.images.assign(places.begin() + 1, places.end());
  // Before there is a thread. NOLINTNEXTLINE(concurrency-mt-unsafe)
  if (const char* file = std::getenv("SEGDEPLOY_ONNXRUNTIME")) {
    request.options.onnxruntime_library = file;
  }
  return request;
}

fs::path place_of(const Request& request, const fs::path& image, const char* ending) {
  return request.out / (image.stem().string() + ending);
}

// Refuse to write over an image, or over what was written a moment before.
void check_places(const Request& request) {
  std::set<fs::path> images, places;
  for (const fs::path& image : request.images) images.insert(fs::weakly_canonical(image));
  for (const fs::path& image : request.images) {
    for (const char* ending : {".png", "-overlay.png"}) {
      const fs::path place = place_of(request, image, ending);
      if (!request.has_overlay && ending[0] == '-') continue;
      if (images.count(fs::weakly_canonical(place)) != 0) {
        throw segdeploy::Error(place.string() + ": is an image to segment", "-o another folder");
      }
      if (!places.insert(place).second) {
        throw segdeploy::Error(place.string() + ": two of the images would be written there");
      }
    }
  }
}

void segment(segdeploy::Session& session, const Request& request, const fs::path& image) {
  const pictures::Picture picture = pictures::read(image);
  const segdeploy::Size size{picture.height, picture.width};
  std::vector<std::uint8_t> labels(picture.rgb.size() / 3);
  const segdeploy::LabelMap map(labels.data(), size.height, size.width);
  const segdeploy::Timing timing = session.run(picture.view(), map);
  const fs::path place = place_of(request, image, ".png");
  pictures::write(place, labels, size, 1);
  std::printf("%s  %.1f ms\n", place.c_str(), timing.total_ms());
  if (!request.has_overlay) return;
  std::vector<std::uint8_t> painted(picture.rgb.size());
  segdeploy::overlay(picture.view(), map, session.manifest().classes, painted.data());
  const fs::path painting = place_of(request, image, "-overlay.png");
  pictures::write(painting, painted, size, 3);
  std::printf("%s\n", painting.c_str());
}

// Where an image fails the others are done all the same. Returns how many failed.
std::size_t run(const Request& request) {
  check_places(request);
  const auto engine = segdeploy::Engine::open(request.artifact, request.options);
  auto session = engine.session();
  std::size_t failed = 0;
  for (const fs::path& image : request.images) {
    try {
      segment(session, request, image);
    } catch (const segdeploy::Error& error) {
      std::fprintf(stderr, "%s\n", error.to_lines().c_str());
      ++failed;
    }
  }
  if (failed != 0 && failed != request.images.size()) {
    std::fprintf(stderr, "%zu of %zu images failed\n", failed, request.images.size());
  }
  return failed;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    return run(parse({arguments + 1, arguments + count})) == 0 ? 0 : 1;
  } catch (const HelpWanted&) {
    std::fputs(USAGE, stdout);
    return 0;
  } catch (const WrongUsage&) {
    std::fputs(USAGE, stderr);
    return 2;
  } catch (const segdeploy::Error& error) {
    std::fprintf(stderr, "%s\n", error.to_lines().c_str());
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
