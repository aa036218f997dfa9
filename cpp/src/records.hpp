// JSON of a file, held against what it should be: every value of exactly the declared type.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace segdeploy::detail {

using Json = nlohmann::ordered_json;  // in the file's order, in which Python looks at the values

struct Words {  // a closed set
  std::string_view name;
  std::vector<std::string_view> members;
};

struct Record;

struct Type {
  enum Kind { text, integer, number, boolean, word, list, tuple, record };
  Kind kind;
  std::vector<Type> items = {};  // of a list: what each is; of a tuple: all
  const Record* fields = nullptr;
  const Words* words = nullptr;
  bool is_nullable = false;
};

struct Field {
  std::string_view name;
  Type type;
  bool is_added = false;  // later than the first schema: older files lack it
};

struct Record {
  std::vector<Field> fields;
  void (*check)(const Json&) = nullptr;  // what types do not say; throws a RecordError
};

// `what()` begins with the kind of the exception that Python would raise.
class RecordError : public std::runtime_error {
 public:
  RecordError(const char* kind, const std::string& text)
      : std::runtime_error(std::string(kind) + ": " + text) {}
};

const Field* find_field(const Record& record, std::string_view name);

// The first by name that the record does not have, as Python sorts them.
std::optional<std::string> first_unknown(const Record& record, const Json& values);

// Throws a RecordError; `where` begins a sentence that is not of one key.
void check_record(const Record& record, const Json& values, std::string_view where);

// Throws an Error: it is no JSON, which is `damage`, or an object of it has more keys than any of
// ours.
Json read_json(std::string_view text, const std::string& where, const std::string& damage);

std::string python_text(const Json& value);  // as Python writes it in a sentence

}  // namespace segdeploy::detail
