#include "protobuf.hpp"

#include <cstddef>
#include <cstdint>

namespace segdeploy::detail {
namespace {

constexpr int DEEPEST = 100;  // messages within messages, as protobuf's own readers allow

enum Wire : std::uint32_t { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

struct Field {
  std::uint32_t number = 0;
  std::uint32_t wire = 0;
  std::uint64_t value = 0;  // of a varint
  std::string_view bytes;   // of a string or a message
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  bool next(Field& field) {
    if (rest_.empty()) return false;
    const std::uint64_t key = varint();
    field = {static_cast<std::uint32_t>(key >> 3), static_cast<std::uint32_t>(key & 7), 0, {}};
    if (key >> 3 == 0 || key >> 32 != 0) throw ProtobufError("a field has a number out of range");
    switch (field.wire) {
      case VARINT: field.value = varint(); break;
      case FIXED64: take(8); break;
      case BYTES: field.bytes = take(varint()); break;
      case FIXED32: take(4); break;
      default: throw ProtobufError("a field has an unknown wire type");
    }
    return true;
  }

 private:
  std::string_view take(std::uint64_t size) {
    if (size > rest_.size()) throw ProtobufError("it ends in the middle of a field");
    const std::string_view taken = rest_.substr(0, static_cast<std::size_t>(size));
    rest_.remove_prefix(static_cast<std::size_t>(size));
    return taken;
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    throw ProtobufError("a number has more than 64 bits");
  }

  std::string_view rest_;
};

// Messages of onnx.proto that lead to a constant, and by which field.
enum class Message { model, graph, node, attribute, tensor, sparse_tensor, function };

struct Way {
  Message from;
  std::uint32_t field;
  Message to;
};

constexpr Way WAYS[] = {
    {Message::model, 7, Message::graph},
    {Message::model, 25, Message::function},
    {Message::function, 7, Message::node},
    {Message::function, 11, Message::attribute},
    {Message::graph, 1, Message::node},
    {Message::graph, 5, Message::tensor},
    {Message::graph, 15, Message::sparse_tensor},
    {Message::node, 5, Message::attribute},
    {Message::attribute, 5, Message::tensor},
    {Message::attribute, 6, Message::graph},
    {Message::attribute, 10, Message::tensor},
    {Message::attribute, 11, Message::graph},
    {Message::attribute, 22, Message::sparse_tensor},
    {Message::attribute, 23, Message::sparse_tensor},
    {Message::sparse_tensor, 1, Message::tensor},
    {Message::sparse_tensor, 2, Message::tensor},
};

constexpr std::uint32_t EXTERNAL_DATA = 13;  // TensorProto.external_data
constexpr std::uint32_t DATA_LOCATION = 14;  // TensorProto.data_location; 1: EXTERNAL
constexpr std::uint32_t METADATA = 14;       // ModelProto.metadata_props

bool is_external(const Field& field) {
  return field.number == EXTERNAL_DATA || (field.number == DATA_LOCATION && field.value == 1);
}

bool has_external_data(std::string_view bytes, Message message, int depth) {
  if (depth == DEEPEST) throw ProtobufError("its messages are nested too deeply");
  Reader reader(bytes);
  for (Field field; reader.next(field);) {
    if (message == Message::tensor && is_external(field)) return true;
    if (field.wire != BYTES) continue;
    for (const Way& way : WAYS) {
      if (way.from == message && way.field == field.number &&
          has_external_data(field.bytes, way.to, depth + 1)) {
        return true;
      }
    }
  }
  return false;
}

void read_property(std::string_view bytes, std::map<std::string, std::string>& properties) {
  std::string key, value;
  Reader reader(bytes);
  for (Field field; reader.next(field);) {
    if (field.wire != BYTES) continue;
    if (field.number == 1) key = field.bytes;
    if (field.number == 2) value = field.bytes;
  }
  properties[key] = value;
}

}  // namespace

OnnxFacts read_onnx(std::string_view bytes) {
  OnnxFacts facts;
  Reader reader(bytes);
  for (Field field; reader.next(field);) {
    if (field.number == METADATA && field.wire == BYTES)
      read_property(field.bytes, facts.properties);
  }
  facts.has_external_data = has_external_data(bytes, Message::model, 0);
  return facts;
}

}  // namespace segdeploy::detail
