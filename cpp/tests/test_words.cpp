#include "check.hpp"
#include "words.hpp"

using namespace segdeploy::detail;

int main() {
  CHECK_EQUAL(shape_text({1, 512, -1, 3}), "1x512x?x3");
  CHECK_EQUAL(in_quotes("plain"), "'plain'");
  CHECK_EQUAL(in_quotes("it's"), "\"it's\"");
  CHECK_EQUAL(in_quotes("it's \"so\""), "'it\\'s \"so\"'");
  CHECK_EQUAL(in_quotes("a\\b\n\t\x1b[2J"), "'a\\\\b\\n\\t\\x1b[2J'");
  CHECK_EQUAL(in_quotes("Stra\u00dfe \u202e"), "'Stra\u00dfe \\u202e'");
  CHECK_EQUAL(in_quotes("\xff\xfe"), "'\\xff\\xfe'");  // half a code point
  CHECK(is_printable("Stra\u00dfe") && !is_printable("a\u200b") && !is_printable("\x7f"));
  CHECK_EQUAL(first_code_points("\u00df\u00df\u00df", 2), "\u00df\u00df");
  CHECK_EQUAL(first_code_points("ab", 5), "ab");
  CHECK_EQUAL(first_line("one\ntwo"), "one");
}
