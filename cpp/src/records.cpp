#include "records.hpp"

#include <algorithm>

#include "segdeploy/segdeploy.hpp"
#include "words.hpp"

namespace segdeploy::detail {
namespace {

constexpr std::size_t MAX_KEYS = 64;  // of an object, as in segdeploy/artifacts.py

constexpr std::size_t SHOWN = 60;  // code points of a wrong value
constexpr int DEEPEST_SHOWN = 20;  // levels of a wrong value; by then SHOWN are long passed

void check_value(const Type& type, const Json& value, std::string_view where);

void append_text(const Json& value, int depth, std::string& out) {
  if (depth == DEEPEST_SHOWN) {
    out += "...";
  } else if (value.is_null()) {
    out += "None";
  } else if (value.is_boolean()) {
    out += value.get<bool>() ? "True" : "False";
  } else if (value.is_string()) {
    out += in_quotes(value.get_ref<const std::string&>());
  } else if (value.is_number()) {
    out += value.dump();
  } else {
    const bool is_object = value.is_object();
    const char* separator = is_object ? "{" : "[";
    for (auto item = value.begin(); item != value.end(); ++item, separator = ", ") {
      if (out.size() > 4 * SHOWN) break;  // bytes: nobody sees the rest
      out += separator;
      if (is_object) out += in_quotes(item.key()) + ": ";
      append_text(*item, depth + 1, out);
    }
    if (value.empty()) out += separator;
    out += is_object ? '}' : ']';
  }
}

bool is_of(Type::Kind kind, const Json& value) {
  switch (kind) {
    case Type::text:
    case Type::word: return value.is_string();
    case Type::integer: return value.is_number_integer();
    case Type::number: return value.is_number();
    case Type::boolean: return value.is_boolean();
    case Type::list:
    case Type::tuple: return value.is_array();
    case Type::record: return value.is_object();
  }
  return false;
}

const char* python_name(Type::Kind kind) {
  switch (kind) {
    case Type::text:
    case Type::word: return "str";
    case Type::integer: return "int";
    case Type::number: return "float";
    case Type::boolean: return "bool";
    case Type::list:
    case Type::tuple: return "list";
    case Type::record: return "dict";
  }
  return "";
}

void check_items(const Type& type, const Json& value, std::string_view where) {
  const bool is_list = type.kind == Type::list;
  if (!is_list && value.size() != type.items.size()) {
    throw RecordError("ValueError", std::string(where) + " has " + std::to_string(value.size()) +
                                        " values, not " + std::to_string(type.items.size()));
  }
  for (std::size_t k = 0; k < value.size(); ++k) {
    check_value(type.items[is_list ? 0 : k], value[k], where);
  }
}

void check_word(const Words& words, const std::string& text) {
  const auto& members = words.members;
  if (std::find(members.begin(), members.end(), text) != members.end()) return;
  throw RecordError("ValueError", in_quotes(text) + " is not a valid " + std::string(words.name));
}

void check_value(const Type& type, const Json& value, std::string_view where) {
  if (type.is_nullable && value.is_null()) return;
  if (!is_of(type.kind, value)) {
    throw RecordError("TypeError", std::string(where) + " is " +
                                       first_code_points(python_text(value), SHOWN) + ", not " +
                                       python_name(type.kind));
  }
  if (type.kind == Type::record) check_record(*type.fields, value, where);
  if (type.kind == Type::word) check_word(*type.words, value.get_ref<const std::string&>());
  if (type.kind == Type::list || type.kind == Type::tuple) check_items(type, value, where);
}

std::string first_missing(const Record& record, const Json& values) {
  std::string first;
  for (const Field& field : record.fields) {
    const bool comes_before = first.empty() || field.name < first;
    if (comes_before && !field.is_added && !values.contains(field.name)) first = field.name;
  }
  return first;
}

// Looks a text over before it is built: ordered_json compares a key with all before it, so that
// one object of 1 MB took 12 s.
class KeyCounter final : public nlohmann::json_sax<Json> {
 public:
  std::string reason;    // that it is no JSON
  std::size_t keys = 0;  // of the object that has too many

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }

  bool start_object(std::size_t) override {
    open_.push_back(0);
    return true;
  }
  bool key(string_t&) override {
    ++open_.back();
    return true;
  }
  bool end_object() override {
    if (open_.back() > MAX_KEYS) keys = open_.back();
    open_.pop_back();
    return keys == 0;
  }
  bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
    reason = first_line(error.what());
    return false;
  }

 private:
  std::vector<std::size_t> open_;  // keys of each object that has begun
};

}  // namespace

Json read_json(std::string_view text, const std::string& where, const std::string& damage) {
  KeyCounter counter;
  if (Json::sax_parse(text, &counter)) return Json::parse(text);
  if (counter.keys == 0) throw Error(where + ": " + damage + " (" + counter.reason + ")");
  throw Error(where + ": has an object of " + std::to_string(counter.keys) +
              " keys; wanted up to " + std::to_string(MAX_KEYS));
}

const Field* find_field(const Record& record, std::string_view name) {
  for (const Field& field : record.fields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

std::optional<std::string> first_unknown(const Record& record, const Json& values) {
  std::optional<std::string> first;
  for (auto item = values.begin(); item != values.end(); ++item) {
    const bool comes_before = !first || item.key() < *first;
    if (comes_before && find_field(record, item.key()) == nullptr) first = item.key();
  }
  return first;
}

std::string python_text(const Json& value) {
  std::string text;
  append_text(value, 0, text);
  return text;
}

void check_record(const Record& record, const Json& values, std::string_view where) {
  if (const auto name = first_unknown(record, values)) {
    throw RecordError("ValueError", std::string(where) + " has the unknown key " +
                                        first_code_points(in_quotes(*name), SHOWN));
  }
  if (const std::string name = first_missing(record, values); !name.empty()) {
    throw RecordError("ValueError", std::string(where) + " lacks the key " + in_quotes(name));
  }
  for (auto item = values.begin(); item != values.end(); ++item) {
    check_value(find_field(record, item.key())->type, *item, item.key());
  }
  if (record.check != nullptr) record.check(values);
}

}  // namespace segdeploy::detail
