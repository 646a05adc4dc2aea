#include "json.h"

#include <algorithm>
#include <charconv>

namespace twill::cni {

namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD
// What has an escape of one letter, and the letters.
constexpr std::string_view kEscaped = "\"\\\b\f\n\r\t";
constexpr std::string_view kLetters = "\"\\bfnrt";

void AppendUtf8(uint32_t code, std::string* out) {
  const auto put = [out](uint32_t byte) { out->push_back(static_cast<char>(byte)); };
  const auto tail = [&](int shift) { put(0x80 | ((code >> shift) & 0x3f)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    tail(6);
    tail(0);
  } else {
    put(0xf0 | code >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

// Length of the UTF-8 sequence at the start of a text that is not empty; 0 when there is none (RFC 3629 section 4).
size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0; };
  const auto is_tail = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const uint8_t first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return is_tail(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    if (first == 0xe0 && byte(1) < 0xa0) return 0;  // longer than need be
    if (first == 0xed && byte(1) > 0x9f) return 0;  // a surrogate
    return is_tail(1) && is_tail(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    if (first == 0xf0 && byte(1) < 0x90) return 0;
    if (first == 0xf4 && byte(1) > 0x8f) return 0;  // above U+10FFFF
    return is_tail(1) && is_tail(2) && is_tail(3) ? 4 : 0;
  }
  return 0;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

// One pass over the text, by recursive descent (RFC 8259).
class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  Json ReadAll() {
    Json value = ReadValue(0);
    SkipSpace();
    if (at_ < text_.size()) Fail("more behind the value");
    return value;
  }

 private:
  [[noreturn]] void Fail(const char* why) const {
    throw JsonError{std::string(why) + " at byte " + std::to_string(at_)};
  }
  bool Has(char c) const { return at_ < text_.size() && text_[at_] == c; }
  bool HasDigit() const { return at_ < text_.size() && IsDigit(text_[at_]); }
  bool Take(char c) {
    if (!Has(c)) return false;
    at_++;
    return true;
  }
  void SkipSpace() {
    while (Has(' ') || Has('\t') || Has('\n') || Has('\r')) at_++;
  }

  Json ReadValue(size_t depth) {
    if (depth > Json::kMaxDepth) Fail("nested too deeply");
    SkipSpace();
    if (at_ >= text_.size()) Fail("it ends too early");
    switch (text_[at_]) {
      case '{':
        return ReadObject(depth);
      case '[':
        return ReadArray(depth);
      case '"':
        return ReadString();
      case 't':
        return ReadWord("true", Json::Kind::kBoolean);
      case 'f':
        return ReadWord("false", Json::Kind::kBoolean);
      case 'n':
        return ReadWord("null", Json::Kind::kNull);
      default:
        return ReadNumber();
    }
  }

  Json ReadObject(size_t depth) {
    Json object = Json::Object();
    at_++;
    SkipSpace();
    if (Take('}')) return object;
    do {
      SkipSpace();
      if (!Has('"')) Fail("expected a name");
      const Json name = ReadString();
      SkipSpace();
      if (!Take(':')) Fail("expected \":\"");
      object.Set(name.text(), ReadValue(depth + 1));
      SkipSpace();
    } while (Take(','));
    if (!Take('}')) Fail("expected \",\" or \"}\"");
    return object;
  }

  Json ReadArray(size_t depth) {
    Json array = Json::Array();
    at_++;
    SkipSpace();
    if (Take(']')) return array;
    do {
      array.Append(ReadValue(depth + 1));
      SkipSpace();
    } while (Take(','));
    if (!Take(']')) Fail("expected \",\" or \"]\"");
    return array;
  }

  Json ReadWord(std::string_view word, Json::Kind kind) {
    if (text_.substr(at_, word.size()) != word) Fail("unknown word");
    at_ += word.size();
    return Json(kind, std::string(word));
  }

  Json ReadNumber() {
    const size_t start = at_;
    const auto digits = [this] {
      if (!HasDigit()) Fail("expected a value");
      while (HasDigit()) at_++;
    };
    Take('-');
    if (!Take('0')) digits();
    if (Take('.')) digits();
    if (Take('e') || Take('E')) {
      if (!Take('+')) Take('-');
      digits();
    }
    return Json(Json::Kind::kNumber, std::string(text_.substr(start, at_ - start)));
  }

  Json ReadString() {
    const size_t start = at_++;
    std::string text;
    while (!Take('"')) {
      if (at_ >= text_.size()) Fail("a string does not end");
      const char c = text_[at_];
      if (static_cast<uint8_t>(c) < 0x20) Fail("a control character in a string");
      if (c == '\\') {
        at_++;
        ReadEscape(&text);
      } else {
        text.push_back(c);
        at_++;
      }
    }
    Json value(Json::Kind::kString, std::string(text_.substr(start, at_ - start)));
    value.text_ = std::move(text);
    return value;
  }

  void ReadEscape(std::string* text) {
    if (at_ >= text_.size()) Fail("a string does not end");
    const char letter = text_[at_++];
    if (letter == 'u') return ReadUnicodeEscape(text);
    const size_t which = kLetters.find(letter);
    if (which != std::string_view::npos) text->push_back(kEscaped[which]);
    else if (letter == '/') text->push_back(letter);
    else Fail("unknown escape");
  }

  void ReadUnicodeEscape(std::string* text) {
    const uint32_t first = ReadHex();
    const bool is_high = first >= 0xd800 && first <= 0xdbff;
    if (!is_high && !(first >= 0xdc00 && first <= 0xdfff)) return AppendUtf8(first, text);
    // Two of them make one character; one alone is none, and what follows stands for itself.
    const size_t back = at_;
    if (is_high && Take('\\') && Take('u')) {
      const uint32_t second = ReadHex();
      if (second >= 0xdc00 && second <= 0xdfff) {
        return AppendUtf8(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00), text);
      }
    }
    at_ = back;
    text->append(kReplacement);
  }

  uint32_t ReadHex() {
    uint32_t value = 0;
    const std::string_view four = text_.substr(at_, 4);
    const auto [end, error] = std::from_chars(four.data(), four.data() + four.size(), value, 16);
    if (four.size() < 4 || error != std::errc() || end != four.data() + 4) Fail("expected four hexadecimal digits");
    at_ += 4;
    return value;
  }

  std::string_view text_;
  size_t at_ = 0;
};

Json Json::Parse(std::string_view text) { return JsonReader(text).ReadAll(); }

Json Json::String(std::string_view text) {
  Json value(Kind::kString, Quote(text));
  value.text_ = text;
  return value;
}

Json Json::Number(uint64_t value) { return Json(Kind::kNumber, std::to_string(value)); }

Json Json::Boolean(bool value) { return Json(Kind::kBoolean, value ? "true" : "false"); }

int Json::ToInt(int otherwise) const {
  if (kind_ != Kind::kNumber) return otherwise;
  int value = 0;
  const char* end = spelling_.data() + spelling_.size();
  const auto [stop, error] = std::from_chars(spelling_.data(), end, value);
  return error == std::errc() && stop == end ? value : otherwise;
}

const Json* Json::Find(std::string_view key) const {
  const auto is_it = [key](const Member& member) { return member.first == key; };
  const auto found = std::find_if(members_.begin(), members_.end(), is_it);
  return found == members_.end() ? nullptr : &found->second;
}

const Json* Json::FindValue(std::string_view key) const {
  const Json* value = Find(key);
  return value == nullptr || value->IsNull() ? nullptr : value;
}

void Json::Set(std::string_view key, Json value) {
  for (Member& member : members_) {
    if (member.first != key) continue;
    member.second = std::move(value);
    return;
  }
  members_.emplace_back(key, std::move(value));
}

std::string Json::Write() const {
  std::string out;
  WriteTo(&out);
  return out;
}

void Json::WriteTo(std::string* out) const {
  const char* separator = "";
  switch (kind_) {
    case Kind::kArray:
      out->push_back('[');
      for (const Json& item : items_) {
        out->append(separator);
        item.WriteTo(out);
        separator = ",";
      }
      out->push_back(']');
      break;
    case Kind::kObject:
      out->push_back('{');
      for (const auto& [name, value] : members_) {
        out->append(separator).append(Quote(name)).push_back(':');
        value.WriteTo(out);
        separator = ",";
      }
      out->push_back('}');
      break;
    default:
      out->append(spelling_);
  }
}

std::string Quote(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  while (!text.empty()) {
    const auto byte = static_cast<uint8_t>(text[0]);
    const size_t length = Utf8Length(text);
    if (length == 0) {
      out.append(kReplacement);
    } else if (const size_t which = kEscaped.find(text[0]); which != std::string_view::npos) {
      out.append({'\\', kLetters[which]});
    } else if (byte < 0x20) {
      out.append({'\\', 'u', '0', '0', kHex[byte >> 4], kHex[byte & 15]});
    } else {
      out.append(text.substr(0, length));
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  out.push_back('"');
  return out;
}

}  // namespace twill::cni
