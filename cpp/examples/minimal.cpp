// minimal ENGINE [libonnxruntime.so]: labels a grey image and counts its classes.
#include <iostream>
#include <map>
#include <segdeploy/segdeploy.hpp>

int main(int count, char** arguments) try {
  segdeploy::RunOptions options;
  if (count > 2) options.onnxruntime_library = arguments[2];
  const auto engine = segdeploy::Engine::open(count > 1 ? arguments[1] : "model.ort", options);
  const auto [height, width] = engine.manifest().size.value_or(segdeploy::Size{512, 1024});

  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(height * width) * 3, 128);
  std::vector<std::uint8_t> labels(static_cast<std::size_t>(height * width));
  auto session = engine.session();
  session.run({pixels.data(), height, width}, {labels.data(), height, width});

  std::map<std::string, int> pixels_of;
  for (const auto label : labels) ++pixels_of[engine.manifest().classes.names[label]];
  for (const auto& [name, number] : pixels_of) std::cout << name << ' ' << number << '\n';
} catch (const segdeploy::Error& error) {
  std::cerr << error.to_lines() << '\n';
  return 1;
}
