// Manifests that were made to harm. What Python says of a damaged one, tests/cpp compares.
#include "artifact.hpp"
#include "check.hpp"
#include "manifest.hpp"

using namespace segdeploy::detail;

namespace {

std::string problem(const std::string& json) {
  return check::problem_of([&] { read_manifest(json, "m.json"); });
}

std::string object_of(int keys) {
  std::string json = "{\"schema\": 2";
  for (int k = 1; k < keys; ++k) json += ", \"k" + std::to_string(k) + "\": 1";
  return json + "}";
}

bool begins(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

}  // namespace

int main() {
  CHECK(begins(problem(""), "m.json: is not JSON ("));
  CHECK(begins(problem("{\"a\": \"\xff\"}"), "m.json: is not JSON ("));
  CHECK(begins(problem(std::string(1'000'000, '[')), "m.json: is not JSON ("));
  const std::string deep = std::string(500'000, '[') + std::string(500'000, ']');
  CHECK_EQUAL(problem(deep), "m.json: holds no JSON object");
  CHECK_EQUAL(problem("{}"), "m.json: carries no segdeploy manifest");
  CHECK_EQUAL(problem("{\"schema\": [[1]]}"),
              "m.json: manifest schema [[1]], this segdeploy reads up to 2");
  CHECK(begins(problem("{\"schema\": " + deep + "}"), "m.json: manifest schema [[[["));
  CHECK_EQUAL(problem("{\"schema\": 2, \"z\\u001b\": 1, \"b\": 1}"),
              "m.json: unknown manifest key 'b'");
  CHECK_EQUAL(problem("{\"schema\": 2, \"\": 1, \"b\": 1}"), "m.json: unknown manifest key ''");
  CHECK_EQUAL(problem("{\"schema\": 2, \"model\": " + deep + "}"),
              "m.json: its segdeploy manifest is damaged (ValueError: the manifest lacks the key "
              "'batch')");
  CHECK_EQUAL(problem(object_of(64)), "m.json: unknown manifest key 'k1'");
  for (const int keys : {65, 300'000}) {  // which took minutes when all were built
    const std::string number = std::to_string(keys);
    CHECK_EQUAL(problem(object_of(keys)),
                "m.json: has an object of " + number + " keys; wanted up to 64");
    CHECK_EQUAL(problem("[[" + object_of(keys) + "]"),  // it comes before the bracket that lacks
                "m.json: has an object of " + number + " keys; wanted up to 64");
  }
  const std::string open = object_of(300'000);
  CHECK(begins(problem(open.substr(0, open.size() - 1)), "m.json: is not JSON ("));
  CHECK(begins(check::problem_of([] { read_graph("\x72\x7f", "m.onnx"); }),
               "m.onnx: is not a valid ONNX file ("));
  CHECK_EQUAL(check::problem_of([] { read_graph("", "m.onnx"); }),
              "m.onnx: carries no segdeploy manifest");
}
