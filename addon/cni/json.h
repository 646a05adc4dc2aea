// JSON as the plugin needs it: read, looked into, changed, and written again.
//
// What is not changed leaves as it came: numbers and strings keep their spelling, members their order. So a number that
// no double can hold reaches the delegate whole. Of members with one name the last counts, at the place of the first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace twill::cni {

// A text that is no JSON: why, and where. Thrown by Json::Parse() alone.
struct JsonError {
  std::string message;
};

class Json {
 public:
  using Member = std::pair<std::string, Json>;

  // null.
  Json() = default;
  static Json String(std::string_view text);
  static Json Number(uint64_t value);
  static Json Boolean(bool value);
  static Json Array() { return Json(Kind::kArray, ""); }
  static Json Object() { return Json(Kind::kObject, ""); }

  // One value and nothing behind it. Throws JsonError, also for what is nested deeper than kMaxDepth.
  static Json Parse(std::string_view text);
  static constexpr size_t kMaxDepth = 128;

  bool IsNull() const { return kind_ == Kind::kNull; }
  bool IsString() const { return kind_ == Kind::kString; }
  bool IsArray() const { return kind_ == Kind::kArray; }
  bool IsObject() const { return kind_ == Kind::kObject; }
  // The text of a string; empty for any other value.
  const std::string& text() const { return text_; }
  // A number as an exit code or error code; `otherwise` for what is none, or too large.
  int ToInt(int otherwise) const;

  // Of an array; empty for any other value.
  const std::vector<Json>& items() const { return items_; }
  void Append(Json item) { items_.push_back(std::move(item)); }

  // Of an object; empty for any other value.
  const std::vector<Member>& members() const { return members_; }
  // nullptr where there is no such member, or no object.
  const Json* Find(std::string_view key) const;
  // The same, and nullptr for null as well.
  const Json* FindValue(std::string_view key) const;
  // In the place of the member with this name, or behind the others.
  void Set(std::string_view key, Json value);

  // Without white space.
  std::string Write() const;

 private:
  friend class JsonReader;
  enum class Kind { kNull, kBoolean, kNumber, kString, kArray, kObject };

  Json(Kind kind, std::string spelling) : kind_(kind), spelling_(std::move(spelling)) {}
  void WriteTo(std::string* out) const;

  Kind kind_ = Kind::kNull;
  std::string spelling_ = "null";  // of what has no parts
  std::string text_;               // of a string, without escapes
  std::vector<Json> items_;
  std::vector<Member> members_;
};

// A JSON string with these characters, quotes included. Bytes that are no UTF-8 become U+FFFD.
std::string Quote(std::string_view text);

}  // namespace twill::cni
