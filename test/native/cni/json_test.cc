// The plugin's JSON: what goes through it unchanged, what it refuses, and that no bytes do it harm.

#include "../../../addon/cni/json.h"

#include "../../support/check.h"

using namespace twill::cni;

namespace {

bool IsJson(std::string_view text) {
  try {
    Json::Parse(text);
    return true;
  } catch (const JsonError& error) {
    CHECK(error.message.find(" at byte ") != std::string::npos);
    return false;
  }
}

std::string TextOf(std::string_view text) { return Json::Parse(text).text(); }

const std::vector<std::string> kSamples = {
    R"({"cniVersion":"1.0.0","name":"cbr0","delegate":{"hairpinMode":true},"ipam":{"routes":[{"dst":"0.0.0.0/0"}]}})",
    R"(["\ud83d\ude00","\\\"\/\b\f\n\r\t\u00e9",-0.5e+10,12345678901234567890,null,false,[],{}])",
    R"({"a":{"b":{"c":[[[[1]]]]}},"":0})",
};

std::string Mutated(std::string text, test::Random* random) {
  constexpr std::string_view kBytes = "{}[]\",:\\u0dD8e-+.tfn \t\x01\x80\xc3\xe2\xf0\xff";
  for (uint32_t changes = 1 + random->Below(4); changes > 0 && !text.empty(); changes--) {
    const size_t at = random->Below(static_cast<uint32_t>(text.size()));
    const char byte = kBytes[random->Below(kBytes.size())];
    switch (random->Below(4)) {
      case 0:
        text[at] = byte;
        break;
      case 1:
        text.insert(at, 1, byte);
        break;
      case 2:
        text.erase(at, 1 + random->Below(8));
        break;
      default:
        text.insert(at, text.substr(random->Below(static_cast<uint32_t>(text.size())), random->Below(20)));
    }
  }
  return text;
}

}  // namespace

int main() {
  test::Case("what is not changed is written as it came, without white space", [] {
    for (const std::string& sample : kSamples) CHECK(Json::Parse(sample).Write() == sample);
    CHECK(Json::Parse(" { \"a\" :\t[ 1 ,\r\n2 ] } ").Write() == R"({"a":[1,2]})");
  });

  test::Case("of members with one name the last counts, in the place of the first", [] {
    CHECK(Json::Parse(R"({"a":1,"b":2,"a":3})").Write() == R"({"a":3,"b":2})");
    Json object = Json::Parse(R"({"a":null,"b":2})");
    CHECK(object.Find("a") != nullptr && object.FindValue("a") == nullptr && object.Find("c") == nullptr);
    object.Set("a", Json::String("x"));
    object.Set("c", Json::Number(7));
    CHECK(object.Write() == R"({"a":"x","b":2,"c":7})");
  });

  test::Case("escapes become characters, half a surrogate pair the replacement", [] {
    CHECK(TextOf(R"("\u0041\u00e9\u20ac\ud83d\ude00\n\/")") == "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\n/");
    CHECK(TextOf(R"("\ud83dx")") == "\xef\xbf\xbdx");
    CHECK(TextOf(R"("\ud83d\u0041")") == "\xef\xbf\xbd" "A");
    CHECK(TextOf(R"("\ude00\ud83d")") == "\xef\xbf\xbd\xef\xbf\xbd");
  });

  test::Case("what is no JSON is refused", [] {
    for (const char* text :
         {"", " ", "{", "[", "\"", "nul", "truex", "1 2", "[1,]", "{\"a\":1,}", "{a:1}", "{\"a\" 1}", "01", "-", "1.",
          "1e", "+1", ".5", "\"\x01\"", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\", "[1}", "\xef\xbb\xbf{}"}) {
      CHECK(!IsJson(text));
    }
  });

  test::Case("so is what is nested more deeply than kMaxDepth", [] {
    const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
    CHECK(IsJson(nested(Json::kMaxDepth + 1)));
    CHECK(!IsJson(nested(Json::kMaxDepth + 2)));
    CHECK(!IsJson(std::string(1 << 20, '[')));
  });

  test::Case("a number is a code only when it is whole and fits", [] {
    CHECK_EQUAL(Json::Parse("11").ToInt(0), 11);
    for (const char* text : {"1.5", "1e3", "99999999999", "\"11\"", "null"}) {
      CHECK_EQUAL(Json::Parse(text).ToInt(-7), -7);
    }
  });

  test::Case("Quote() makes JSON of any bytes, and keeps what is UTF-8", [] {
    CHECK(Quote("a\"\\\n\x01\x7f\xc3\xa9") == "\"a\\\"\\\\\\n\\u0001\x7f\xc3\xa9\"");
    for (const char* bytes : {"\xff", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80"}) {
      CHECK(TextOf(Quote(bytes)).find("\xef\xbf\xbd") == 0);
    }
    test::Random random(7);
    for (int i = 0; i < 20000; i++) {
      std::string bytes(random.Below(12), '\0');
      random.Fill(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size());
      const std::string text = TextOf(Quote(bytes));
      CHECK(TextOf(Quote(text)) == text);
    }
  });

  test::Case("100,000 damaged texts: refused, or what is written is read as the same", [] {
    test::Random random(42);
    int good = 0;
    for (int i = 0; i < 100000; i++) {
      const std::string text = Mutated(kSamples[random.Below(kSamples.size())], &random);
      if (!IsJson(text)) continue;
      good++;
      const std::string written = Json::Parse(text).Write();
      CHECK(Json::Parse(written).Write() == written);
    }
    CHECK(good > 1000);
    std::printf("# %d of them are JSON\n", good);
  });

  return test::Finish();
}
