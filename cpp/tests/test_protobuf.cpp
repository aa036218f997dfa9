// Files that were made to harm: each ends in a sentence.
#include "check.hpp"
#include "protobuf.hpp"

using segdeploy::detail::OnnxFacts;
using segdeploy::detail::ProtobufError;
using segdeploy::detail::read_onnx;

namespace {

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}

std::string message(std::uint64_t field, const std::string& bytes) {
  return varint(field << 3 | 2) + varint(bytes.size()) + bytes;
}

std::string number(std::uint64_t field, std::uint64_t value) {
  return varint(field << 3) + varint(value);
}

std::string problem(const std::string& bytes) {
  try {
    read_onnx(bytes);
    return "";
  } catch (const ProtobufError& error) {
    return error.what();
  }
}

}  // namespace

int main() {
  const std::string property = message(14, message(1, "key") + message(2, "value"));
  const OnnxFacts facts = read_onnx(number(1, 10) + message(2, "producer") + property);
  CHECK(facts.properties.size() == 1 && !facts.has_external_data);
  CHECK_EQUAL(facts.properties.at("key"), "value");
  CHECK(read_onnx("").properties.empty());

  const std::string external = number(14, 1);
  CHECK(!read_onnx(message(7, message(5, number(14, 0)))).has_external_data);
  CHECK(read_onnx(message(7, message(5, external))).has_external_data);         // initializer
  CHECK(read_onnx(message(7, message(5, message(13, "")))).has_external_data);  // where it lies
  CHECK(read_onnx(message(7, message(1, message(5, message(5, external))))).has_external_data);
  const std::string inner = message(6, message(5, external));  // a graph in a node's attribute
  CHECK(read_onnx(message(7, message(1, message(5, inner)))).has_external_data);
  CHECK(read_onnx(message(25, message(7, message(5, message(5, external))))).has_external_data);
  CHECK(read_onnx(message(7, message(15, message(1, external)))).has_external_data);  // sparse

  CHECK_EQUAL(problem("\x72\x7f"), "it ends in the middle of a field");
  CHECK_EQUAL(problem("\x72" + varint(~0ull) + "x"), "it ends in the middle of a field");
  CHECK_EQUAL(problem(std::string(11, '\xff')), "a number has more than 64 bits");
  CHECK_EQUAL(problem(std::string(1, '\x0b')), "a field has an unknown wire type");
  CHECK_EQUAL(problem(std::string(2, '\0')), "a field has a number out of range");
  std::string nested;
  for (int depth = 0; depth < 200; ++depth) nested = message(1, message(5, message(6, nested)));
  CHECK_EQUAL(problem(message(7, nested)), "its messages are nested too deeply");
}
