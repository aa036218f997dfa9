#include "words.hpp"

#include <cstdio>

namespace segdeploy::detail {
namespace {

struct CodePoint {
  std::uint32_t value;
  std::size_t bytes;
  bool is_stray = false;  // a byte that belongs to none
};

bool continues(unsigned char byte) { return (byte & 0xC0) == 0x80; }

CodePoint code_point_at(std::string_view text, std::size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  if (lead < 0x80) return {lead, 1};
  const std::size_t bytes = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (bytes == 1 || at + bytes > text.size()) return {lead, 1, true};
  std::uint32_t value = lead & (0x7Fu >> bytes);
  for (std::size_t k = 1; k < bytes; ++k) {
    const auto byte = static_cast<unsigned char>(text[at + k]);
    if (!continues(byte)) return {lead, 1, true};
    value = value << 6 | (byte & 0x3F);
  }
  return {value, bytes};
}

// Controls, and the invisible characters that change how a line reads.
bool is_seen(const CodePoint& point) {
  const std::uint32_t value = point.value;
  return !point.is_stray && value >= 0x20 && (value < 0x7F || value > 0xA0) && value != 0xAD &&
         value != 0xFEFF && !(value >= 0x200B && value <= 0x200F) &&
         !(value >= 0x2028 && value <= 0x202F) && !(value >= 0x205F && value <= 0x206F);
}

std::string escape(std::uint32_t value) {
  switch (value) {
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default: break;
  }
  char text[12];
  static_cast<void>(std::snprintf(text, sizeof text, value < 0x100 ? "\\x%02x" : "\\u%04x", value));
  return text;
}

}  // namespace

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t size : shape) {
    text += (text.empty() ? "" : "x") + (size == -1 ? "?" : std::to_string(size));
  }
  return text;
}

std::string in_quotes(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    if (point.value == '\\' || point.value == static_cast<unsigned char>(quote)) out += '\\';
    out += is_seen(point) ? std::string(text.substr(at, point.bytes)) : escape(point.value);
    at += point.bytes;
  }
  return out + quote;
}

bool is_printable(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    if (!is_seen(point)) return false;
    at += point.bytes;
  }
  return true;
}

std::string first_code_points(const std::string& text, std::size_t count) {
  std::size_t at = 0;
  while (at < text.size()) {
    if (!continues(static_cast<unsigned char>(text[at])) && count-- == 0) break;
    ++at;
  }
  return text.substr(0, at);
}

std::string first_line(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

}  // namespace segdeploy::detail
